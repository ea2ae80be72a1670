/**
 * As much of Node as the adapters use; `process`, `node:dns`, `node:os` and `node:fs/promises` are there on every runtime.
 *
 * @module
 */

/** The global `process`. */
export interface NodeProcess {
  readonly platform: string;
  readonly versions: { readonly [name: string]: string | undefined };
  getBuiltinModule?(name: string): unknown;
  /** Only there where the process was started with permissions. */
  readonly permission?: { has(scope: string): boolean };
  readonly allowedNodeEnvironmentFlags: { has(flag: string): boolean };
  on(event: string, fn: () => void): unknown;
  removeListener(event: string, fn: () => void): unknown;
}

/** `node:net`. */
export interface NodeNet {
  createServer(options: NodeServerOptions): NodeServer;
  connect(options: NodeConnectOptions): NodeSocket;
  readonly Socket: { new (options: NodeSocketOptions): NodeSocket; readonly prototype: NodeSocket };
}

/** The option `onread`: `net` reads into a buffer of ours. */
export interface NodeOnread {
  /** Gives the first buffer, and after each read the next one, if it is another. */
  buffer(): Uint8Array | undefined;
  /** So many bytes were read into the buffer. False stops reading. `this` is the socket. */
  callback(this: never, length: number, buffer: Uint8Array): boolean;
}

/** What `new net.Socket()` takes; `handle` is private to Node. */
export interface NodeSocketOptions {
  handle: NodeHandle;
  allowHalfOpen: boolean;
  highWaterMark: number;
  onread?: NodeOnread;
}

/** What is behind a socket or a server. Private to Node: all of it may be missing. */
export interface NodeHandle {
  /** Its file descriptor, or -1. */
  readonly fd?: number;
  getpeername?(out: object): number;
  setNoDelay?(on: boolean): number;
  useUserBuffer?(buffer: Uint8Array): void;
  onconnection?: ((this: NodeHandle, status: number, client?: NodeHandle) => void) | null;
}

/** What `net.createServer()` takes. */
export interface NodeServerOptions {
  allowHalfOpen: boolean;
  noDelay: boolean;
  highWaterMark: number;
}

/** What `net.connect()` takes. */
export interface NodeConnectOptions {
  host?: string;
  port?: number;
  path?: string;
  localAddress?: string;
  allowHalfOpen: boolean;
  noDelay: boolean;
  highWaterMark: number;
  autoSelectFamily: boolean;
  onread?: NodeOnread;
}

/** What `server.listen()` takes. */
export interface NodeListenOptions {
  host?: string;
  port?: number;
  path?: string;
  fd?: number;
  /** The workers of a cluster do not share the socket. */
  exclusive?: boolean;
  backlog?: number;
  ipv6Only?: boolean;
  reusePort?: boolean;
}

/** An event emitter, with the listeners' `this` being the emitter. */
export interface NodeEmitter {
  on(event: string, fn: (this: never, ...args: never[]) => void): this;
  once(event: string, fn: (this: never, ...args: never[]) => void): this;
  removeListener(event: string, fn: (this: never, ...args: never[]) => void): this;
}

/** `net.Server`. */
export interface NodeServer extends NodeEmitter {
  listen(options: NodeListenOptions): this;
  address(): string | { address: string; port: number; family: string | number } | null;
  close(): this;
  ref(): this;
  unref(): this;
  readonly _handle?: NodeHandle | null;
}

/** `net.Socket`. */
export interface NodeSocket extends NodeEmitter {
  readonly localAddress?: string;
  readonly localPort?: number;
  readonly remoteAddress?: string;
  readonly remotePort?: number;
  readonly writableLength: number;
  readonly writableFinished: boolean;
  readonly readableEnded: boolean;
  write(chunk: Uint8Array, done?: (error?: unknown) => void): boolean;
  read(): Uint8Array | null;
  unshift(chunk: Uint8Array): void;
  cork(): void;
  uncork(): void;
  isPaused(): boolean;
  pause(): this;
  resume(): this;
  end(): this;
  destroy(): this;
  resetAndDestroy(): this;
  setNoDelay(on: boolean): this;
  setKeepAlive(on: boolean, delayMs: number, intervalMs?: number, count?: number): this;
  ref(): this;
  unref(): this;
  readonly _handle?: NodeHandle | null;
}

/** `node:dns`. */
export interface NodeDns {
  lookup(
    hostname: string,
    options: { all: true; verbatim: true },
    callback: (error: unknown, addresses?: readonly { address: string; family: number }[]) => void,
  ): void;
}

/** `node:os`. */
export interface NodeOs {
  readonly constants: { readonly signals: { readonly [name: string]: number } };
  networkInterfaces(): { readonly [name: string]: readonly { readonly scopeid?: number }[] | undefined };
}

/** `node:url`. */
export interface NodeUrl {
  /** Gives the form of IDNA of a host name, or nothing where it has none. */
  domainToASCII(name: string): string;
}

/** As much of `node:buffer` as the adapter uses. */
export interface NodeBuffers {
  readonly Buffer: { readonly prototype: { indexOf(this: Uint8Array, value: number, from: number): number } };
}

/** `node:fs`. */
export interface NodeFsSync {
  existsSync(path: string): boolean;
  lstatSync(path: string, options: { bigint: true }): {
    readonly dev: bigint;
    readonly ino: bigint;
    readonly mtimeNs: bigint;
    isSocket(): boolean;
  };
  readlinkSync(path: string): string;
  readFileSync(path: string, encoding: "utf8"): string;
  renameSync(path: string, newPath: string): void;
  linkSync(path: string, newPath: string): void;
  unlinkSync(path: string): void;
}

/** `node:path`. */
export interface NodePath {
  resolve(path: string): string;
}

/** `node:cluster`. */
export interface NodeCluster {
  readonly isWorker: boolean;
}

/** `node:fs/promises`. */
export interface NodeFs {
  open(path: string): Promise<NodeFile>;
}

/** An open file. */
export interface NodeFile {
  stat(): Promise<{ size: number }>;
  read(
    into: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ bytesRead: number }>;
  close(): Promise<void>;
}
