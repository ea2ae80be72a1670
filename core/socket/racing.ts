/**
 * Races the addresses of a name as RFC 8305 ("Happy Eyeballs") says: families in turn with IPv6 first, the next attempt
 * after a quarter of a second or as soon as one fails. The first connection is kept.
 *
 * The runtimes' resolvers return both families in one answer, so there is no wait between two answers.
 */

import type { Loan } from "../loan.ts";
import type { EventError } from "../errors.ts";
import { atDeadline } from "../loop/deadline.ts";
import type { ConnectOptions, InetAddress, TransportBinding, TransportSink } from "../runtime.ts";
import type { Connection } from "./connection.ts";

/** The time before the next address is tried too, unless set. RFC 8305 recommends it. */
const DEFAULT_ATTEMPT_DELAY_MS = 250;
/** The least that RFC 8305 allows. */
export const MIN_ATTEMPT_DELAY_MS = 10;

/** The families in turn, IPv6 first; within each the order of the system, which has sorted them (RFC 6724). */
export function interleaved(addresses: readonly InetAddress[]): InetAddress[] {
  const first = addresses.filter(({ family }) => family === "IPv6");
  const second = addresses.filter(({ family }) => family !== "IPv6");
  const all: InetAddress[] = [];
  for (let i = 0; i < first.length || i < second.length; i++) {
    all.push(...first.slice(i, i + 1), ...second.slice(i, i + 1));
  }
  return all;
}

/** One attempt. The winner passes on the adapter's calls to the connection. */
class Attempt implements TransportSink {
  private readonly connection: Connection;
  /** Null once it has won. */
  race: AddressRace | null;
  binding: TransportBinding | null = null;

  constructor(connection: Connection, race: AddressRace) {
    this.connection = connection;
    this.race = race;
  }

  onConnect(): void {
    this.race?.won(this);
  }

  onSecure(): void {
    this.connection.onSecure();
  }

  onData(chunk: Uint8Array, loan?: Loan): void {
    this.connection.onData(chunk, loan);
  }

  onEnd(): void {
    this.connection.onEnd();
  }

  onWritable(): void {
    this.connection.onWritable();
  }

  onClose(error?: EventError): void {
    if (this.race === null) this.connection.onClose(error);
    else this.race.lost(this, error);
  }
}

/** The attempts to reach one of several addresses. */
export class AddressRace {
  /** The errors of the failed attempts, in their order. */
  readonly errors: EventError[] = [];
  private readonly connection: Connection;
  private readonly options: ConnectOptions;
  private readonly delayMs: number;
  private readonly left: InetAddress[];
  private readonly running: Set<Attempt> = new Set();
  private readonly onFailed: () => void;
  private cancelNext: (() => void) | null = null;

  /**
   * Begins.
   *
   * @param connection The future connection
   * @param addresses The addresses, at least one, in the order of the attempts
   * @param options The other options of the attempts
   * @param onFailed Called when no attempt is left
   */
  constructor(
    connection: Connection,
    addresses: readonly InetAddress[],
    options: ConnectOptions,
    onFailed: () => void,
  ) {
    this.connection = connection;
    this.left = addresses.slice();
    this.options = options;
    this.delayMs = options.attemptDelayMs ?? DEFAULT_ATTEMPT_DELAY_MS;
    this.onFailed = onFailed;
    this.next();
  }

  private next(): void {
    this.cancelNext?.();
    this.cancelNext = null;
    const address = this.left.shift();
    if (address === undefined) return;
    const { runtime } = this.connection;
    const attempt = new Attempt(this.connection, this);
    this.running.add(attempt);
    const { hostname, family } = address;
    attempt.binding = runtime.connect({ ...this.options, hostname, family }, attempt);
    if (!this.connection.referenced) attempt.binding.unref();
    if (this.left.length === 0) return;
    this.cancelNext = atDeadline(runtime, runtime.now() + this.delayMs, () => {
      this.cancelNext = null;
      this.next();
    }, true);
  }

  /** For an attempt: it has connected. The others are given up. */
  won(attempt: Attempt): void {
    if (!this.running.delete(attempt)) return;
    attempt.race = null;
    this.stop();
    this.connection.binding = attempt.binding;
    this.connection.onConnect();
  }

  /** For an attempt: it has failed. */
  lost(attempt: Attempt, error: EventError | undefined): void {
    if (!this.running.delete(attempt)) return;
    if (error !== undefined) this.errors.push(error);
    if (this.left.length > 0) this.next();
    else if (this.running.size === 0) this.onFailed();
  }

  /** Sets whether the attempts keep the process alive. */
  setRef(on: boolean): void {
    for (const { binding } of this.running) {
      if (on) binding?.ref();
      else binding?.unref();
    }
  }

  /** Gives up the attempts. */
  stop(): void {
    this.cancelNext?.();
    this.cancelNext = null;
    this.left.length = 0;
    const given = [...this.running];
    this.running.clear();
    for (const { binding } of given) binding?.reset();
  }
}
