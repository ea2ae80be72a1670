/**
 * Law 10 of `serve()` (docs/rules.md) and related behaviour: `close()` while connecting, layers of
 * filters, pairs, `pipe()` when a peer resets, and memory that is transferred.
 */

import zlib from "node:zlib";
import { describe, it } from "./suite.ts";
import { assert, assertEquals } from "./assert.ts";
import { Buffer } from "node:buffer";
import {
  BEV_EVENT_ERROR,
  BEV_OK,
  BEV_OPT_CLOSE_ON_FREE,
  BEV_OPT_DEFER_CALLBACKS,
  type BufferEvent,
  type BufferEventFilter,
  bufferEventPair,
  compressionFilter,
  EV_READ,
  EventError,
  EVLOOP_NO_EXIT_ON_EMPTY,
  FilterBufferEvent,
  type ListeningSocket,
  pipe,
  SocketBufferEvent,
  TokenBucketConfig,
} from "../../core/mod.ts";
import { assertSame, pattern, type PollScene, pollScene, portOf, receive } from "./poll_scene.ts";
import type { FullSubject, Stranger } from "./subject.ts";

/** One test: its loop runs. */
interface Here {
  readonly scene: PollScene;
  readonly subject: FullSubject;
}

type Law = (what: string, body: (here: Here) => Promise<void>) => void;

/** Tests one runtime. */
export function layerLaws(name: string, makeSubject: () => FullSubject): void {
  const law: Law = (what, body) => {
    it(what, () => {
      const subject = makeSubject();
      return pollScene(subject, async (scene) => {
        const running = scene.base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
        try {
          await body({ scene, subject });
        } finally {
          // A finalizer may wait for its turn.
          await scene.until(() => scene.base.numEvents(7) === 0, () => `${scene.base.dumpEvents()} are left`);
          scene.base.loopBreak();
          await running;
        }
      });
    });
  };
  describe(`${name}: close() while connecting`, () => connectingLaws(law));
  describe(`${name}: layers`, () => layersLaws(law));
  describe(`${name}: pipe() when a peer resets`, () => pipeLaws(law));
  describe(`${name}: memory that was transferred`, () => detachedLaws(law));
}

// ---- close() while connecting

function connectingLaws(law: Law): void {
  for (const [what, hostname] of [["an address", "127.0.0.1"], ["a name", "localhost"]] as const) {
    law(`to ${what} waits for the connection, delivers the output and gives true`, async (here) => {
      const { scene } = here;
      const listening = await scene.listen();
      for (const how of ["close", "await using", "later"]) {
        const bev = new SocketBufferEvent(scene.base, null, BEV_OPT_CLOSE_ON_FREE);
        bev.connect({ hostname, port: portOf(listening) });
        bev.write(pattern(300_000));
        const received = all(scene, listening);
        if (how === "later") await Promise.resolve();
        if (how === "await using") {
          await (async (): Promise<void> => {
            await using _inner = bev;
          })();
        } else assertEquals(await bev.close(), true);
        assertSame(await received, pattern(300_000));
      }
    });
  }

  law("with TLS waits for the handshake too", async ({ scene, subject }) => {
    const { tls } = subject;
    if (tls === undefined) return;
    const listening = scene.keep(
      await scene.base.listen({ hostname: "127.0.0.1", port: 0, tls: { cert: tls.cert, key: tls.key } }),
    );
    const bev = new SocketBufferEvent(scene.base, null, BEV_OPT_CLOSE_ON_FREE);
    bev.connect({ hostname: "127.0.0.1", port: portOf(listening), tls: { ca: tls.ca, serverName: "localhost" } });
    bev.write(pattern(300_000));
    const closed = bev.close();
    assertSame(await all(scene, listening), pattern(300_000));
    assertEquals(await closed, true);
  });

  law("gives false if nobody listens, and after its timeout", async ({ scene }) => {
    const bev = new SocketBufferEvent(scene.base, null, BEV_OPT_CLOSE_ON_FREE);
    bev.connect({ hostname: "127.0.0.1", port: await scene.freePort() });
    bev.write("lost");
    assertEquals(await bev.close(), false);
    const listening = await scene.listen();
    const late = new SocketBufferEvent(scene.base, null, BEV_OPT_CLOSE_ON_FREE);
    late.connect({ hostname: "127.0.0.1", port: portOf(listening) });
    late.write("lost");
    assertEquals(await late.close({ timeoutMs: 0 }), false);
  });

  law("cancels the attempt if nothing was written", async ({ scene }) => {
    const listening = await scene.listen();
    const bev = new SocketBufferEvent(scene.base, null, BEV_OPT_CLOSE_ON_FREE);
    bev.connect({ hostname: "127.0.0.1", port: portOf(listening) });
    assertEquals(await bev.close(), true);
  });
}

/** All bytes of the next connection, which is closed then. */
async function all(scene: PollScene, listening: ListeningSocket): Promise<Uint8Array> {
  const socket = await scene.accept(listening);
  const chunks = await receive(socket, 30_000_000);
  socket.close();
  return chunks;
}

// ---- layers

/** Takes the bytes in pieces, and passes copies on. */
const copy: BufferEventFilter = (source, destination) => {
  const bytes = new Uint8Array(Math.min(source.length, 100_000));
  source.remove(bytes);
  destination.addReference(bytes);
  return BEV_OK;
};

function filtered(below: BufferEvent, options: number): BufferEvent {
  return new FilterBufferEvent(below, copy, copy, BEV_OPT_CLOSE_ON_FREE | options);
}

/** Three layers that undo each other at the two ends. */
function stack(below: BufferEvent, options = 0): BufferEvent {
  const middle = compressionFilter(below, "deflate", { autoFlush: true, flags: BEV_OPT_CLOSE_ON_FREE | options });
  return filtered(new FilterBufferEvent(middle, null, null, BEV_OPT_CLOSE_ON_FREE | options), options);
}

type Bottoms = (scene: PollScene) => Promise<[BufferEvent, BufferEvent]>;

const KINDS: { readonly [name: string]: Bottoms } = {
  sockets: async (scene) => {
    const [near, far] = (await scene.pair()).map((socket) =>
      new SocketBufferEvent(scene.base, socket, BEV_OPT_CLOSE_ON_FREE)
    );
    return [near!, far!];
  },
  "limited sockets": async (scene) => {
    const [near, far] = await KINDS["sockets"]!(scene);
    const rate = { readRate: 50_000, readBurst: 50_000, writeRate: 50_000, writeBurst: 50_000, tickMs: 10 };
    near.setRateLimit(new TokenBucketConfig(rate));
    return [near, far];
  },
  pairs: (scene) => Promise.resolve(bufferEventPair(scene.base)),
};

/** All bytes that arrive, and the end: "" for a clean end, or the code. */
async function readAll(bev: BufferEvent, into: Uint8Array[]): Promise<string> {
  try {
    for await (const chunk of bev) into.push(chunk);
    return "";
  } catch (error) {
    return (error as EventError).code;
  } finally {
    bev.free();
  }
}

function join(chunks: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

function layersLaws(law: Law): void {
  for (const [kind, bottoms] of Object.entries(KINDS)) {
    law(`free() in a write callback of a filter, three deep over ${kind}, loses nothing`, async ({ scene }) => {
      for (const options of [0, BEV_OPT_DEFER_CALLBACKS]) {
        const [near, far] = await bottoms(scene);
        const [sender, receiver] = [stack(near, options), stack(far, options)];
        const bytes = pattern(300_000);
        sender.setCallbacks({ write: (bev) => bev.free() });
        sender.write(bytes);
        // The compressed stream was not finished, so its rest is missing.
        const received: Uint8Array[] = [];
        assertEquals(await readAll(receiver, received), "EV_COMPRESSED_TRUNCATED");
        assertSame(join(received), bytes);
      }
    });
  }

  for (const kind of ["sockets", "pairs"]) {
    for (const layers of [0, 1, 3]) {
      law(`a single write of 20 MB over ${kind} with ${layers} filters arrives completely`, async ({ scene }) => {
        const [near, far] = await KINDS[kind]!(scene);
        let [sender, receiver] = [near, far];
        for (let i = 0; i < layers; i++) [sender, receiver] = [filtered(sender, 0), filtered(receiver, 0)];
        const body = new Uint8Array(20_000_000);
        for (let i = 0; i < body.length; i += 7919) body[i] = i;
        const received: Uint8Array[] = [];
        const reading = readAll(receiver, received);
        sender.write("header\n");
        sender.write(body);
        sender.shutdown();
        assertEquals(await reading, "");
        assertEquals(await sender.close(), true);
        const bytes = join(received);
        assertSame(bytes.subarray(0, 7), new TextEncoder().encode("header\n"));
        assertSame(bytes.subarray(7), body);
      });
    }
  }

  law("freeing one end of a pair ends the view that waits on the other", async ({ scene }) => {
    for (const filter of [false, true]) {
      const [near, far] = bufferEventPair(scene.base);
      const top = filter ? filtered(far, 0) : far;
      const received: Uint8Array[] = [];
      const reading = readAll(top, received);
      near.write("last");
      await scene.sleep(10);
      near.free();
      assertEquals([await reading, join(received).length], ["", 4]);
    }
  });

  for (const format of ["gzip", "deflate", "deflate-raw", "brotli"] as const) {
    law(`bytes behind the end of ${format} in the same chunk are an error after the whole content`, async (here) => {
      const pack = {
        "gzip": zlib.gzipSync,
        "deflate": zlib.deflateSync,
        "deflate-raw": zlib.deflateRawSync,
        "brotli": zlib.brotliCompressSync,
      }[format];
      for (const length of [10, 100_000]) {
        const [near, far] = await KINDS["sockets"]!(here.scene);
        const received: Uint8Array[] = [];
        const reading = readAll(compressionFilter(far, format, { flags: BEV_OPT_CLOSE_ON_FREE }), received);
        near.output.addReference(new Uint8Array(Buffer.concat([pack(pattern(length)), Buffer.from("no more of it")])));
        near.shutdown();
        assertEquals(await reading, "EV_COMPRESSED_INVALID");
        assertSame(join(received), pattern(length));
        near.free();
      }
    });
  }
}

// ---- pipe()

const MUCH = new Uint8Array(4_000_000);

/** The actions of the two peers of a proxy before one of them resets. */
const PHASES: { readonly [what: string]: (left: Stranger, right: Stranger) => void } = {
  "says nothing": () => {},
  "has sent little": (left) => left.write(pattern(10)),
  "sends and sends": (left) => left.write(MUCH),
  "sends to one that reads": (left, right) => {
    right.read();
    left.write(MUCH);
  },
  "is sent to": (left, right) => {
    left.read();
    right.write(MUCH);
  },
  "is sent to and reads nothing": (_left, right) => right.write(MUCH),
  "does all at once": (left, right) => {
    left.read();
    right.read();
    left.write(MUCH);
    right.write(MUCH);
  },
};

function pipeLaws(law: Law): void {
  for (const [what, act] of Object.entries(PHASES)) {
    law(`that ${what}, it rejects with ECONNRESET, 20 times of 20`, async ({ scene, subject }) => {
      const listening = await scene.listen();
      const codes: string[] = [];
      for (let i = 0; i < 20; i++) {
        const left = await subject.stranger(portOf(listening));
        const one = new SocketBufferEvent(scene.base, await scene.accept(listening), BEV_OPT_CLOSE_ON_FREE);
        const right = await subject.stranger(portOf(listening));
        const other = new SocketBufferEvent(scene.base, await scene.accept(listening), BEV_OPT_CLOSE_ON_FREE);
        const piped = pipe(one, other).then(() => "resolved", (error) => (error as EventError).code);
        act(left, right);
        await scene.sleep(i % 4);
        left.reset();
        codes.push(await piped);
        right.reset();
      }
      assertEquals(codes, Array.from({ length: 20 }, () => "ECONNRESET"));
    });
  }
}

// ---- memory that was transferred

function detachedLaws(law: Law): void {
  law("fails the connection that was to send it, and no other; close() goes on", async ({ scene }) => {
    for (const layers of [0, 2]) {
      for (const length of [100, 5_000_000]) {
        for (const closes of [false, true]) {
          const [near, far] = await KINDS["sockets"]!(scene);
          const [other, others] = await KINDS["sockets"]!(scene);
          let top = near;
          for (let i = 0; i < layers; i++) top = new FilterBufferEvent(top, null, null, BEV_OPT_CLOSE_ON_FREE);
          const told: string[] = [];
          const memory = new Uint8Array(length);
          top.setCallbacks({
            event: (_bev, what, error) => void told.push(`${what & BEV_EVENT_ERROR} ${error?.code}`),
          });
          top.enable(EV_READ);
          top.write("before");
          top.output.addReference(memory);
          // Of many bytes, some have left before.
          if (length > 1000) await scene.sleep(5);
          const taken = structuredClone(memory, { transfer: [memory.buffer as ArrayBuffer] });
          top.write("behind");
          other.write("the others");
          const reading = readAll(far, []);
          const echo: Uint8Array[] = [];
          const echoes = readAll(others, echo);
          if (closes) assertEquals(await top.close({ timeoutMs: 5000 }), false);
          else {
            await scene.until(() => told.length > 0, () => "the error is told");
            assertEquals([...new Set(told)], [`${BEV_EVENT_ERROR} EV_DETACHED`]);
            top.free();
          }
          await reading;
          assertEquals(await other.close(), true);
          assertEquals([await echoes, join(echo).length], ["", 10]);
          assertEquals(taken.length, length);
        }
      }
    }
  });

  law("makes reading the bytes throw an EventError", ({ scene }) => {
    const [near] = bufferEventPair(scene.base);
    const memory = pattern(100);
    near.output.addReference(memory);
    structuredClone(memory, { transfer: [memory.buffer as ArrayBuffer] });
    try {
      near.output.toUint8Array();
      assert(false, "it was read");
    } catch (error) {
      assert(error instanceof EventError && (error as EventError).code === "EV_DETACHED", String(error));
    }
    near.free();
    return Promise.resolve();
  });
}
