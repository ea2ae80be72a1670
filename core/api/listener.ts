/** Connection listeners: a callback for each connection that arrives. */

import { outOfRange, wrongType } from "../checks.ts";
import { EAGAIN, EV_PERSIST, EV_READ } from "../flags.ts";
import {
  LEV_OPT_BIND_IPV4_AND_IPV6,
  LEV_OPT_BIND_IPV6ONLY,
  LEV_OPT_CLOSE_ON_FREE,
  LEV_OPT_DEFERRED_ACCEPT,
  LEV_OPT_DISABLED,
  LEV_OPT_REUSEABLE,
  LEV_OPT_REUSEABLE_PORT,
} from "../flags.ts";
import { EventError, toEventError } from "../errors.ts";
import { type EventBase, loopOf } from "./event_base.ts";
import { LoopEvent } from "../loop/loop_event.ts";
import { Deferred } from "../loop/deferred.ts";
import { readOptions } from "../names.ts";
import { type Address, DEFAULT_BACKLOG, LISTEN_OPTIONS, type ListenOptions } from "../runtime.ts";
import { checkTarget, familyOf, formatAddress } from "../socket/address.ts";
import type { Acceptor, ExcessSink } from "../socket/acceptor.ts";
import { acceptorOf, type ListeningSocket } from "./listening_socket.ts";
import { type Socket, socketOf } from "./socket.ts";

/**
 * A listener calls it for each connection, with itself, the socket and the peer's address. You must close the socket.
 *
 * libevent: `evconnlistener_cb`.
 */
export type ListenerCallback = (listener: ConnListener, socket: Socket, address: Address) => void;

/** A listener calls it when accepting fails. libevent: `evconnlistener_errorcb`. */
export type ListenerErrorCallback = (listener: ConnListener, error: EventError) => void;

const ALL_FLAGS = (1 << 10) - 1;
class AcceptEvent extends LoopEvent {
  private readonly accept: () => void;

  constructor(base: EventBase, acceptor: Acceptor, accept: () => void) {
    const loop = loopOf(base);
    super(loop, acceptor, EV_READ | EV_PERSIST, loop.queues.length >> 1);
    this.accept = accept;
  }

  override run(): void {
    this.accept();
  }
}

/**
 * Accepts the connections of a listening socket and gives each to a callback.
 *
 * libevent: `struct evconnlistener`.
 *
 * @example
 * ```ts
 * import { ConnListener, EventBase, LEV_OPT_CLOSE_ON_FREE, LEV_OPT_REUSEABLE } from "trivent";
 * const base = new EventBase();
 * const flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE;
 * const listener = await ConnListener.bind(base, (_listener, socket, address) => {
 *   console.log("connected from", address);
 *   socket.close();
 * }, flags, -1, { hostname: "127.0.0.1", port: 0 });
 * base.loopExit(10);
 * await base.dispatch();
 * listener.free();
 * ```
 */
export class ConnListener {
  readonly #base: EventBase;
  readonly #socket: ListeningSocket;
  readonly #acceptor: Acceptor;
  readonly #event: AcceptEvent;
  /** Tells of a full queue. */
  readonly #overflow: Deferred;
  readonly #excess: ExcessSink;
  readonly #flags: number;
  #callback: ListenerCallback | null;
  #errorCallback: ListenerErrorCallback | null = null;
  #enabled: boolean;
  #freed = false;

  /**
   * Makes a listener on a listening socket. libevent: `evconnlistener_new`.
   *
   * @param base The base whose loop calls back
   * @param cb The callback; null for none yet: connections wait
   * @param flags `LEV_OPT_` flags; those for binding have no effect, because the socket is bound
   * @param _backlog Accepted as in C; the socket has its backlog already
   * @param socket The socket
   * @throws {RangeError} For unknown flags
   * @throws {TypeError} When an argument is of the wrong type
   * @throws {EventError} `EV_FREED` when the base was freed
   */
  constructor(
    base: EventBase,
    cb: ListenerCallback | null,
    flags: number,
    _backlog: number,
    socket: ListeningSocket,
  ) {
    checkFlags(flags);
    checkCallback(cb);
    this.#acceptor = acceptorOf(socket);
    if (loopOf(base).freed) throw baseFreed();
    this.#base = base;
    this.#socket = socket;
    this.#flags = flags;
    this.#callback = cb;
    this.#enabled = (flags & LEV_OPT_DISABLED) === 0;
    this.#event = new AcceptEvent(base, this.#acceptor, () => this.#accept());
    this.#overflow = new Deferred(loopOf(base), () => this.#errorCallback?.(this, this.#acceptor.overflow()));
    this.#excess = {
      onExcess: (connection, first): void => {
        connection.dismiss();
        if (first && !loopOf(base).freed) this.#overflow.schedule();
      },
    };
    this.#acceptor.excess = this.#excess;
    this.#update();
  }

  /**
   * Binds, listens, and accepts connections. libevent: `evconnlistener_new_bind`.
   *
   * @param base The base whose loop calls back
   * @param cb The callback; null for none yet: connections wait
   * @param flags `LEV_OPT_` flags
   * @param backlog How many connections may wait to be accepted; negative for 128
   * @param address Where to listen; port 0 lets the system choose one
   * @returns The listener; `listener.address` has the port
   * @throws {RangeError} For unknown flags, a backlog of 0, an IPv6 flag with an IPv4 address, `LEV_OPT_REUSEABLE` with
   * a path, or an address that is not valid
   * @throws {EventError} `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, …; `EV_UNSUPPORTED` for a flag that the runtime does
   * not support; `EV_FREED` when the base was freed
   */
  static async bind(
    base: EventBase,
    cb: ListenerCallback | null,
    flags: number,
    backlog: number,
    address: ListenOptions,
  ): Promise<ConnListener> {
    checkFlags(flags);
    checkCallback(cb);
    if (!Number.isInteger(backlog) || backlog === 0) {
      throw outOfRange("bind a listener", "the backlog is not a positive or negative integer", backlog);
    }
    if (loopOf(base).freed) throw baseFreed();
    address = readOptions("bind a listener", address, LISTEN_OPTIONS);
    checkTarget("bind a listener", address, 0);
    const options: ListenOptions = { ...address, backlog: backlog < 0 ? DEFAULT_BACKLOG : backlog };
    if (address.path !== undefined && (flags & (LEV_OPT_REUSEABLE | LEV_OPT_REUSEABLE_PORT)) !== 0) {
      throw new RangeError(
        `Cannot bind a listener: LEV_OPT_REUSEABLE is not for a path: received ${formatAddress(address)}`,
      );
    }
    if ((flags & LEV_OPT_REUSEABLE_PORT) !== 0) options.reusePort = true;
    if ((flags & (LEV_OPT_BIND_IPV6ONLY | LEV_OPT_BIND_IPV4_AND_IPV6)) !== 0) {
      if (address.hostname === undefined || familyOf(address.hostname) !== "IPv6") {
        throw new RangeError(
          `Cannot bind a listener: the address is not an IPv6 address: received ${formatAddress(address)}`,
        );
      }
      const only = (flags & LEV_OPT_BIND_IPV4_AND_IPV6) === 0;
      // Every runtime serves both families on `::` by default. Set the option only where the runtime supports it.
      if (only || base.runtime.capabilities.ipv6Only) options.ipv6Only = only;
    }
    const socket = await base.listen(options);
    if (loopOf(base).freed) {
      await socket.close();
      throw baseFreed();
    }
    return new ConnListener(base, cb, flags, backlog, socket);
  }

  /**
   * Accepts connections again, first those that have waited. If it is enabled, it does nothing. libevent:
   * `evconnlistener_enable`.
   */
  enable(): void {
    this.#live("enable a listener");
    this.#enabled = true;
    this.#update();
  }

  /**
   * Leaves connections waiting. If `capabilities.pauseAccept` is true, they wait in the kernel. Otherwise the backlog
   * is held, beside the connections that had come before. Further ones are closed, counted in `socket.rejected`, and
   * reported to the error callback once (`EV_BACKLOG_FULL`) until fewer wait. libevent: `evconnlistener_disable`.
   */
  disable(): void {
    this.#enabled = false;
    this.#update();
  }

  /**
   * Sets the callback; with null, connections wait. libevent: `evconnlistener_set_cb`.
   *
   * @param cb The callback, or null
   */
  setCallback(cb: ListenerCallback | null): void {
    checkCallback(cb);
    this.#live("set the callback of a listener");
    this.#callback = cb;
    this.#update();
  }

  /**
   * Sets the callback for failures of accepting; the listener stays enabled. Without descriptors or memory (`EMFILE`,
   * `ENFILE`, `ENOBUFS`, `ENOMEM`) accepting pauses for longer and longer, and the callback is called once until a
   * connection could be accepted again. It is also called with `EV_BACKLOG_FULL`: see `disable()`.
   *
   * libevent: `evconnlistener_set_error_cb`.
   *
   * @param cb The callback, or null
   */
  setErrorCallback(cb: ListenerErrorCallback | null): void {
    checkCallback(cb);
    this.#errorCallback = cb;
  }

  /** The listening socket. libevent: `evconnlistener_get_fd`. */
  get socket(): ListeningSocket {
    return this.#socket;
  }

  /** The address where it listens, with the port that the system chose. */
  get address(): Address {
    return this.#socket.address;
  }

  /** The base. libevent: `evconnlistener_get_base`. */
  get base(): EventBase {
    return this.#base;
  }

  /**
   * Ends the listener: it calls no callback any more. With `LEV_OPT_CLOSE_ON_FREE` it closes the socket and the
   * connections that wait. A second call does nothing. libevent: `evconnlistener_free`.
   */
  free(): void {
    if (this.#freed) return;
    this.#freed = true;
    this.#callback = this.#errorCallback = null;
    this.#event.loop.del(this.#event);
    this.#overflow.cancel();
    if (this.#acceptor.excess === this.#excess) this.#acceptor.excess = null;
    this.#acceptor.taken = true;
    // Nobody could be told of a failure to close.
    if ((this.#flags & LEV_OPT_CLOSE_ON_FREE) !== 0) this.#socket.close().catch(() => {});
  }

  /**
   * Frees the listener and closes its socket, whatever the flags.
   *
   * @returns When the port is free
   */
  async close(): Promise<void> {
    this.free();
    await this.#socket.close();
  }

  /** As `free()`. */
  [Symbol.dispose](): void {
    this.free();
  }

  /** As `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #update(): void {
    if (this.#freed || this.#acceptor.closed) return;
    const { loop } = this.#event;
    const takes = this.#enabled && this.#callback !== null;
    if (!takes) loop.del(this.#event);
    else if (!this.#event.inserted) loop.add(this.#event, undefined, null);
    this.#acceptor.taken = takes;
  }

  /** Accepts all connections that wait, one after the other (rule N3). */
  #accept(): void {
    while (this.#enabled && this.#callback !== null && !this.#acceptor.closed) {
      let connection: ReturnType<Acceptor["accept"]>;
      try {
        connection = this.#acceptor.accept();
      } catch (error) {
        this.#errorCallback?.(this, toEventError("accept a connection", error));
        return;
      }
      if (connection === EAGAIN) return;
      this.#event.loop.forgetClock();
      this.#callback(this, socketOf(connection), connection.remote ?? { path: "" });
    }
  }

  #live(doing: string): void {
    if (this.#freed) throw new EventError(`Cannot ${doing}: it was freed`, { code: "EV_FREED" });
  }
}

function checkFlags(flags: number): void {
  if (!Number.isInteger(flags) || (flags & ~ALL_FLAGS) !== 0) {
    throw outOfRange("make a listener", "unknown flags", flags);
  }
  if ((flags & LEV_OPT_DEFERRED_ACCEPT) !== 0) {
    throw new EventError("Cannot make a listener: no runtime has LEV_OPT_DEFERRED_ACCEPT", { code: "EV_UNSUPPORTED" });
  }
}

function baseFreed(): EventError {
  return new EventError("Cannot make a listener: its base was freed", { code: "EV_FREED" });
}

function checkCallback(cb: unknown): void {
  if (cb !== null && typeof cb !== "function") {
    throw wrongType("set the callback of a listener", "the callback is not a function or null", cb);
  }
}
