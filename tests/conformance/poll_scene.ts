/**
 * Shared by the tests of polling and of datagrams: sockets on a runtime whose loop does not run, and the check that none is
 * left open. Bodies wait only for promises of the library, so that the simulator can drive them.
 */

import { assert, assertEquals } from "./assert.ts";
import type { InetAddress, ListeningSocket, Runtime, Socket } from "../../core/mod.ts";
import { EAGAIN, EventBase, select } from "../../core/mod.ts";
import type { FullSubject } from "./subject.ts";

/** Runs the body of one test, and then checks that it has left nothing open. */
export async function pollScene(subject: FullSubject, body: (scene: PollScene) => Promise<void>): Promise<void> {
  await subject.run(play(subject, body));
}

async function play(subject: FullSubject, body: (scene: PollScene) => Promise<void>): Promise<void> {
  const { runtime } = subject;
  const scene = new PollScene(subject);
  // An earlier test may have closed connections whose ends still wait for each other.
  await scene.until(
    () => runtime.openHandles === 0,
    () => `an earlier test has left ${runtime.openHandles} handles open`,
  );
  let timer: object | number | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = runtime.setTimer(runtime.now() + 3 * subject.patienceMs, () => reject(new Error("Hangs")));
  });
  try {
    await Promise.race([body(scene), late]);
  } finally {
    if (timer !== undefined) runtime.clearTimer(timer);
    await scene.close();
  }
  await scene.until(() => runtime.openHandles === 0, () => `${runtime.openHandles} handles are left open`);
}

/** One test. */
export class PollScene {
  readonly subject: FullSubject;
  readonly runtime: Runtime;
  readonly base: EventBase;
  readonly #open: { close(): unknown }[] = [];

  constructor(subject: FullSubject) {
    const { runtime } = subject;
    this.subject = subject;
    this.runtime = runtime;
    this.base = new EventBase({ runtime });
  }

  /** Closes it at the end of the test. */
  keep<T extends { close(): unknown }>(socket: T): T {
    this.#open.push(socket);
    return socket;
  }

  async listen(): Promise<ListeningSocket> {
    return this.keep(await this.base.listen({ hostname: "127.0.0.1", port: 0 }));
  }

  connect(listening: ListeningSocket): Socket {
    return this.keep(this.base.connect({ port: portOf(listening) }));
  }

  /** A port that nobody listens on. */
  async freePort(): Promise<number> {
    const listening = await this.base.listen({ hostname: "127.0.0.1", port: 0 });
    const port = portOf(listening);
    await listening.close();
    return port;
  }

  /** The next connection. */
  async accept(listening: ListeningSocket): Promise<Socket> {
    for (;;) {
      await select({ read: [listening] });
      const socket = listening.accept();
      if (socket !== EAGAIN) return this.keep(socket);
    }
  }

  async pair(): Promise<[client: Socket, server: Socket]> {
    const listening = await this.listen();
    const client = this.connect(listening);
    const server = await this.accept(listening);
    await select({ write: [client] });
    await listening.close();
    return [client, server];
  }

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => this.runtime.setTimer(this.runtime.now() + ms, resolve));
  }

  /** Checks a condition again and again until it holds. */
  async until(condition: () => boolean, what: () => string): Promise<void> {
    const deadline = this.runtime.now() + this.subject.patienceMs;
    while (!condition()) {
      if (this.runtime.now() > deadline) throw new Error(`Not in time: ${what()}`);
      await this.sleep(5);
    }
  }

  async close(): Promise<void> {
    for (const socket of this.#open.splice(0)) await socket.close();
  }
}

/** The port of a listening socket. */
export function portOf(listening: { readonly address: unknown }): number {
  return (listening.address as InetAddress).port;
}

/** Sends all bytes, waiting for space. */
export async function sendAll(socket: Socket, data: Uint8Array): Promise<void> {
  for (let at = 0; at < data.length;) {
    const n = socket.send(data.subarray(at));
    if (n === EAGAIN) await select({ write: [socket] });
    else at += n;
  }
}

/** Receives a number of bytes, or up to the end of the connection. */
export async function receive(socket: Socket, length: number): Promise<Uint8Array> {
  const into = new Uint8Array(length);
  let at = 0;
  while (at < length) {
    const n = socket.recv(into.subarray(at));
    if (n === EAGAIN) await select({ read: [socket] });
    else if (n === 0) break;
    else at += n;
  }
  return into.subarray(0, at);
}

/** Bytes that differ by position, so that a loss or a swap is detected. */
export function pattern(length: number, seed = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => ((i + seed) * 167 + ((i + seed) >> 8)) & 255);
}

/** Compares without printing megabytes. */
export function assertSame(actual: Uint8Array, expected: Uint8Array): void {
  assertEquals(actual.length, expected.length, "the number of bytes");
  assert(actual.every((byte, i) => byte === expected[i]), "the bytes");
}

/** Bytes as text. */
export function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

/** Text as bytes. */
export function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
