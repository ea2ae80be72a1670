// Random stacks: sockets or pairs with up to three filters over each end.
//
// 1. A seed decides what is at the bottom, the filters, the rate limits, the faults of the network, and what each of the
//    two ends does when: it writes, reads, waits, changes watermarks, half-closes, closes, frees, resets, in callbacks and
//    between them. Now and then a filter, a callback, a change callback or a release callback throws.
// 2. Every byte shows its position. The received bytes are a beginning of the written bytes, in
// order and once. An end that has freed or closed itself gets no callback. A clean end means that
// all has arrived, unless the writer has dropped output by free(). The same holds if close() gives
// true.
// 3. An end that does not end itself is told of the other's end. At the end every promise has
// settled, every filter's onFree has run, and no event, handle or timer is left.
//
// A failure names its seed: `TRIVENT_SEEDS=<first>,<count>` runs others.

import process from "node:process";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import { checkBuffer } from "../../../core/buffer/internal.ts";
import { type BufferEvent, coreOf } from "../../../core/api/bufferevent.ts";
import type { BufferEventFilter } from "../../../core/bufferevent/filter_run.ts";
import { FilterBufferEvent } from "../../../core/api/filter_bufferevent.ts";
import { compressionFilter } from "../../../core/api/compression.ts";
import { bufferEventPair } from "../../../core/api/pair_bufferevent.ts";
import { TokenBucketConfig } from "../../../core/bufferevent/rate_limit.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import type { EventError } from "../../../core/errors.ts";
import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  BEV_EVENT_READING,
  BEV_EVENT_TIMEOUT,
  BEV_EVENT_WRITING,
  BEV_FLUSH,
  BEV_NEED_MORE,
  BEV_OK,
  BEV_OPT_CLOSE_ON_FREE,
  BEV_OPT_DEFER_CALLBACKS,
  EAGAIN,
  EV_READ,
  EV_WRITE,
  EVLOOP_NO_EXIT_ON_EMPTY,
} from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { ListeningSocket } from "../../../core/api/listening_socket.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { ALL_COUNTS } from "../loop/harness.ts";
import { portOf, socketPair } from "../socket/pairs.ts";
import { swapCase } from "./filters.ts";

const [FIRST = 1, COUNT = 300] = (process.env.TRIVENT_SEEDS ?? "").split(",").filter(Boolean).map(Number);
const STEPS = 40;
/** Longer than a whole run, with rate limits. */
const PATIENCE_MS = 20_000;

type Dice = (below: number) => number;

function dice(seed: number): Dice {
  let state = (seed * 7919 + 13) & 0x7fff_ffff;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (state >>> 8) % below;
  };
}

/** The error that is thrown on purpose. */
class Thrown extends Error {}

/** The byte at a position of a direction. */
function byteAt(i: number): number {
  return (i * 167 + (i >> 8)) & 255;
}

/** Passes copies on, in its own pieces. */
const copies: BufferEventFilter = (source, destination, limit) => {
  const bytes = new Uint8Array(Math.min(source.length, 1000, limit < 0 ? Infinity : limit));
  source.remove(bytes);
  destination.add(bytes);
  return BEV_OK;
};

/** Puts a length before the bytes that are there. */
const packs: BufferEventFilter = (source, destination) => {
  const n = Math.min(source.length, 4000);
  if (n === 0) return BEV_NEED_MORE;
  destination.addUint16BE(n);
  source.removeBuffer(destination, n);
  return BEV_OK;
};

const unpacks: BufferEventFilter = (source, destination) => {
  const head = new Uint8Array(2);
  if (source.copyout(head) < 2) return BEV_NEED_MORE;
  const n = (head[0] as number) * 256 + (head[1] as number);
  if (source.length < n + 2) return BEV_NEED_MORE;
  source.drain(2);
  source.removeBuffer(destination, n);
  return BEV_OK;
};

/** A layer: makes a filter over a bufferevent. */
type Layer = (below: BufferEvent, options: number, onFree: () => void) => BufferEvent;

const LAYERS: readonly Layer[] = [
  (below, options, onFree) => new FilterBufferEvent(below, null, null, options, onFree),
  (below, options, onFree) => new FilterBufferEvent(below, swapCase, swapCase, options, onFree),
  (below, options, onFree) => new FilterBufferEvent(below, copies, copies, options, onFree),
  (below, options, onFree) => new FilterBufferEvent(below, unpacks, packs, options, onFree),
  (below, options, onFree) => {
    onFree();
    return compressionFilter(below, "gzip", { autoFlush: true, flags: options, level: 1 });
  },
];

/** A layer that throws once, before it has taken anything. */
function throwing(roll: Dice): Layer {
  let calls = 1 + roll(10);
  const filter: BufferEventFilter = (source, destination) => {
    if (--calls === 0) throw new Thrown("a filter");
    source.removeBuffer(destination, source.length);
    return BEV_OK;
  };
  return (below, options, onFree) => new FilterBufferEvent(below, filter, filter, options, onFree);
}

/** One end, and its state. */
class End {
  readonly name: string;
  readonly bev: BufferEvent;
  readonly #roll: Dice;
  readonly #layers: BufferEvent[];
  /** Whether its filters lose nothing when a change or release callback throws in the middle of them. */
  readonly #sturdy: boolean;
  /** How many bytes were written, and how many were received. */
  written = 0;
  received = 0;
  /** How its input has ended: "EOF", or a code. */
  heard: string | null = null;
  /** Whether a failure of writing, or a timeout, was reported. */
  failed = false;
  /** How it has ended itself. */
  over: "" | "close" | "free" | "reset" = "";
  finished = false;
  /** Freed itself when nothing waited. */
  drainedWhenFreed = false;
  closed: boolean | null = null;
  threw = false;
  /** The numbers of adopted and of released pieces of memory. */
  adopted = 0;
  released = 0;
  /** The number of calls of `drained()` that have not settled. */
  waits = 0;
  /** Whether callbacks only read from now on. */
  calm = false;

  constructor(name: string, bottom: BufferEvent, layers: BufferEvent[], roll: Dice, sturdy: boolean) {
    this.name = name;
    this.#layers = [bottom, ...layers];
    this.bev = layers.at(-1) ?? bottom;
    this.#roll = roll;
    this.#sturdy = sturdy;
    this.bev.setCallbacks({
      read: () => this.#onRead(),
      write: () => this.#onWrite(),
      event: (_bev, what, error) => this.#onEvent(what, error),
    });
    for (const buffer of [this.bev.input, this.bev.output]) {
      if (roll(12) > 0 || !sturdy) continue;
      let calls = 1 + roll(10);
      buffer.addCallback(() => {
        assertEquals(this.over, "", `a change callback of ${this.name}`);
        if (--calls === 0) throw new Thrown("a change callback");
      });
    }
  }

  #called(): void {
    assertEquals(this.over, "", `${this.name} got a callback`);
  }

  #onRead(): void {
    this.#called();
    if (this.calm || this.#roll(4) > 0) this.take(this.calm ? Infinity : this.#roll(3000));
    if (!this.calm && this.#roll(20) === 0) this.act();
  }

  #onWrite(): void {
    this.#called();
    if (this.calm) return;
    const what = this.#roll(12);
    if (what === 0) this.free();
    else if (what < 4) this.write(this.#roll(5000));
    else if (what === 4) this.act();
  }

  #onEvent(what: number, error: EventError | undefined): void {
    this.#called();
    if ((what & BEV_EVENT_CONNECTED) !== 0) return;
    const failed = (what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) !== 0;
    if ((what & BEV_EVENT_EOF) !== 0) this.heard ??= "EOF";
    else if ((what & (BEV_EVENT_READING | BEV_EVENT_WRITING)) !== BEV_EVENT_WRITING) {
      this.heard ??= error?.code ?? "failed";
    }
    if (failed) this.failed = true;
    if (this.calm) return;
    if (this.#roll(3) === 0) this.act();
  }

  take(most: number): void {
    const bytes = new Uint8Array(Math.min(most, this.bev.input.length));
    try {
      this.bev.read(bytes);
    } catch (error) {
      // In a change callback: the bytes are already here.
      if (!(error instanceof Thrown)) throw error;
    }
    for (const byte of bytes) {
      if (byte !== byteAt(this.received)) throw new Error(`${this.name}: byte ${this.received} is wrong`);
      this.received++;
    }
  }

  write(n: number): void {
    if (this.over !== "" || this.finished) return;
    const bytes = Uint8Array.from({ length: n }, (_, i) => byteAt(this.written + i));
    this.written += n;
    if (this.#roll(2) === 0) this.bev.write(bytes);
    else {
      const buffer = new EvBuffer();
      this.adopted++;
      const throws = this.#roll(30) === 0 && this.#sturdy;
      buffer.addReference(bytes, () => {
        this.released++;
        if (throws) throw new Thrown("a release callback");
      });
      this.bev.writeBuffer(buffer);
    }
  }

  free(): void {
    if (this.over !== "") return;
    this.over = "free";
    this.drainedWhenFreed = !this.failed && !this.finished && coreOf(this.bev).queued === 0;
    try {
      this.bev.free();
    } catch (error) {
      // A release callback.
      if (!(error instanceof Thrown)) throw error;
    }
  }

  close(timeoutMs = 5000): void {
    if (this.over !== "") return;
    this.over = "close";
    this.bev.close({ timeoutMs }).then((delivered) => this.closed = delivered, (error) => {
      if (!(error instanceof Thrown)) throw error;
      // Its last call has thrown, so its output is lost, and the promise has reported that.
      this.closed = false;
      this.threw = true;
    });
  }

  /** Does something at random. */
  act(): void {
    if (this.over !== "") return;
    const roll = this.#roll;
    const { bev } = this;
    const what = roll(40);
    const which = [EV_READ, EV_WRITE, EV_READ | EV_WRITE][roll(3)] as number;
    if (what < 14) this.write(roll(10) === 0 ? roll(60_000) : roll(3000));
    else if (what < 20) this.take(roll(5000));
    else if (what < 24) bev.enable(which);
    else if (what < 26) bev.disable(which);
    else if (what < 28) bev.setWatermark(EV_READ, roll(3) === 0 ? roll(500) : 0, roll(2) === 0 ? 0 : 500 + roll(5000));
    else if (what < 30) {
      bev.setWatermark(EV_WRITE, roll(3) === 0 ? roll(2000) : 0, roll(2) === 0 ? 0 : 500 + roll(5000));
    } else if (what < 32 && !this.finished) {
      try {
        bev.flush(EV_WRITE, BEV_FLUSH);
      } catch (error) {
        // A pair without a partner.
        if (!(error instanceof Thrown) && (error as EventError).code !== "EV_UNSUPPORTED") throw error;
      }
    } else if (what < 33) bev.trigger(which);
    else if (what === 33) {
      this.waits++;
      const settled = (): void => void this.waits--;
      bev.drained().then(settled, settled);
    } else if (what === 34) {
      this.finished = true;
      bev.shutdown();
    } else if (what === 35) this.close(roll(3) === 0 ? roll(30) : 5000);
    else if (what === 36) this.free();
    else if (what === 37 && roll(2) === 0) {
      this.over = "reset";
      try {
        coreOf(bev).reset();
      } catch (error) {
        if (!(error instanceof Thrown)) throw error;
      }
    } else if (what === 39) bev.setTimeouts(roll(2) * roll(200), roll(2) * roll(200));
    else if (what === 38 && roll(3) === 0) throw new Thrown("a callback");
  }

  check(): void {
    for (const { input, output } of this.#layers) {
      checkBuffer(input);
      checkBuffer(output);
    }
  }

  /** From here on it only reads. */
  calmDown(): void {
    this.calm = true;
    if (this.over !== "") return;
    this.bev.setTimeouts(null, null);
    // A change callback throws once at most.
    for (let tries = 0; tries < 3; tries++) {
      try {
        this.bev.setWatermark(EV_READ, 0, 0);
        this.bev.setWatermark(EV_WRITE, 0, 0);
        if (!this.failed) this.bev.enable(EV_READ | EV_WRITE);
        else if (this.heard === null) this.bev.enable(EV_READ);
        break;
      } catch (error) {
        if (!(error instanceof Thrown)) throw error;
      }
    }
    this.take(Infinity);
  }
}

interface Stack {
  readonly near: End;
  readonly far: End;
  /** Whether the network may break the connection. */
  readonly fragile: boolean;
  /** The number of filters whose onFree has not run. */
  readonly filters: { made: number; freed: number };
  /** Stops waiting for a connection. @returns Whether there ever was one */
  readonly end: () => boolean;
}

async function bottoms(
  sim: SimRuntime,
  base: EventBase,
  roll: Dice,
): Promise<[near: BufferEvent, far: BufferEvent, end?: () => boolean]> {
  const kind = roll(3);
  if (kind === 0) return bufferEventPair(base, roll(2) * BEV_OPT_DEFER_CALLBACKS);
  const options = BEV_OPT_CLOSE_ON_FREE | roll(2) * BEV_OPT_DEFER_CALLBACKS;
  if (kind === 1) {
    const [near, far] = (await socketPair(sim)).map((socket) => new SocketBufferEvent(base, socket, options));
    return [near!, far!];
  }
  // The near end is still connecting.
  const listening = await ListeningSocket.listen(sim, { hostname: "127.0.0.1", port: 0 });
  const near = new SocketBufferEvent(base, null, options);
  const far = new SocketBufferEvent(base, null, options);
  near.connect({ hostname: "127.0.0.1", port: portOf(listening) });
  let over = false;
  let listens = true;
  const accept = (): void => {
    const socket = listening.accept();
    if (socket === EAGAIN && !over) {
      sim.setTimer(sim.now() + 1, accept);
      return;
    }
    void listening.close();
    if (socket === EAGAIN) return;
    listens = false;
    if (coreOf(far).freed || coreOf(far).closing !== null) socket.reset();
    else far.setSocket(socket);
  };
  accept();
  return [near, far, (): boolean => {
    over = true;
    return !listens;
  }];
}

async function build(sim: SimRuntime, base: EventBase, roll: Dice, fragile: boolean): Promise<Stack> {
  const [near, far, end = (): boolean => true] = await bottoms(sim, base, roll);
  const rate = 500 + roll(20_000);
  const limits = new TokenBucketConfig({
    readRate: rate,
    readBurst: rate * 2,
    writeRate: rate,
    writeBurst: rate,
    tickMs: 1 + roll(10),
  });
  if (roll(3) === 0) near.setRateLimit(limits);
  if (roll(4) === 0) far.setRateLimit(limits);
  const filters = { made: 0, freed: 0 };
  let sturdy = true;
  const tops: [BufferEvent[], BufferEvent[]] = [[], []];
  for (let height = roll(4); height > 0; height--) {
    const which = roll(LAYERS.length);
    const layer = roll(12) === 0 ? throwing(roll) : LAYERS[which] as Layer;
    if (layer !== LAYERS[0] && layer !== LAYERS.at(-1)) sturdy = false;
    for (const [stack, bottom] of [[tops[0], near], [tops[1], far]] as const) {
      const options = BEV_OPT_CLOSE_ON_FREE | (roll(3) === 0 ? BEV_OPT_DEFER_CALLBACKS : 0);
      filters.made++;
      stack.push(layer(stack.at(-1) ?? bottom, options, () => void filters.freed++));
    }
  }
  return {
    near: new End("near", near, tops[0], roll, sturdy),
    far: new End("far", far, tops[1], roll, sturdy),
    fragile,
    filters,
    end,
  };
}

/** Runs the loop for a span, whatever is thrown. @returns Whether something was thrown */
async function during(sim: SimRuntime, base: EventBase, ms: number): Promise<boolean> {
  const until = sim.now() + ms;
  let threw = false;
  for (;;) {
    base.loopExit(Math.max(until - sim.now(), 0));
    try {
      await sim.run(base.loop(EVLOOP_NO_EXIT_ON_EMPTY));
      return threw;
    } catch (error) {
      if (!(error instanceof Thrown)) throw error;
      threw = true;
    }
  }
}

async function play(seed: number): Promise<void> {
  const roll = dice(seed);
  const fragile = roll(4) === 0;
  const faults = roll(2) === 0 && !fragile
    ? {}
    : { jitterMs: roll(3), segmentCut: roll(3) / 5, connectionReset: fragile ? 0.002 : 0 };
  const sim = simRuntime({ seed, latencyMs: roll(4) / 2, faults, maxSteps: 3_000_000 });
  Object.defineProperty(sim, "report", { value: (error: unknown) => assert(error instanceof Thrown, String(error)) });
  const base = new EventBase({ runtime: sim, priorities: 1 + roll(2) });
  const stack = await build(sim, base, roll, fragile);
  const { near, far } = stack;
  const ends = [near, far];
  let threw = false;
  for (let step = 0; step < STEPS; step++) {
    try {
      ends[roll(2)]!.act();
    } catch (error) {
      if (!(error instanceof Thrown)) throw error;
    }
    if (roll(2) === 0) threw = await during(sim, base, roll(6)) || threw;
    for (const end of ends) end.check();
  }
  await settle(sim, base, stack, threw);
  for (const end of ends) end.free();
  stack.end();
  await during(sim, base, 10);
  for (const end of ends) assertEquals(end.released, end.adopted, `memory of ${end.name} that was released`);
  for (const end of ends) assertEquals(end.waits, 0, `calls of drained() of ${end.name} that have not settled`);
  for (const end of ends) if (end.over === "close") assert(end.closed !== null, `${end.name}: close() has not settled`);
  assertEquals(stack.filters.freed, stack.filters.made, "filters that were told that they were freed");
  await sim.advance(6_000);
  assertEquals(
    [base.numEvents(ALL_COUNTS), sim.openHandles, sim.pending],
    [0, 0, 0],
    "events, handles, what is scheduled",
  );
}

/**
 * Lets both ends finish: an end that is still open is told of the other's end. Then checks all
 * results.
 */
async function settle(sim: SimRuntime, base: EventBase, stack: Stack, threw: boolean): Promise<void> {
  const { near, far } = stack;
  // An exception may have left work undone, which the next event resumes.
  for (const end of [near, far]) end.calmDown();
  threw = await during(sim, base, 1) || threw;
  for (const end of [near, far]) end.calmDown();
  // If neither end has ended, one of them ends now.
  for (const end of [near, far]) if (end.over === "" && !end.finished) end.close(PATIENCE_MS / 2);
  const [open] = [near, far].filter(({ over }) => over === "");
  for (let ms = 0; ms < PATIENCE_MS; ms += 100) {
    threw = await during(sim, base, 100) || threw;
    for (const end of [near, far]) if (end.over === "") end.take(Infinity);
    if (
      [near, far].every((end) => end.over === "" ? end.heard !== null : end.over !== "close" || end.closed !== null)
    ) {
      break;
    }
  }
  for (const [from, to] of [[near, far], [far, near]] as const) assertTruth(from, to, stack, threw);
  if (open !== undefined && open.heard === null && !open.failed && !threw && stack.end()) {
    throw new Error(`${open.name} was not told of the end`);
  }
}

function assertTruth(from: End, to: End, stack: Stack, threw: boolean): void {
  const said = `${from.name} (${from.over || "open"}, closed ${from.closed}, finished ${from.finished}) wrote ` +
    `${from.written}, ${to.name} (${to.over || "open"}) got ${to.received} and heard ${to.heard}`;
  assert(to.received <= from.written, said);
  // An end that has ended itself is not told of the rest.
  if (to.over !== "" || threw || from.threw) return;
  const all = to.received === from.written;
  if (from.over === "close" && from.closed === true) assert(all, `close() gave true: ${said}`);
  else if (from.drainedWhenFreed && !stack.fragile) assert(all, `freed when drained: ${said}`);
  else if (to.heard === "EOF" && from.over !== "free") assert(all, `a clean end: ${said}`);
}

describe("random stacks", () => {
  it("lose no byte silently, run no callback of a freed bufferevent, and leave nothing", async () => {
    for (let seed = FIRST; seed < FIRST + COUNT; seed++) {
      try {
        await play(seed);
      } catch (error) {
        throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
      }
    }
  });
});
