// Random programs on both ends of a connection, by web streams, with or without a filter. Every
// promise settles. The received bytes are a prefix of the accepted bytes, and all of them if
// neither end has reset. Nothing is left, and no rejection is unhandled.

import process from "node:process";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import type { BufferEvent } from "../../../core/api/bufferevent.ts";
import { FilterBufferEvent } from "../../../core/api/filter_bufferevent.ts";
import type { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { BEV_OPT_CLOSE_ON_FREE, EVENT_BASE_COUNT_ADDED, EVLOOP_NO_EXIT_ON_EMPTY } from "../../../core/flags.ts";
import { serve } from "../../../core/serve/serve.ts";
import { connect } from "../../../core/serve/sockets.ts";
import type { ByteReadable, ByteWritable } from "../../../core/views/web_streams.ts";
import { simRuntime } from "../../../runtimes/sim.ts";
import { isFreed } from "../bufferevent/rig.ts";
import { portOf } from "../socket/pairs.ts";

const SEEDS = Number(process.env.TRIVENT_FUZZ_SEEDS ?? 120);

/** Numbers below `n`, the same for the same seed. */
function dice(seed: number): (n: number) => number {
  let x = (seed * 2654435761 + 1) >>> 0 || 1;
  return (n) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % n;
  };
}

/** One direction of the connection: a byte's value is its position. */
class Direction {
  /**
   * The number of bytes passed to `write()`, and the number before the first write that has not
   * resolved.
   */
  given = 0;
  accepted = 0;
  received = 0;
  /** Whether an end has done an action that may lose bytes of this direction. */
  cut = false;
  /** Whether all arriving bytes were read, up to the end. */
  readToEnd = false;
  /** Whether the stream was closed or aborted, and not failed before. */
  finished = false;

  chunk(length: number): Uint8Array {
    const start = this.given;
    this.given += length;
    return Uint8Array.from({ length }, (_, i) => (start + i) % 251);
  }

  check(chunk: Uint8Array): void {
    for (let i = 0; i < chunk.length; i++) {
      if (chunk[i] !== (this.received + i) % 251) throw new Error(`byte ${this.received + i} is ${chunk[i]}`);
    }
    this.received += chunk.length;
  }
}

/** All promises of the streams of one run. */
class Promises {
  readonly #open: Map<number, string> = new Map();
  #next = 0;

  add<T>(name: string, promise: Promise<T>, then?: (value: T) => void): void {
    const id = this.#next++;
    this.#open.set(id, name);
    promise.then((value) => {
      this.#open.delete(id);
      then?.(value);
    }, () => this.#open.delete(id));
  }

  get pending(): string[] {
    return [...this.#open.values()];
  }
}

/** One end: acts on its two streams at random. */
class End {
  readonly #reader: ReturnType<ByteReadable["getReader"]>;
  readonly #writer: ReturnType<ByteWritable["getWriter"]>;
  readonly #out: Direction;
  readonly #in: Direction;
  readonly #promises: Promises;
  readonly #roll: (n: number) => number;
  readonly #log: (what: string) => void;
  #failed = false;
  #ended = false;
  #cancelled = false;

  constructor(
    streams: { readable: ByteReadable; writable: ByteWritable },
    out: Direction,
    into: Direction,
    promises: Promises,
    roll: (n: number) => number,
    log: (what: string) => void,
  ) {
    this.#reader = streams.readable.getReader();
    this.#writer = streams.writable.getWriter();
    this.#out = out;
    this.#in = into;
    this.#promises = promises;
    this.#roll = roll;
    this.#log = log;
    promises.add("reader.closed", this.#reader.closed);
    promises.add("writer.closed", this.#writer.closed);
    this.#writer.closed.catch(() => this.#failed = true);
  }

  /** Does one thing. */
  act(): void {
    const out = this.#out;
    switch (this.#roll(12)) {
      case 0:
      case 1:
      case 2:
      case 3: {
        const chunk = out.chunk(this.#ended ? 0 : this.#roll(8) === 0 ? this.#roll(300_000) : this.#roll(3000));
        this.#log(`write ${chunk.length}`);
        const end = out.given;
        // Node 20 throws where it should reject after abort() and close() (nodejs/node#57272).
        const writing = (async () => await this.#writer.write(chunk))();
        this.#promises.add("write", writing, () => out.accepted = Math.max(out.accepted, end));
        break;
      }
      case 4:
      case 5:
      case 6:
      case 7:
        this.read();
        break;
      case 8:
        if (this.#roll(3) > 0) break;
        this.#log("close");
        this.#end();
        this.#promises.add("writer.close()", this.#writer.close());
        break;
      case 9:
        if (this.#roll(6) > 0) break;
        this.#log("abort");
        // Only accepted bytes arrive, and nothing more is read.
        this.#end();
        this.#in.cut = true;
        this.#promises.add("abort()", this.#writer.abort(new Error("enough")));
        break;
      case 10:
        if (this.#roll(6) > 0) break;
        this.#log("cancel");
        this.#cancelled = true;
        this.#in.cut = true;
        this.#promises.add("cancel()", this.#reader.cancel());
        break;
      default:
        this.#promises.add("ready", this.#writer.ready);
    }
  }

  #end(): void {
    if (!this.#ended && !this.#failed) this.#out.finished = true;
    this.#ended = true;
  }

  read(): void {
    if (this.#cancelled) return;
    this.#promises.add("read()", this.#reader.read(), ({ done, value }) => {
      if (done) this.#in.readToEnd = true;
      else this.#in.check(value);
    });
  }

  /** Reads to the end, and finishes. */
  finish(): void {
    if (!this.#ended) {
      this.#end();
      this.#promises.add("writer.close()", this.#writer.close());
    }
    if (this.#cancelled) return;
    this.#promises.add(
      "read()",
      this.#reader.read(),
      ({ done, value }) => {
        if (done) this.#in.readToEnd = true;
        else {
          this.#in.check(value);
          this.finish();
        }
      },
    );
  }
}

async function play(seed: number): Promise<void> {
  const roll = dice(seed);
  const broken = roll(3) === 0;
  const faults = { segmentCut: roll(3) / 4, jitterMs: roll(3), ...(broken ? { connectionReset: 0.02 } : {}) };
  const sim = simRuntime({ seed, faults, maxSteps: 5_000_000 });
  const base = new EventBase({ runtime: sim });
  const looping = base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
  const log: string[] = [];
  const errors: unknown[] = [];
  let closed = 0;
  let bev: SocketBufferEvent | null = null;
  const release: (() => void)[] = [];
  const kind = roll(3);
  const server = await serve({ base, hostname: "127.0.0.1", port: 0, stallTimeoutMs: 5000, drainTimeoutMs: 3000 }, {
    open(opened) {
      bev = opened;
      // Synchronous, pending for ever, or until the end of the test's actions.
      return kind === 0 ? undefined : new Promise<void>((resolve) => kind === 2 && release.push(resolve));
    },
    close: () => void closed++,
    error: (error) => void errors.push(error),
  });
  const socket = connect({ hostname: "127.0.0.1", port: portOf(server) }, {
    base,
    allowHalfOpen: roll(2) === 0,
    ...(roll(3) === 0 ? { highWaterMark: 1 + roll(10_000) } : {}),
  });
  const promises = new Promises();
  const there = new Direction();
  const back = new Direction();
  there.cut = back.cut = broken;
  const client = new End(socket, there, back, promises, roll, (what) => log.push(`client ${what}`));
  promises.add("closed", socket.closed);
  for (let i = roll(3); i > 0; i--) client.act();
  await sim.advance(10);
  const said = (): string => `seed ${seed}: ${log.join(", ")}`;
  if (bev === null) {
    // It was closed before it was connected.
    await sim.advance(10);
  }
  const below = bev as SocketBufferEvent | null;
  const layered = roll(3) === 0 && below !== null && !isFreed(below);
  const near: BufferEvent | null = layered ? new FilterBufferEvent(below, null, null, BEV_OPT_CLOSE_ON_FREE) : below;
  const far = near === null ? null : new End(near, back, there, promises, roll, (what) => log.push(`server ${what}`));
  for (let i = 10 + roll(30); i > 0; i--) {
    const end = far === null || roll(2) === 0 ? client : far;
    end.act();
    const ms = roll(4);
    if (ms > 0) await sim.advance(ms);
    if (roll(150) === 0 && near !== null) {
      there.cut = back.cut = true;
      const how = (["free", "reset", "close"] as const)[roll(3)];
      log.push(`server ${how}()`);
      if (how === "close") void near.close({ timeoutMs: 1000 });
      else if (how === "free") near.free();
      else below?.reset();
    }
    if (roll(150) === 0) {
      there.cut = back.cut = true;
      log.push("client close()");
      promises.add("close()", socket.close());
    }
  }
  log.push("finish");
  for (const resolve of release) resolve();
  client.finish();
  far?.finish();
  await sim.advance(20_000);
  for (const [name, direction] of [["there", there], ["back", back]] as const) {
    const { accepted, given, received } = direction;
    assert(received <= given, `${name}: ${received} of ${given} bytes; ${said()}`);
    // If it was read to its end, it is complete, unless an end has reset it.
    if (direction.readToEnd && direction.finished && !direction.cut && kind !== 2) {
      assert(received >= accepted, `${name}: ${received} of ${accepted} accepted bytes; ${said()}`);
    }
  }
  promises.add("close()", socket.close());
  void server.close({ graceMs: 0 });
  await sim.advance(60_000);
  assertEquals(promises.pending, [], said());
  assertEquals([errors, closed, server.connections, sim.openHandles], [[], near === null ? 0 : 1, 0, 0], said());
  base.loopBreak();
  await sim.run(looping);
  assertEquals(base.numEvents(EVENT_BASE_COUNT_ADDED), 0, `${base.dumpEvents()} ${said()}`);
  base.free();
}

describe("web streams on both ends", () => {
  it(`keep their promises in ${SEEDS} random programs`, async () => {
    const unheard: unknown[] = [];
    const hear = (reason: unknown): void => void unheard.push(reason);
    process.on("unhandledRejection", hear);
    try {
      for (let seed = 1; seed <= SEEDS; seed++) await play(seed);
      await new Promise((resolve) => setTimeout(resolve, 5));
    } finally {
      process.removeListener("unhandledRejection", hear);
    }
    assertEquals(unheard, []);
  });
});
