/**
 * A connection of Bun, and the handlers that all of them share.
 *
 * @module
 */

import type { EventError } from "../../core/errors.ts";
import type { StartTlsOptions, TlsInfo, TlsRole } from "../../core/tls.ts";
import type { Address, ConnectOptions, TransportBinding, TransportSink } from "../../core/runtime.ts";
import { failure, host, type HostRuntime, inet, keeping, show, SILENT } from "../shared/host.ts";
import { copied } from "../shared/slab.ts";
import { handshakeError, tlsError, type TlsSettings, tlsSettings } from "../shared/tls.ts";
import type { BunHandlers, BunSocket } from "../types/bun.ts";
import type { BunListenerBinding } from "./listener.ts";
import { bunTls, infoOf, isTlsFailure, objection } from "./tls.ts";

/**
 * JavaScriptCore keeps a typed array without an ArrayBuffer until someone asks for its `buffer`, and making the first view
 * of it does: about 1 us for each chunk of a server. Of a chunk of at most so many bytes the core makes no views, but
 * copies what it hands out.
 */
export const FEW: number = 512;
/** A chunk of at most so many bytes is copied into memory that has its buffer already: a tenth of the cost. */
const SMALL = 2048;

/** A connection. */
export class BunTransport implements TransportBinding {
  readonly runtime: HostRuntime;
  /** What a client connects to; undefined for what was accepted. */
  readonly to: ConnectOptions | undefined;
  readonly unixPath: string | undefined;
  socket: BunSocket | undefined;
  sink: TransportSink;
  local: Address | undefined;
  remote: Address | undefined;
  /** Connected, and neither our FIN was asked for nor anything failed. */
  writable = false;
  /** The kernel has taken less than it was given: only `drain` helps. */
  blocked = false;
  /** `write` has returned 0. */
  wanted = false;
  paused = false;
  /** Bytes have come though reading is paused: the connection was reset. */
  late = false;
  /** Some of them were dropped. */
  cut = false;
  /** Our FIN was asked for. */
  finishing = false;
  /** The peer's FIN was told. */
  ended = false;
  /** `write` has met a broken connection. */
  broken = false;
  /** After `close()`, `release()` or `reset()`: the sink hears only `onClose`. */
  closing = false;
  /** After `release()` or `reset()`: what fails now is no failure. */
  dropped = false;
  /** `onClose` is on its way, or was called. */
  closed = false;
  /** The handshake of TLS that is under way. */
  securing: { readonly role: TlsRole; readonly settings: TlsSettings } | undefined;
  tls: TlsInfo | undefined;
  /** Why the handshake failed. */
  refused: EventError | undefined;
  /** How many bytes we had sent when the peer ended, and whether nothing but a close_notify came after them. */
  writtenAtEnd = -1;
  farewell = false;
  /** What is asked for while connecting. */
  noDelay = true;
  keepAlive: number | undefined;
  referenced = true;

  constructor(runtime: HostRuntime, sink: TransportSink, to: ConnectOptions | undefined, path: string | undefined) {
    this.runtime = runtime;
    this.sink = sink;
    this.to = to;
    this.unixPath = path;
    runtime.openHandles++;
  }

  /** The addresses are asked for now, since Bun forgets them with the socket; `local` where it is known without. */
  opened(socket: BunSocket, local?: Address): void {
    this.socket = socket;
    socket.data = this;
    if (this.unixPath === undefined) {
      this.local = local ?? inet(socket.localAddress, socket.localPort);
      this.remote = inet(socket.remoteAddress, socket.remotePort);
    } else {
      this.local = { path: this.to === undefined ? this.unixPath : "" };
      this.remote = { path: this.to === undefined ? "" : this.unixPath };
    }
    this.writable = !this.finishing;
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
    if (!this.noDelay) socket.setNoDelay(false);
    if (this.keepAlive !== undefined) socket.setKeepAlive(true, this.keepAlive);
    if (!this.referenced) socket.unref();
    if (this.paused) socket.pause();
    if (this.finishing) socket.shutdown();
    this.sink.onConnect();
  }

  /** The host has let go. Bun says so from inside `terminate()` and `write()` too, hence later. */
  gone(reason: unknown): void {
    this.runtime.openHandles--;
    if (this.closed) return;
    this.closed = true;
    this.writable = false;
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
    const code = reason !== undefined ? undefined : this.broken ? "EPIPE" : "ECONNRESET";
    this.sink.onClose(failure(keeping(this.remote), reason, this.broken ? "write" : "read", code));
  }

  write(chunk: Uint8Array): number {
    if (!this.writable) return 0;
    if (this.blocked) {
      this.wanted = true;
      return 0;
    }
    const n = this.socket!.write(chunk);
    if (n === chunk.length) return n;
    if (n < 0) {
      this.broken = true;
      this.writable = false;
      // `close` has been called, or will be when the rest is read. But resume() after this leaves the descriptor open for
      // ever, though `close` is called (Bun 1.4.5): what waits behind a pause is given up. Remove when a reset in the
      // middle of many writes (tests/programs/faults.test.ts) leaves no sockets without it.
      if (this.paused) host.queueMicrotask(() => this.socket!.terminate());
      return 0;
    }
    this.blocked = true;
    this.wanted = n === 0;
    return n;
  }

  pauseRead(): void {
    if (this.paused || this.closing || this.closed || this.broken) return;
    this.paused = true;
    // A handshake goes on.
    if (this.securing === undefined) this.socket?.pause();
  }

  resumeRead(): void {
    if (!this.paused || this.closed || this.broken) return;
    this.paused = this.late = false;
    this.socket?.resume();
  }

  shutdownWrite(): void {
    if (this.finishing || this.closed) return;
    this.finishing = true;
    this.writable = false;
    // Who has closed its end answers our close_notify with a reset, which is no word on what we had sent before its end.
    // A reset that answers that itself is told before.
    this.farewell = this.ended && this.tls !== undefined && this.socket?.bytesWritten === this.writtenAtEnd;
    // Bun keeps no bytes back: all that was taken is the kernel's already.
    this.socket?.shutdown();
  }

  close(): void {
    if (this.closing || this.closed) return;
    if (this.socket === undefined || this.securing !== undefined) return this.reset();
    this.shutdownWrite();
    this.closing = true;
    if (this.closed) return;
    this.resumeRead();
    // A peer that does not finish shall not keep the process alive once it has all that we had to say.
    this.socket.unref();
  }

  /** Here `end()` is what is wanted: close(2), after `shutdown()`, so that the kernel goes on delivering. */
  release(): void {
    if (this.socket === undefined || this.securing !== undefined) return this.reset();
    this.closing = this.dropped = true;
    this.shutdownWrite();
    if (!this.closed) this.socket.end();
  }

  reset(): void {
    this.closing = this.dropped = true;
    this.writable = false;
    if (this.closed) return;
    if (this.socket !== undefined) return this.socket.terminate();
    this.closed = true;
    host.queueMicrotask(() => this.report(undefined));
  }

  get handshaking(): boolean {
    return this.securing !== undefined;
  }

  get doing(): string {
    return `make a TLS connection with ${show((this.remote ?? this.to ?? {}) as { path?: string })}`;
  }

  startTls(role: TlsRole, options: StartTlsOptions): void {
    if (this.socket === undefined || this.closing || this.closed) return;
    const settings = tlsSettings(options);
    this.securing = { role, settings };
    this.writable = false;
    const plain = this.socket;
    try {
      const [raw, secure] = plain.upgradeTLS({
        data: this,
        tls: bunTls(settings),
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
      // A name that is another is a failure for Bun also where it is to be taken, and the connection goes on then.
      if (settings.rejectUnauthorized || error.code !== "ERR_TLS_CERT") return this.refuse(error);
    }
    const problem = objection(socket, role, settings, reason);
    if (problem !== undefined && settings.rejectUnauthorized) {
      return this.refuse(tlsError("ERR_TLS_CERT", this.doing, problem));
    }
    this.tls = infoOf(socket, role, settings, problem === undefined);
    this.securing = undefined;
    this.writable = !this.finishing;
    if (this.paused) socket.pause();
    this.sink.onSecure();
  }

  refuse(error: EventError): void {
    this.refused = error;
    this.socket!.terminate();
  }

  setNoDelay(on: boolean): void {
    this.noDelay = on;
    if (this.unixPath === undefined && !this.closed) this.socket?.setNoDelay(on);
  }

  setKeepAlive(on: boolean, delayMs: number): void {
    this.keepAlive = on ? delayMs : undefined;
    if (this.unixPath === undefined && !this.closed) this.socket?.setKeepAlive(on, delayMs);
  }

  ref(): void {
    this.referenced = true;
    if (!this.closed) this.socket?.ref();
  }

  unref(): void {
    this.referenced = false;
    if (!this.closed) this.socket?.unref();
  }
}

/** What the socket under a TLS socket belongs to: nobody wants to hear of it. */
class Ciphertext extends BunTransport {
  override closing = true;
  override closed = true;
  override gone(): void {}
}

const CIPHERTEXT = /* @__PURE__ */ new Ciphertext({ openHandles: 0 } as HostRuntime, SILENT, undefined, undefined);

/** One table for all sockets: what a socket belongs to is its `data`, at first that of the listener. */
export const HANDLERS: BunHandlers = {
  // Not Buffers: their subarray, slice and toString are other methods than those of the Uint8Array that we promise.
  binaryType: "uint8array",
  open(socket) {
    const owner = socket.data as BunListenerBinding | BunTransport;
    if (owner instanceof BunTransport) return owner.connected(socket);
    const ours = new BunTransport(owner.runtime, SILENT, undefined, owner.unixPath);
    ours.opened(socket, owner.fixed);
    if (owner.settings !== undefined) {
      ours.securing = { role: "server", settings: owner.settings };
      ours.writable = false;
    }
    ours.sink = owner.sink.onAccept(ours);
  },
  data(socket, chunk) {
    const ours = socket.data as BunTransport;
    if (ours.closing) return;
    if (ours.paused && !ours.finishing) {
      // The peer has reset the connection, and Bun empties the kernel's buffer before it says so: megabytes, which nobody
      // is to hold for a connection that has failed. (With our FIN out, the peer's FIN has the same effect.)
      if (ours.late) {
        ours.cut = true;
        return;
      }
      ours.late = true;
    }
    const n = chunk.length;
    ours.sink.onData(n > FEW && n <= SMALL ? copied(chunk, n) : chunk);
  },
  drain(socket) {
    const ours = socket.data as BunTransport;
    // Also called when nothing was wanted, such as after `end`.
    ours.blocked = false;
    if (!ours.wanted || !ours.writable) return;
    ours.wanted = false;
    ours.sink.onWritable();
  },
  end(socket) {
    const ours = socket.data as BunTransport;
    ours.ended = true;
    ours.writtenAtEnd = socket.bytesWritten;
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
