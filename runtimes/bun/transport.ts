/**
 * A connection of Bun, and the handlers that all of them share.
 *
 * @module
 */

import type { Bits } from "../../core/bits.ts";
import type { EventError } from "../../core/errors.ts";
import type { StartTlsOptions, TlsInfo, TlsRole } from "../../core/tls.ts";
import type { Address, TransportBinding, TransportSink } from "../../core/runtime.ts";
import { failure, host, type HostRuntime, inet, keeping, type Origin, show, SILENT } from "../shared/host.ts";
import { copied } from "../shared/slab.ts";
import { preparedTls } from "../shared/node_tls.ts";
import { handshakeError, tlsError, type TlsSettings, tlsSettings } from "../shared/tls.ts";
import type { BunHandlers, BunSocket } from "../types/bun.ts";
import type { BunListenerBinding } from "./listener.ts";
import { bunTls, infoOf, isTlsFailure, objection } from "./tls.ts";
import { TlsOverSocket } from "./tls_over_socket.ts";

/**
 * JavaScriptCore keeps a typed array without an ArrayBuffer until someone asks for its `buffer`, and making the first view
 * of it does: about 1 us for each chunk of a server. Of a chunk of at most so many bytes the core makes no views, but
 * copies what it hands out.
 */
export const FEW: number = 512;
/** A chunk of at most so many bytes is copied into memory that has its buffer already: a tenth of the cost. */
const SMALL = 2048;

// What has happened to a connection: bits of `state`. A connection that is idle takes little memory and few of the
// processor's cache lines: yes or no is a bit, what all connections of a listener have in common is one object, and what
// is rare another.
/** Bits of the transport's state. */
export type BunBits = Bits<"bun">;

/** Connected, and neither our FIN was asked for nor anything failed. */
export const WRITABLE: BunBits = 0x1;
/** The kernel has taken less than it was given: only `drain` helps. */
export const BLOCKED: BunBits = 0x2;
/** `write` has returned 0. */
export const WANTED: BunBits = 0x4;
/** Reading is paused. */
export const PAUSED: BunBits = 0x8;
/** Bytes have come though reading is paused: the connection was reset. */
export const LATE: BunBits = 0x10;
/** Some of them were dropped. */
export const CUT: BunBits = 0x20;
/** Our FIN was asked for. */
export const FINISHING: BunBits = 0x40;
/** The peer's FIN was told. */
export const ENDED: BunBits = 0x80;
/** `write` has met a broken connection. */
export const BROKEN: BunBits = 0x100;
/** After `close()`, `release()` or `reset()`: the sink hears only `onClose`. */
export const CLOSING: BunBits = 0x200;
/** After `release()` or `reset()`: what fails now is no failure. */
export const DROPPED: BunBits = 0x400;
/** `onClose` is on its way, or was called. */
export const CLOSED: BunBits = 0x800;
/** Asked for while connecting: Nagle's algorithm. */
export const NAGLE: BunBits = 0x1000;
/** Asked for while connecting: not to keep the process alive. */
export const UNREFERENCED: BunBits = 0x2000;
/** With TLS: the peer had ended when we did, and nothing but a close_notify came after its end. */
export const FAREWELL: BunBits = 0x4000;

/** What only some connections have. */
class Rare {
  securing: { readonly role: TlsRole; readonly settings: TlsSettings } | undefined = undefined;
  tls: TlsInfo | undefined = undefined;
  refused: EventError | undefined = undefined;
  keepAlive: number | undefined = undefined;
  writtenAtEnd = -1;
}

/** A connection. */
export class BunTransport implements TransportBinding {
  readonly origin: Origin;
  state: BunBits = 0;
  #rare: Rare | undefined = undefined;
  socket: BunSocket | undefined = undefined;
  sink: TransportSink;
  local: Address | undefined = undefined;
  remote: Address | undefined = undefined;

  constructor(origin: Origin, sink: TransportSink) {
    this.origin = origin;
    this.sink = sink;
    origin.runtime.openHandles++;
  }

  /** Reading is paused. */
  get paused(): boolean {
    return (this.state & PAUSED) !== 0;
  }

  /** Some of them were dropped. */
  get cut(): boolean {
    return (this.state & CUT) !== 0;
  }

  /** Our FIN was asked for. */
  get finishing(): boolean {
    return (this.state & FINISHING) !== 0;
  }

  /** The peer's FIN was told. */
  get ended(): boolean {
    return (this.state & ENDED) !== 0;
  }

  /** `write` has met a broken connection. */
  get broken(): boolean {
    return (this.state & BROKEN) !== 0;
  }

  /** After `close()`, `release()` or `reset()`: the sink hears only `onClose`. */
  get closing(): boolean {
    return (this.state & CLOSING) !== 0;
  }

  /** After `release()` or `reset()`: what fails now is no failure. */
  get dropped(): boolean {
    return (this.state & DROPPED) !== 0;
  }

  /** `onClose` is on its way, or was called. */
  get closed(): boolean {
    return (this.state & CLOSED) !== 0;
  }

  /** With TLS: the peer had ended when we did, and nothing but a close_notify came after its end. */
  get farewell(): boolean {
    return (this.state & FAREWELL) !== 0;
  }

  /** The handshake of TLS that is under way. */
  get securing(): Rare["securing"] {
    return this.#rare?.securing;
  }

  set securing(securing: Rare["securing"]) {
    this.#more.securing = securing;
  }

  /** What the handshake has found. */
  get tls(): TlsInfo | undefined {
    return this.#rare?.tls;
  }

  set tls(tls: TlsInfo | undefined) {
    this.#more.tls = tls;
  }

  /** Why the handshake failed. */
  get refused(): EventError | undefined {
    return this.#rare?.refused;
  }

  set refused(refused: EventError | undefined) {
    this.#more.refused = refused;
  }

  /** Asked for while connecting: keep-alive after so many milliseconds. */
  get keepAlive(): number | undefined {
    return this.#rare?.keepAlive;
  }

  set keepAlive(delayMs: number | undefined) {
    this.#more.keepAlive = delayMs;
  }

  /** With TLS: how many bytes we had sent when the peer ended. */
  get writtenAtEnd(): number {
    return this.#rare?.writtenAtEnd ?? -1;
  }

  set writtenAtEnd(bytes: number) {
    this.#more.writtenAtEnd = bytes;
  }

  get #more(): Rare {
    return this.#rare ??= new Rare();
  }

  /** The addresses are asked for now, since Bun forgets them with the socket; `local` where it is known without. */
  opened(socket: BunSocket, local?: Address): void {
    this.socket = socket;
    socket.data = this;
    const { unixPath, to } = this.origin;
    if (unixPath === undefined) {
      this.local = local ?? inet(socket.localAddress, socket.localPort);
      this.remote = inet(socket.remoteAddress, socket.remotePort);
    } else {
      this.local = { path: to === undefined ? unixPath : "" };
      this.remote = { path: to === undefined ? "" : unixPath };
    }
    if (!this.finishing) this.state |= WRITABLE;
  }

  /**
   * A connection attempt has succeeded. There is no way to end one early (oven-sh/bun#13126): what was given up in the
   * meantime ends here.
   */
  connected(socket: BunSocket): void {
    // upgradeTLS() says `open` of the socket that it gives.
    if (this.securing !== undefined) return;
    this.opened(socket);
    if (this.closed) {
      socket.terminate();
      return;
    }
    if ((this.state & NAGLE) !== 0) socket.setNoDelay(false);
    if (this.keepAlive !== undefined) socket.setKeepAlive(true, this.keepAlive);
    if ((this.state & UNREFERENCED) !== 0) socket.unref();
    if (this.paused) socket.pause();
    if (this.finishing) socket.shutdown();
    this.sink.onConnect();
  }

  /** The host has let go. Bun says so from inside `terminate()` and `write()` too, hence later. */
  gone(reason: unknown): void {
    this.origin.runtime.openHandles--;
    if (this.closed) return;
    this.state = this.state & ~WRITABLE | CLOSED;
    host.queueMicrotask(() => this.report(reason));
  }

  report(reason: unknown): void {
    if (this.dropped) return this.sink.onClose();
    if (this.refused !== undefined) return this.sink.onClose(this.refused);
    if (this.securing !== undefined) {
      return this.sink.onClose(
        handshakeError(this.doing, reason ?? "the peer has ended the connection"),
      );
    }
    if ((reason === undefined || this.farewell) && this.finishing && !this.broken && !this.cut) {
      // After shutdown() the peer's FIN is told by `close` alone, not by `end`.
      if (!this.ended && !this.closing) this.sink.onEnd();
      return this.sink.onClose();
    }
    // Bun does not say why a write has failed. If the peer had not finished before, it has reset the connection.
    const code = reason !== undefined ? undefined : this.broken && this.ended ? "EPIPE" : "ECONNRESET";
    this.sink.onClose(failure(keeping(this.remote), reason, this.broken ? "write" : "read", code));
  }

  write(chunk: Uint8Array): number {
    if ((this.state & (WRITABLE | BLOCKED)) !== WRITABLE) {
      if ((this.state & WRITABLE) !== 0) this.state |= WANTED;
      return 0;
    }
    const n = this.socket!.write(chunk);
    if (n === chunk.length) return n;
    if (n < 0) {
      this.state = this.state & ~WRITABLE | BROKEN;
      // `close` has been called, or will be when the rest is read. But resume() after this leaves the descriptor open for
      // ever, though `close` is called (Bun 1.4.5): what waits behind a pause is given up. Remove when a reset in the
      // middle of many writes (tests/programs/faults.test.ts) leaves no sockets without it.
      if (this.paused) host.queueMicrotask(() => this.socket!.terminate());
      return 0;
    }
    this.state = this.state & ~WANTED | BLOCKED | (n === 0 ? WANTED : 0);
    return n;
  }

  pauseRead(): void {
    if (this.paused || this.closing || this.closed || this.broken) return;
    this.state |= PAUSED;
    // A handshake goes on.
    if (this.securing === undefined) this.socket?.pause();
  }

  resumeRead(): void {
    if (!this.paused || this.closed || this.broken) return;
    this.state &= ~(PAUSED | LATE);
    this.socket?.resume();
  }

  shutdownWrite(): void {
    if (this.finishing || this.closed) return;
    this.state = this.state & ~WRITABLE | FINISHING;
    // Who has closed its end answers our close_notify with a reset, which is no word on what we had sent before its end.
    // A reset that answers that itself is told before.
    if (this.ended && this.tls !== undefined && this.socket?.bytesWritten === this.writtenAtEnd) this.state |= FAREWELL;
    // Bun keeps no bytes back: all that was taken is the kernel's already.
    this.socket?.shutdown();
  }

  close(): void {
    if (this.closing || this.closed) return;
    if (this.socket === undefined || this.securing !== undefined) return this.reset();
    this.shutdownWrite();
    this.state |= CLOSING;
    if (this.closed) return;
    this.resumeRead();
    // A peer that does not finish shall not keep the process alive once it has all that we had to say.
    this.socket.unref();
  }

  /** Here `end()` is what is wanted: close(2), after `shutdown()`, so that the kernel goes on delivering. */
  release(): void {
    if (this.socket === undefined || this.securing !== undefined) return this.reset();
    this.state |= CLOSING | DROPPED;
    this.shutdownWrite();
    if (!this.closed) this.socket.end();
  }

  reset(): void {
    this.state = this.state & ~WRITABLE | CLOSING | DROPPED;
    if (this.closed) return;
    if (this.socket !== undefined) return this.socket.terminate();
    this.state |= CLOSED;
    host.queueMicrotask(() => this.report(undefined));
  }

  get handshaking(): boolean {
    return this.securing !== undefined;
  }

  get doing(): string {
    return `make a TLS connection with ${show((this.remote ?? this.origin.to ?? {}) as { path?: string })}`;
  }

  startTls(role: TlsRole, options: StartTlsOptions, unread?: Uint8Array): void {
    if (this.socket === undefined || this.closing || this.closed) return;
    const plain = this.socket;
    try {
      const settings = tlsSettings(options);
      this.securing = { role, settings };
      this.state &= ~WRITABLE;
      if (unread !== undefined) {
        const { context } = preparedTls(options, this.doing);
        // upgradeTLS() takes only what has not been read.
        const lower = new BunTransport({ ...this.origin, runtime: UNCOUNTED }, SILENT);
        lower.opened(plain, this.local);
        this.socket = new TlsOverSocket(lower, role, settings, context, unread, HANDLERS);
        this.socket.data = this;
        return;
      }
      const [raw, secure] = plain.upgradeTLS({
        data: this,
        tls: bunTls(role, settings),
        isServer: role === "server",
        socket: HANDLERS,
      });
      // The encrypted bytes are told too.
      plain.data = raw.data = CIPHERTEXT;
      this.socket = secure;
      secure.data = this;
    } catch (reason) {
      this.refuse(tlsError("ERR_TLS_OPTIONS", this.doing, reason));
    }
  }

  /** The handshake has ended. Bun closes by itself what it refuses. */
  shook(success: boolean, reason: unknown): void {
    const { role, settings } = this.securing!;
    const socket = this.socket!;
    if (!success) {
      const error = handshakeError(this.doing, reason);
      // A name that is another is a failure for Bun also where it was told not to refuse, and the connection goes on then.
      if (error.code !== "ERR_TLS_CERT") return this.refuse(error);
    }
    const problem = objection(socket, role, settings, success, reason);
    if (problem !== undefined && settings.rejectUnauthorized) {
      return this.refuse(tlsError("ERR_TLS_CERT", this.doing, problem));
    }
    this.tls = infoOf(socket, role, settings, problem === undefined);
    this.securing = undefined;
    if (!this.finishing) this.state |= WRITABLE;
    if (this.paused) socket.pause();
    this.sink.onSecure();
  }

  refuse(error: EventError): void {
    this.refused = error;
    this.socket!.terminate();
  }

  setNoDelay(on: boolean): void {
    if (on) this.state &= ~NAGLE;
    else this.state |= NAGLE;
    if (this.origin.unixPath === undefined && !this.closed) this.socket?.setNoDelay(on);
  }

  setKeepAlive(on: boolean, delayMs: number): void {
    this.keepAlive = on ? delayMs : undefined;
    if (this.origin.unixPath === undefined && !this.closed) this.socket?.setKeepAlive(on, delayMs);
  }

  ref(): void {
    this.state &= ~UNREFERENCED;
    if (!this.closed) this.socket?.ref();
  }

  unref(): void {
    this.state |= UNREFERENCED;
    if (!this.closed) this.socket?.unref();
  }
}

/** The runtime of sockets that are under others, and not counted. */
const UNCOUNTED = { openHandles: 0 } as HostRuntime;

/** What the socket under a TLS socket belongs to: nobody wants to hear of it. */
class Ciphertext extends BunTransport {
  override state = CLOSING | CLOSED;
  override gone(): void {}
}

const CIPHERTEXT = /* @__PURE__ */ new Ciphertext(
  { runtime: UNCOUNTED, to: undefined, unixPath: undefined },
  SILENT,
);

/** One table for all sockets: what a socket belongs to is its `data`, at first that of the listener. */
export const HANDLERS: BunHandlers = {
  // Not Buffers: their subarray, slice and toString are other methods than those of the Uint8Array that we promise.
  binaryType: "uint8array",
  open(socket) {
    const owner = socket.data as BunListenerBinding | BunTransport;
    if (owner instanceof BunTransport) return owner.connected(socket);
    const ours = new BunTransport(owner, SILENT);
    ours.opened(socket, owner.fixed);
    if (owner.settings !== undefined) {
      ours.securing = { role: "server", settings: owner.settings };
      ours.state &= ~WRITABLE;
    }
    ours.sink = owner.sink.onAccept(ours);
  },
  data(socket, chunk) {
    const ours = socket.data as BunTransport;
    const { state } = ours;
    if ((state & CLOSING) !== 0) return;
    if ((state & (PAUSED | FINISHING)) === PAUSED) {
      // The peer has reset the connection, and Bun empties the kernel's buffer before it says so: megabytes, which nobody
      // is to hold for a connection that has failed. (With our FIN out, the peer's FIN has the same effect.)
      if ((state & LATE) !== 0) {
        ours.state |= CUT;
        return;
      }
      ours.state |= LATE;
    }
    const n = chunk.length;
    ours.sink.onData(n > FEW && n <= SMALL ? copied(chunk, n) : chunk);
  },
  drain(socket) {
    const ours = socket.data as BunTransport;
    // Also called when nothing was wanted, such as after `end`.
    ours.state &= ~BLOCKED;
    if ((ours.state & (WANTED | WRITABLE)) !== (WANTED | WRITABLE)) return;
    ours.state &= ~WANTED;
    ours.sink.onWritable();
  },
  end(socket) {
    const ours = socket.data as BunTransport;
    // The kernel tells of a reset once: the write that has failed was told, and this is no end of the peer's.
    if (ours.broken) return;
    ours.state |= ENDED;
    if (ours.tls !== undefined) ours.writtenAtEnd = socket.bytesWritten;
    // Never a clean end after bytes that were dropped.
    if (ours.cut) socket.terminate();
    else if (!ours.closing) ours.sink.onEnd();
  },
  close(socket, error) {
    (socket.data as BunTransport).gone(error);
  },
  // What a handler throws comes here. It is a defect and shall be seen as one, as on the other hosts.
  error(socket, error) {
    const ours = socket.data as BunTransport;
    // An alert of the peer's, though, is one of the connection.
    if ((ours.tls !== undefined || ours.securing !== undefined) && isTlsFailure(error)) {
      return ours.refuse(tlsError("ERR_TLS_PROTOCOL", keeping(ours.remote), error));
    }
    host.queueMicrotask(() => {
      throw error;
    });
  },
  handshake(socket, success, reason) {
    const ours = socket.data as BunTransport;
    if (ours.securing !== undefined && !ours.closed) ours.shook(success, reason);
  },
  // The promise of Bun.connect() says it too. This one may be called from inside Bun.connect().
  connectError() {},
};
