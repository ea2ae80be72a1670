/**
 * A simulated listening socket, and the handshake that leads to it.
 *
 * @module
 */

import type { AcceptSink, Address, ListenerBinding } from "../../core/runtime.ts";
import { refusal, show } from "../shared/errors.ts";
import { type Named, NOTE } from "./journal.ts";
import type { Bound } from "./addresses.ts";
import { type Ends, SimConnection } from "./connection.ts";
import { mix } from "./random.ts";
import type { TlsListenOptions } from "../../core/tls.ts";
import type { SimHostRuntime } from "./host.ts";

/** The default number of connections that may wait to be accepted, as on real runtimes. */
export const DEFAULT_BACKLOG = 511;

/** The delay after which accepting is tried again after a failure, unless it is paused. */
const RETRY_MS = 1;

/** An attempt to connect, on its way. */
export interface Attempt extends Ends {
  /** The end that connects. */
  readonly client: SimConnection;
  /** The addresses, as a listener on something sees them. */
  seenBy(bound: Bound): Ends;
  /** The seed of the connection's random numbers. */
  readonly who: number;
  /** The call, for the message of an error. */
  readonly tried: string;
  /** Refuses the client's attempt. */
  refuse(): void;
}

/** A descriptor of a host, and its listeners: one after the other, as processes inherit it. */
export interface Descriptor {
  /** Its number. */
  readonly fd: number;
  /** Its listeners. */
  readonly holders: Set<SimListener>;
}

/** The options of a listener. */
export interface ListenerOptions {
  /** Its descriptor. */
  readonly descriptor: Descriptor;
  /** TLS on each connection. */
  readonly tls: TlsListenOptions | undefined;
  /** The host it belongs to. */
  readonly host: SimHostRuntime;
  /** The sink that gets the connections. */
  readonly sink: AcceptSink;
  /** The address where it listens. */
  readonly address: Address;
  /** The bound address; undefined for a path. */
  readonly bound: Bound | undefined;
  /** Whether the port is shared. */
  readonly reusePort: boolean;
  /** The number of connections that may wait. */
  readonly backlog: number;
  /** Releases the port or the path. After a crash, the file of a path stays. */
  release(listener: SimListener, crashed: boolean): void;
}

/**
 * A listening socket. While it is paused, the backlog and one more connection are established and wait.
 * Further attempts are not answered until there is space.
 */
export class SimListener implements ListenerBinding, Named {
  readonly id: number;
  readonly #options: ListenerOptions;
  #paused = false;
  #closed = false;
  #acceptScheduled = false;
  /** Attempts that were answered and are not yet established. */
  #answered = 0;
  #established: SimConnection[] = [];
  #attempts: Attempt[] = [];

  /**
   * Makes a listener and counts it among the open handles.
   *
   * @param options The options
   */
  constructor(options: ListenerOptions) {
    this.#options = options;
    this.id = options.host.network.nextId();
    options.host.handles++;
    options.host.listeners.add(this);
    options.descriptor.holders.add(this);
  }

  get label(): string {
    return `listener ${show(this.address as { path?: string })}`;
  }

  get address(): Address {
    return this.#options.address;
  }

  get fd(): number {
    return this.#options.descriptor.fd;
  }

  /** Its descriptor, and the other listeners on it. */
  get descriptor(): Descriptor {
    return this.#options.descriptor;
  }

  /** The bound address. It must not be read if it listens on a path. */
  /** The bound address. It must not be read if it listens on a path. */
  get bound(): Bound {
    return this.#options.bound ?? NOTHING_BOUND;
  }

  /** Whether the port is shared. */
  get reusePort(): boolean {
    return this.#options.reusePort;
  }

  pauseAccept(): void {
    if (!this.#options.host.capabilities.pauseAccept) return;
    this.#paused = true;
  }

  resumeAccept(): void {
    this.#paused = false;
    this.#scheduleAccept();
  }

  close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      const { host, release } = this.#options;
      host.handles--;
      host.listeners.delete(this);
      release(this, false);
      const heir = this.#heir;
      if (heir !== undefined) {
        // The queue belongs to the socket, which other listeners share.
        heir.#established.push(...this.#established);
        heir.#attempts.push(...this.#attempts);
        heir.#scheduleAccept();
      } else {
        for (const waiting of this.#established) waiting.reset();
        for (const attempt of this.#attempts) attempt.refuse();
      }
      this.#established = [];
      this.#attempts = [];
    }
    return Promise.resolve();
  }

  /** The listener on the same descriptor after this one has closed. */
  get #heir(): SimListener | undefined {
    const [heir] = this.#options.descriptor.holders;
    return heir;
  }

  ref(): void {}

  unref(): void {}

  /**
   * Takes an attempt to connect that has arrived.
   *
   * @param attempt The attempt
   */
  admit(attempt: Attempt): void {
    if (this.#isFull()) {
      // A client that has left uses no place in the queue.
      this.#established = this.#established.filter(({ lost }) => !lost);
      if (this.#isFull()) return void this.#attempts.push(attempt);
    }
    this.#answer(attempt);
  }

  #isFull(): boolean {
    return this.#paused && this.#established.length + this.#answered > this.#options.backlog;
  }

  /** Its host has crashed and does not answer any more. */
  crash(): void {
    this.#closed = true;
    this.#options.release(this, true);
    for (const { client, tried } of this.#attempts) client.unanswered(tried);
    this.#established = [];
    this.#attempts = [];
  }

  /**
   * The answer arrives one latency later, and the client is then connected. Its acknowledgement
   * arrives another latency later.
   */
  #answer(attempt: Attempt): void {
    const { host } = this.#options;
    const { network } = host;
    const { client, who } = attempt;
    const { flow } = client;
    const back = network.linkTo(host, client.host);
    this.#answered++;
    if (back.cut) client.unanswered(attempt.tried);
    const onAnswer = (): void => {
      if (client.gone || host.down) {
        this.#answered--;
        if (host.down) client.unanswered(attempt.tried);
        return;
      }
      const server = new SimConnection(host, undefined);
      if (this.#options.tls !== undefined) server.expectTls("server", this.#options.tls);
      SimConnection.join(client, server, attempt, attempt.seenBy(this.bound), who);
      const onEstablished = (): void => {
        this.#answered--;
        this.#establish(server);
      };
      const there = network.linkTo(client.host, host);
      const showAck = flow === undefined ? undefined : () => flow.ack(host.now(), 0);
      const acknowledged = there.carry(onEstablished, 0, mix(who, 1), -1, true, undefined, showAck);
      if (acknowledged !== undefined) server.notBefore(acknowledged.time);
      client.announce();
    };
    const show = flow === undefined ? undefined : () => flow.synAck(host.now());
    back.carry(onAnswer, 0, mix(who, 2), -2, true, undefined, show);
  }

  #establish(server: SimConnection): void {
    const { host } = this.#options;
    if (server.gone) return;
    if (this.#closed) {
      const heir = this.#heir;
      return heir === undefined ? server.reset() : heir.#establish(server);
    }
    if (this.#paused || this.#established.length > 0 || host.paused) {
      this.#established.push(server);
      return this.#scheduleAccept();
    }
    this.#accept(server);
  }

  #scheduleAccept(): void {
    if (this.#acceptScheduled || this.#paused || this.#closed) return;
    if (this.#established.length === 0 && this.#attempts.length === 0) return;
    this.#acceptScheduled = true;
    const { host } = this.#options;
    host.soon(() => {
      this.#acceptScheduled = false;
      if (this.#paused || this.#closed) return;
      const server = this.#established.shift();
      for (const attempt of this.#attempts.splice(0)) this.#answer(attempt);
      this.#scheduleAccept();
      if (server !== undefined) this.#accept(server);
    });
  }

  #accept(server: SimConnection): void {
    const { host, sink } = this.#options;
    if (server.lost) return;
    const code = host.handles >= host.handleLimit ? "EMFILE" : host.acceptErrors.shift();
    if (code === "ECONNABORTED") {
      host.network.noteEvent("acceptError", this, code);
      // The system takes such a connection out of the queue. Runtimes try again by themselves, and report nothing.
      return server.reset();
    }
    if (code !== undefined) {
      host.network.noteEvent("acceptError", this, code);
      this.#established.unshift(server);
      // A real poll would report it again, so it is tried again unless the owner pauses.
      host.network.scheduler.at(host.now() + RETRY_MS, () => this.#scheduleAccept(), host.program);
      return sink.onError(refusal(`accept on ${show(this.address as { path?: string })}`, code, "accept"));
    }
    host.network.note(NOTE.accept, server, 0);
    server.count();
    let attached = false;
    try {
      server.attach(sink.onAccept(server));
      attached = true;
    } finally {
      if (!attached) server.reset();
    }
  }
}

const NOTHING_BOUND: Bound = { hostname: "", family: "IPv4", port: 0, ipv6Only: false };
