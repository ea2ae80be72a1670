/**
 * A listening socket that Deno is given by its descriptor. `Deno.listen()` does not take one (denoland/deno#14006), but `node:net`
 * does. Its sockets get the interface of Deno's connections, so that the same transport serves both, with and without TLS.
 *
 * @module
 */

import { builtin, host, WRITE_AHEAD } from "../shared/host.ts";
import type { DenoAddr, DenoConn, DenoListener } from "../types/deno.ts";
import type { NodeNet, NodeServer, NodeSocket } from "../types/node.ts";

/** How many connections may wait for `accept()` here: `node:net` cannot leave them with the system. */
const MOST_WAITING = 511;
/** With so many bytes waiting, the socket is not read. */
const MOST_BYTES = 64 * 1024;

/** A listening socket of `node:net`. */
export class NodeDenoListener implements DenoListener {
  readonly addr: DenoAddr;
  private readonly server: NodeServer;
  private readonly path: string | undefined;
  private readonly waiting: NodeSocket[] = [];
  private readonly errors: unknown[] = [];
  private accepting: { resolve(conn: DenoConn): void; reject(reason: unknown): void } | undefined;
  private closed = false;

  private constructor(server: NodeServer, path: string | undefined) {
    this.server = server;
    const bound = server.address();
    const unix = bound === null || typeof bound === "string";
    this.addr = unix ? { path: path ?? "" } : { hostname: bound.address, port: bound.port };
    this.path = unix ? path ?? "" : undefined;
    server.on("connection", (socket: NodeSocket) => {
      // An error before somebody takes the connection must not end the process.
      socket.on("error", () => {});
      if (this.waiting.length >= MOST_WAITING) return void socket.destroy();
      this.waiting.push(socket);
      this.give();
    });
    server.on("error", (reason: unknown) => {
      this.errors.push(reason);
      this.give();
    });
  }

  /**
   * Listens on a descriptor.
   *
   * @param fd The descriptor
   * @param backlog How many connections may wait to be accepted; undefined for the default
   * @param path The path, if it is a unix socket
   */
  static listen(fd: number, backlog: number | undefined, path: string | undefined): Promise<NodeDenoListener> {
    const server = builtin<NodeNet>("node:net").createServer({
      allowHalfOpen: true,
      noDelay: true,
      highWaterMark: WRITE_AHEAD,
    });
    return new Promise((resolve, reject) => {
      server.once("error", reject);
      server.once("listening", () => {
        server.removeListener("error", reject);
        resolve(new NodeDenoListener(server, path));
      });
      server.listen({ fd, ...(backlog === undefined ? undefined : { backlog }) });
    });
  }

  accept(): Promise<DenoConn> {
    return new Promise((resolve, reject) => {
      this.accepting = { resolve, reject };
      this.give();
    });
  }

  private give(): void {
    const accept = this.accepting;
    if (accept === undefined) return;
    const socket = this.waiting.shift();
    if (socket === undefined && this.errors.length === 0 && !this.closed) return;
    this.accepting = undefined;
    if (socket !== undefined) accept.resolve(new NodeDenoConn(socket, this.path));
    else accept.reject(this.errors.shift() ?? new Error("the listener was closed"));
  }

  close(): void {
    this.closed = true;
    for (const socket of this.waiting.splice(0)) socket.destroy();
    this.server.close();
    // The descriptor is closed by then.
    host.setImmediate(() => this.give());
  }

  ref(): void {
    this.server.ref();
  }

  unref(): void {
    this.server.unref();
  }
}

/** A read that waits. */
interface Reading {
  readonly into: Uint8Array;
  resolve(n: number | null): void;
  reject(reason: unknown): void;
}

/** A connection of `node:net`. */
class NodeDenoConn implements DenoConn {
  readonly localAddr: DenoAddr;
  readonly remoteAddr: DenoAddr;
  private readonly socket: NodeSocket;
  readonly setNoDelay?: (on: boolean) => void;
  readonly setKeepAlive?: (on: boolean) => void;
  /** What has arrived and was not read. A stream that is destroyed would drop it. */
  private readonly chunks: Uint8Array[] = [];
  private bytes = 0;
  private ended = false;
  private closed = false;
  private error: unknown;
  private reading: Reading | undefined;

  constructor(socket: NodeSocket, path: string | undefined) {
    this.socket = socket;
    if (path === undefined) {
      this.localAddr = addr(socket.localAddress, socket.localPort);
      this.remoteAddr = addr(socket.remoteAddress, socket.remotePort);
      this.setNoDelay = (on) => void socket.setNoDelay(on);
      this.setKeepAlive = (on) => void socket.setKeepAlive(on, 0);
    } else {
      this.localAddr = { path };
      this.remoteAddr = { path: "" };
    }
    socket.on("error", (reason: unknown) => {
      this.error ??= reason;
      this.give();
    });
    socket.on("data", (chunk: Uint8Array) => {
      this.chunks.push(chunk);
      this.bytes += chunk.length;
      if (this.bytes >= MOST_BYTES) socket.pause();
      this.give();
    });
    socket.on("end", () => {
      this.ended = true;
      this.give();
    });
    socket.on("close", () => {
      this.closed = true;
      this.give();
    });
  }

  read(into: Uint8Array): Promise<number | null> {
    return new Promise((resolve, reject) => {
      this.reading = { into, resolve, reject };
      this.give();
    });
  }

  /** Settles the read that waits, if there is a result. */
  private give(): void {
    const reading = this.reading;
    if (reading === undefined) return;
    const { into } = reading;
    let filled = 0;
    for (let chunk = this.chunks[0]; chunk !== undefined && filled < into.length; chunk = this.chunks[0]) {
      const n = Math.min(chunk.length, into.length - filled);
      into.set(n === chunk.length ? chunk : chunk.subarray(0, n), filled);
      filled += n;
      if (n === chunk.length) this.chunks.shift();
      else this.chunks[0] = chunk.subarray(n);
    }
    this.bytes -= filled;
    if (filled > 0 && this.bytes < MOST_BYTES) this.socket.resume();
    if (filled === 0 && this.error === undefined && !this.ended && !this.closed) return;
    this.reading = undefined;
    if (filled > 0) reading.resolve(filled);
    else if (this.error !== undefined) reading.reject(this.error);
    else reading.resolve(null);
  }

  write(chunk: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.error !== undefined) return reject(this.error);
      this.socket.write(chunk, (reason) => {
        if (!reason) return resolve(chunk.length);
        // What a failure cancels is told first, and its reason after it.
        host.setImmediate(() => reject(this.error ?? reason));
      });
    });
  }

  closeWrite(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.error !== undefined) return reject(this.error);
      const done = (): void => this.error === undefined ? resolve() : reject(this.error);
      this.socket.once("finish", done);
      this.socket.once("close", done);
      this.socket.end();
    });
  }

  close(): void {
    this.reading = undefined;
    this.socket.destroy();
  }

  ref(): void {
    this.socket.ref();
  }

  unref(): void {
    this.socket.unref();
  }
}

function addr(hostname: string | undefined, port: number | undefined): DenoAddr {
  // A client that has gone by now has no address.
  return hostname === undefined || port === undefined ? {} : { hostname, port };
}
