/**
 * Shared by the tests of the seam: a runtime under test, peers that record and check their callbacks, and the check for
 * leaks. Bodies wait only for events of the seam and for the runtime's own timers, so that the simulator can drive them.
 */

import { assert, assertEquals } from "./assert.ts";
import type {
  AcceptSink,
  Address,
  ConnectOptions,
  EventError,
  ListenerBinding,
  ListenOptions,
  Runtime,
  TlsConnectOptions,
  TransportBinding,
  TransportSink,
} from "../../core/mod.ts";
import type { FullSubject } from "./subject.ts";

export { dice, noise } from "./subject.ts";

/** Where to listen: one of each kind that the runtime supports. */
export type Kind = "IPv4" | "IPv6" | "unix" | "abstract unix" | "TLS";

/** Runs the body of one test, and then checks that it has left nothing open. */
export async function scene(subject: FullSubject, body: (scene: Scene) => Promise<void>): Promise<void> {
  await subject.run(play(subject, body));
}

async function play(subject: FullSubject, body: (scene: Scene) => Promise<void>): Promise<void> {
  const { runtime } = subject;
  const here = new Scene(subject);
  const before = runtime.openHandles;
  const finished = body(here);
  try {
    await here.within(3 * subject.patienceMs, finished, () => here.story());
  } catch (error) {
    await here.sweep();
    throw error;
  }
  await here.end();
  assertEquals(here.offences, [], here.story());
  await here.until(
    () => runtime.openHandles === before,
    () => `${runtime.openHandles - before} handles are left open: ${here.story()}`,
  );
}

/** One test. */
export class Scene {
  readonly runtime: Runtime;
  readonly subject: FullSubject;
  /** Violations of the contract by the adapter. */
  readonly offences: string[] = [];
  readonly #peers: Peer[] = [];
  readonly #listeners: Listener[] = [];

  constructor(subject: FullSubject) {
    this.subject = subject;
    this.runtime = subject.runtime;
  }

  /** The callbacks of all peers, for the message of a failure. */
  story(): string {
    return this.#peers.map((peer) => `${peer.name}: ${peer.heard.slice(-12).join(" ")} (${peer.bytes} bytes)`).join(
      "; ",
    );
  }

  /** Makes a peer, which the scene closes at the end. */
  peer(name: string, hooks?: Hooks): Peer {
    const peer = new Peer(this, name, hooks);
    this.#peers.push(peer);
    return peer;
  }

  async listen(options: ListenOptions = { hostname: "127.0.0.1" }, hooks?: ListenHooks): Promise<Listener> {
    const listener = new Listener(this, hooks);
    this.#listeners.push(listener);
    await listener.open(options);
    return listener;
  }

  /** Listens on a new address of a kind. */
  listenOn(kind: Kind, hooks?: ListenHooks): Promise<Listener> {
    return this.listen(this.options(kind), hooks);
  }

  options(kind: Kind): ListenOptions {
    if (kind === "unix") return { path: this.subject.unixPath() };
    if (kind === "abstract unix") return { path: `\0${this.subject.unixPath()}` };
    const tls = kind === "TLS" ? this.subject.tls : undefined;
    return {
      hostname: kind === "IPv6" ? "::1" : "127.0.0.1",
      port: 0,
      ...(tls === undefined ? undefined : { tls: { cert: tls.cert, key: tls.key } }),
    };
  }

  connect(to: Address | ConnectOptions, hooks?: Hooks): Peer {
    const peer = this.peer("client", hooks);
    const { tls } = this.subject;
    const there = [...this.#listeners].reverse().find(({ binding }) =>
      binding !== undefined && "port" in binding.address && "port" in to && binding.address.port === to.port
    );
    peer.connect(
      tls !== undefined && there?.secure === true ? { tls: { ca: tls.ca, serverName: "localhost" }, ...to } : to,
    );
    return peer;
  }

  /** A connected pair, and its listener. */
  async pair(kind: Kind = "IPv4", hooks: { client?: Hooks; server?: Hooks } = {}): Promise<Pair> {
    const listener = await this.listenOn(kind, { accepted: () => hooks.server });
    const client = this.connect(listener.address, hooks.client);
    const server = await listener.accept();
    await client.connected;
    return { client, server, listener };
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.runtime.setTimer(this.runtime.now() + ms, resolve));
  }

  /** Waits for the microtasks, the callbacks of the runtime's current poll, and the next 20 ms. */
  async settle(): Promise<void> {
    for (let i = 0; i < 3; i++) await new Promise<void>((resolve) => this.runtime.defer(resolve));
    await this.sleep(20);
  }

  /** Checks a condition again and again until it holds. */
  async until(condition: () => boolean, what: string | (() => string)): Promise<void> {
    const deadline = this.runtime.now() + this.subject.patienceMs;
    while (!condition()) {
      const text = typeof what === "string" ? `not in time: ${what}` : what();
      if (this.runtime.now() > deadline) throw new Error(`${text}; ${this.story()}`);
      await this.sleep(5);
    }
  }

  async within<T>(ms: number, promise: Promise<T>, what: () => string): Promise<T> {
    let timer: unknown;
    const late = new Promise<never>((_, reject) => {
      timer = this.runtime.setTimer(this.runtime.now() + ms, () => reject(new Error(`Hangs: ${what()}`)));
    });
    try {
      return await Promise.race([promise, late]);
    } finally {
      this.runtime.clearTimer(timer as object);
    }
  }

  /** Closes what a test has left open: resets the connections and closes the listeners. */
  async end(): Promise<void> {
    for (const listener of this.#listeners) await listener.close();
    for (const peer of this.#peers) peer.reset();
    for (const peer of this.#peers) {
      if (peer.binding !== undefined) {
        await this.within(this.subject.patienceMs, peer.closed, () => `no onClose after reset: ${this.story()}`);
      }
    }
  }

  async sweep(): Promise<void> {
    try {
      await this.end();
    } catch {
      // The first failure is the one to report.
    }
    // For example, a connection may be made late.
    await this.sleep(100);
  }
}

/** A connection with its two ends. */
export interface Pair {
  readonly client: Peer;
  readonly server: Peer;
  readonly listener: Listener;
}

/** Functions that a test runs inside the callbacks of a connection. */
export interface Hooks {
  connect?: (peer: Peer) => void;
  data?: (peer: Peer, chunk: Uint8Array) => void;
  end?: (peer: Peer) => void;
  writable?: (peer: Peer) => void;
  close?: (peer: Peer, error: EventError | undefined) => void;
}

/** Functions that a test runs inside the callbacks of a listener. */
export interface ListenHooks {
  /** Called before `onAccept` has returned the sink. */
  accept?: (peer: Peer) => void;
  /** Returns the hooks of each connection. */
  accepted?: () => Hooks | undefined;
}

/** A promise with the function that resolves it. */
class Signal<T = void> {
  settled = false;
  readonly promise: Promise<T>;
  #resolve: (value: T) => void = () => {};

  constructor() {
    this.promise = new Promise((resolve) => this.#resolve = resolve);
  }

  fire(value: T): void {
    this.settled = true;
    this.#resolve(value);
  }
}

/** One end of a connection: records its callbacks, and checks whether each of them is legal. */
export class Peer implements TransportSink {
  readonly name: string;
  /** The callbacks, in order: `connect`, `data`, `end`, `writable`, `close` or `close:ECONNRESET`. */
  readonly heard: string[] = [];
  /** The chunks that have arrived. */
  readonly chunks: Uint8Array[] = [];
  bytes = 0;
  binding: TransportBinding | undefined;
  error: EventError | undefined;
  /** Whether the chunks are kept. */
  keep = true;
  readonly #scene: Scene;
  readonly #hooks: Hooks;
  readonly #connected: Signal = new Signal();
  readonly #secure: Signal = new Signal();
  readonly #ended: Signal = new Signal();
  readonly #closed: Signal<EventError | undefined> = new Signal();
  #writable: Signal = new Signal();
  #arrived: { readonly n: number; readonly signal: Signal } | undefined;
  /** `write` has returned 0, and `onWritable` has not been called since. */
  owed = false;
  /** That was before the connection: `onConnect` then means that there is space, and `onWritable` may follow. */
  #early = false;
  #inside = 0;
  /** The options of the handshake that belongs to connecting. */
  #tls: TlsConnectOptions | undefined;
  /** The test has closed, released or reset it: only `onClose` may follow. */
  left = false;
  #shut = false;

  constructor(scene: Scene, name: string, hooks: Hooks = {}) {
    this.#scene = scene;
    this.name = name;
    this.#hooks = hooks;
  }

  // The events that a test waits for.

  get connected(): Promise<void> {
    return this.#connected.promise;
  }

  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  get closed(): Promise<EventError | undefined> {
    return this.#closed.promise;
  }

  get isClosed(): boolean {
    return this.#closed.settled;
  }

  get isEnded(): boolean {
    return this.#ended.settled;
  }

  /** The next `onWritable`. */
  get writable(): Promise<void> {
    return this.#writable.promise;
  }

  /** Waits until a number of bytes have arrived in all. */
  atLeast(n: number): Promise<void> {
    if (this.bytes >= n) return Promise.resolve();
    this.#arrived = { n, signal: new Signal() };
    return this.#arrived.signal.promise;
  }

  /** All arrived bytes, in one piece. */
  get received(): Uint8Array {
    return join(this.chunks);
  }

  get text(): string {
    return new TextDecoder().decode(this.received);
  }

  // The calls of a test.

  connect(to: Address | ConnectOptions): void {
    this.#inside++;
    this.#tls = (to as ConnectOptions).tls;
    this.binding = this.#scene.runtime.connect({ ...to }, this);
    this.#inside--;
    assertEquals([this.binding.local, this.binding.remote], [undefined, undefined], "addresses before the connection");
  }

  #do<T>(what: (binding: TransportBinding) => T): T {
    assert(this.binding !== undefined, "there is no binding yet");
    this.#inside++;
    try {
      return what(this.binding);
    } finally {
      this.#inside--;
    }
  }

  write(data: Uint8Array | string): number {
    const chunk = typeof data === "string" ? bytesOf(data) : data;
    const taken = this.#do((binding) => binding.write(chunk));
    this.#took(taken, chunk.length);
    return taken;
  }

  writev(chunks: readonly Uint8Array[]): number {
    const taken = this.#do((binding) => binding.writev!(chunks));
    this.#took(taken, chunks.reduce((sum, chunk) => sum + chunk.length, 0));
    return taken;
  }

  writePart(memory: Uint8Array, start: number, end: number): number {
    const taken = this.#do((binding) => binding.writePart!(memory, start, end));
    this.#took(taken, end - start);
    return taken;
  }

  /** Writes from memory of the adapter. The adapter overwrites it when it lends it again. */
  gather(data: Uint8Array): number {
    const taken = this.#do((binding) => {
      const loan = binding.gather!(Math.min(data.length, 256 * 1024));
      if (loan === undefined) return 0;
      const n = Math.min(data.length, loan.bytes.length);
      loan.bytes.set(data.subarray(0, n));
      const taken = binding.write(loan.bytes.subarray(0, n), loan);
      loan.drop();
      return taken;
    });
    this.#took(taken, data.length);
    return taken;
  }

  #took(taken: number, length: number): void {
    if (!Number.isInteger(taken) || taken < 0 || taken > length) this.#offend(`write took ${taken} of ${length}`);
    if (taken > 0 && this.owed) this.#offend("write took bytes after a 0 and before onWritable");
    if (taken > 0 && (this.left || this.#shut || this.isClosed)) this.#offend("write took bytes after the end");
    if (taken === 0 && length > 0 && !this.owed) {
      this.owed = true;
      this.#writable = new Signal();
    }
  }

  /** Writes all bytes, waiting for space. Rejects when the connection ends. */
  send(data: Uint8Array): Promise<void> {
    const sent = this.#send(data);
    // A test that fails for another reason does not await it.
    sent.catch(() => {});
    return sent;
  }

  /** As {@linkcode send}, but from memory of the adapter if the adapter lends some. */
  async sendGathered(data: Uint8Array): Promise<void> {
    if (this.binding!.gather === undefined) return this.send(data);
    for (let at = 0; at < data.length;) {
      const taken = this.gather(data.subarray(at, at + 1 + at % 20_000));
      at += taken;
      if (taken === 0) await Promise.race([this.writable, this.closed]);
    }
  }

  async #send(data: Uint8Array): Promise<void> {
    for (let at = 0; at < data.length;) {
      const taken = this.write(data.subarray(at));
      at += taken;
      if (taken > 0) continue;
      await Promise.race([this.writable, this.closed]);
      if (this.isClosed) throw this.error ?? new Error(`the connection of ${this.name} was closed`);
    }
  }

  /** Writes until nothing more is accepted. @returns The number of accepted bytes */
  fill(chunk: Uint8Array = new Uint8Array(65_536)): number {
    let total = 0;
    for (;;) {
      const taken = this.write(chunk);
      total += taken;
      if (taken === 0 || total > 64 << 20) return total;
    }
  }

  pauseRead(): void {
    this.#do((binding) => binding.pauseRead());
  }

  resumeRead(): void {
    this.#do((binding) => binding.resumeRead());
  }

  shutdown(): void {
    this.#shut = true;
    this.#do((binding) => binding.shutdownWrite());
  }

  close(): void {
    this.left = true;
    this.#do((binding) => binding.close());
  }

  release(): void {
    this.left = true;
    this.#do((binding) => binding.release());
  }

  reset(): void {
    this.left = true;
    if (this.binding !== undefined) this.#do((binding) => binding.reset());
  }

  // The callbacks of the adapter.

  #offend(what: string): void {
    this.#scene.offences.push(`${this.name}: ${what}, after ${this.heard.slice(-6).join(" ") || "nothing"}`);
  }

  #hear(what: string): void {
    if (this.#inside > 0) this.#offend(`${what} came from inside a method`);
    if (this.isClosed) this.#offend(`${what} came after onClose`);
    if (this.left && what !== "writable" && !what.startsWith("close")) {
      this.#offend(`${what} came after close() or reset()`);
    }
    if (this.heard.at(-1) !== what || what !== "data") this.heard.push(what);
  }

  onConnect(): void {
    if (this.#tls !== undefined) this.#do((binding) => binding.startTls!("client", this.#tls!));
    else this.#connect();
  }

  /** The test gets an accepted connection when its handshake is over. */
  onSecure(): void {
    if (this.#tls !== undefined) this.#connect();
    this.owed = false;
    this.#writable.fire();
    this.#secure.fire();
  }

  get secure(): Promise<void> {
    return this.#secure.promise;
  }

  #connect(): void {
    if (this.heard.length > 0) this.#offend("onConnect was not the first");
    this.#hear("connect");
    this.#early = this.owed;
    this.owed = false;
    this.#connected.fire();
    this.#hooks.connect?.(this);
  }

  onData(chunk: Uint8Array): void {
    this.#hear("data");
    if (this.isEnded) this.#offend("data came after onEnd");
    if (Object.getPrototypeOf(chunk) !== Uint8Array.prototype) this.#offend(`a ${chunk.constructor.name} came as data`);
    if (chunk.length === 0) this.#offend("data came without a byte");
    this.bytes += chunk.length;
    if (this.keep) this.chunks.push(chunk);
    if (this.#arrived !== undefined && this.bytes >= this.#arrived.n) this.#arrived.signal.fire();
    this.#hooks.data?.(this, chunk);
  }

  onEnd(): void {
    if (this.isEnded) this.#offend("onEnd came twice");
    this.#hear("end");
    this.#ended.fire();
    this.#hooks.end?.(this);
  }

  onWritable(): void {
    if (!this.owed && !this.#early) this.#offend("onWritable came although no write was refused");
    this.#early = false;
    this.#hear("writable");
    this.owed = false;
    this.#writable.fire();
    this.#hooks.writable?.(this);
  }

  onClose(error?: EventError): void {
    this.#hear(error === undefined ? "close" : `close:${error.code}`);
    this.error = error;
    this.#closed.fire(error);
    this.#hooks.close?.(this, error);
  }
}

/** A listening socket. */
class Listener implements AcceptSink {
  readonly accepted: Peer[] = [];
  readonly errors: EventError[] = [];
  binding: ListenerBinding | undefined;
  readonly #scene: Scene;
  readonly #hooks: ListenHooks;
  readonly #waiting: Signal<Peer>[] = [];
  #given = 0;

  constructor(scene: Scene, hooks: ListenHooks = {}) {
    this.#scene = scene;
    this.#hooks = hooks;
  }

  get address(): Address {
    assert(this.binding !== undefined, "it does not listen");
    return this.binding.address;
  }

  get port(): number {
    assert("port" in this.address, "it is no port");
    return this.address.port;
  }

  /** Whether its connections have TLS. */
  secure = false;

  async open(options: ListenOptions): Promise<void> {
    this.secure = options.tls !== undefined;
    this.binding = await this.#scene.runtime.listen(options, this);
  }

  /** The next connection, after its handshake if there is one. */
  async accept(): Promise<Peer> {
    const peer = await this.#accept();
    if (peer.binding?.handshaking === true) await Promise.race([peer.secure, peer.closed]);
    return peer;
  }

  #accept(): Promise<Peer> {
    const peer = this.accepted[this.#given];
    const signal = new Signal<Peer>();
    this.#given++;
    if (peer !== undefined) return Promise.resolve(peer);
    this.#waiting.push(signal);
    return signal.promise;
  }

  onAccept(binding: TransportBinding): TransportSink {
    const peer = this.#scene.peer(`server ${this.accepted.length}`, this.#hooks.accepted?.());
    peer.binding = binding;
    this.accepted.push(peer);
    this.#hooks.accept?.(peer);
    // As a real acceptor does: a test that waits continues later, the sink is returned now.
    this.#waiting.shift()?.fire(peer);
    return peer;
  }

  onError(error: EventError): void {
    this.errors.push(error);
    this.#scene.offences.push(`the listener told of ${error.message}`);
  }

  async close(): Promise<void> {
    await this.binding?.close();
  }
}

/** A text in UTF-8. */
export function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Puts chunks together. */
export function join(chunks: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

/** Compares without printing megabytes. */
export function assertSameBytes(actual: Uint8Array, expected: Uint8Array, what: string): void {
  assertEquals(actual.length, expected.length, `${what}: the number of bytes`);
  for (let i = 0; i < actual.length; i++) {
    if (actual[i] !== expected[i]) throw new Error(`${what}: byte ${i} is ${actual[i]} and not ${expected[i]}`);
  }
}
