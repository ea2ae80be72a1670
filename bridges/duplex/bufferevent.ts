/** `fromDuplex()`: a bufferevent over a `stream.Duplex`. */

import type { Duplex } from "node:stream";
import { socketOver } from "../../core/api/bridge.ts";
import { show } from "../../core/checks.ts";
import {
  type Address,
  BEV_OPT_CLOSE_ON_FREE,
  EventBase,
  SocketBufferEvent,
  type TransportSink,
} from "../../core/mod.ts";
import { DuplexTransport, streamFailure } from "./transport.ts";

/** The properties of a socket of `node:net`, which other streams may have. */
interface MaySay {
  readonly connecting?: unknown;
  readonly localAddress?: unknown;
  readonly localPort?: unknown;
  readonly remoteAddress?: unknown;
  readonly remotePort?: unknown;
}

/** A transport over a stream that the program has made. */
class GivenTransport extends DuplexTransport {
  /** The stream is still connecting. */
  handshaking: boolean;
  readonly #given: Duplex & MaySay;
  #listener: TransportSink | undefined;

  constructor(stream: Duplex & MaySay) {
    super({ peerName: nameOf(stream) });
    this.#given = stream;
    this.handshaking = stream.connecting === true;
    if (!this.handshaking) this.#begin();
    else {
      const failed = (reason: unknown): void => {
        stream.off("connect", connected);
        this.refuse(streamFailure("connect a stream", reason, "connect"));
      };
      const connected = (): void => {
        stream.off("error", failed).off("close", failed);
        this.handshaking = false;
        this.#begin();
        if (!this.abandoned) this.#listener?.onConnect();
      };
      stream.once("connect", connected).once("error", failed).once("close", failed);
    }
  }

  #begin(): void {
    const stream = this.#given;
    this.local = addressOf(stream.localAddress, stream.localPort);
    this.remote = addressOf(stream.remoteAddress, stream.remotePort);
    this.adopt(stream);
  }

  override attach(sink: TransportSink): void {
    this.#listener = sink;
    super.attach(sink);
  }

  override reset(): void {
    super.reset();
    // The error of a cancelled attempt to connect.
    if (this.handshaking) this.#given.destroy();
  }
}

/**
 * A bufferevent over a `stream.Duplex`. {@linkcode fromDuplex} makes it.
 *
 * It is a `SocketBufferEvent` whose socket is the stream: views, codecs, filters, limits and timeouts work on it. `startTls()`
 * throws `EV_UNSUPPORTED`. `reset()` is `resetAndDestroy()` if the stream has it, and otherwise
 * `destroy()`.
 */
export class DuplexBufferEvent<Ctx = unknown> extends SocketBufferEvent<Ctx> {
  /** The stream. Do not read, write or end it yourself. */
  readonly duplex: Duplex;

  /**
   * Makes it, as {@linkcode fromDuplex} does.
   *
   * @param base The base whose loop calls back
   * @param duplex The stream
   */
  constructor(base: EventBase, duplex: Duplex) {
    checkArguments(base, duplex);
    super(base, socketOver(base.runtime, new GivenTransport(duplex)), BEV_OPT_CLOSE_ON_FREE);
    this.duplex = duplex;
  }
}

/**
 * Makes a bufferevent over any `stream.Duplex`: a connection that was upgraded from HTTP, a channel of SSH, a WebSocket stream.
 *
 * From now on the stream belongs to the bufferevent. Writing is enabled and reading is not, as on
 * every bufferevent. The end of the stream is
 * `BEV_EVENT_EOF`; its error is `BEV_EVENT_ERROR`, with the code of the stream's error if that is a code of sockets, and the
 * error as the `cause`. The stream may still be connecting, as a socket of `node:net`: the event callback then gets
 * `BEV_EVENT_CONNECTED`.
 *
 * Bytes are copied once each way. Values that are not bytes or strings end it with `EIO`.
 *
 * @param base The base whose loop calls back
 * @param duplex The stream
 * @returns The bufferevent, which destroys the stream when it is freed
 * @throws {TypeError} When the base is not an `EventBase`, or the stream is not a Duplex
 * @throws {EventError} `EV_FREED` when the base was freed
 *
 * @example
 * ```ts
 * import { PassThrough } from "node:stream";
 * import { EventBase } from "trivent";
 * import { fromDuplex } from "trivent/duplex";
 *
 * const base = new EventBase();
 * const bev = fromDuplex(base, new PassThrough());
 * bev.write("hello\n");
 * bev.shutdown();
 * const done = base.dispatch();
 * for await (const line of bev.lines({ text: true })) console.log(line); // hello
 * await bev.close();
 * await done;
 * ```
 */
export function fromDuplex<Ctx = unknown>(base: EventBase, duplex: Duplex): DuplexBufferEvent<Ctx> {
  return new DuplexBufferEvent<Ctx>(base, duplex);
}

function checkArguments(base: unknown, duplex: unknown): void {
  const doing = "make a bufferevent of a Duplex";
  if (!(base instanceof EventBase)) throw new TypeError(`Cannot ${doing}: not an EventBase: received ${show(base)}`);
  const { read, write, end, destroy, on } = (duplex ?? {}) as Record<string, unknown>;
  if ([read, write, end, destroy, on].every((method) => typeof method === "function")) return;
  throw new TypeError(`Cannot ${doing}: the stream is not a Duplex of Node's streams: received ${show(duplex)}`);
}

function addressOf(hostname: unknown, port: unknown): Address | undefined {
  if (typeof hostname !== "string" || typeof port !== "number") return undefined;
  return { hostname, port, family: hostname.includes(":") ? "IPv6" : "IPv4" };
}

function nameOf(stream: object): string {
  const { name } = stream.constructor;
  return typeof name === "string" && name !== "" ? `a stream (${name})` : "a stream";
}
