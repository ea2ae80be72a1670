// The rules of reading and writing (V2 to V6, V8, V18) as a model. Whatever is done to a
// bufferevent and whatever its transport does, it runs exactly the callbacks of the model, and has
// the same bytes.

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import {
  BEV_EVENT_READING,
  BEV_OPT_CLOSE_ON_FREE,
  EV_READ,
  EV_WRITE,
  EVENT_BASE_COUNT_ADDED,
  EVLOOP_NO_EXIT_ON_EMPTY,
} from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { ConnectOptions, TransportBinding, TransportSink } from "../../../core/runtime.ts";
import { Socket } from "../../../core/api/socket.ts";
import { simRuntime } from "../../../runtimes/sim.ts";
import { BusyHost } from "../loop/harness.ts";
import { join, pattern } from "../socket/pairs.ts";
import { bits } from "./rig.ts";

/** A transport that the test controls. It accepts bytes while there is space. */
class Transport implements TransportBinding {
  readonly local = undefined;
  readonly remote = undefined;
  sink!: TransportSink;
  room = 0;
  full = false;
  gone = false;
  finished = 0;
  readonly taken: Uint8Array[] = [];

  write(chunk: Uint8Array): number {
    const n = Math.min(chunk.length, this.room);
    if (this.gone || n === 0) {
      this.full = true;
      return 0;
    }
    this.room -= n;
    this.taken.push(chunk.slice(0, n));
    return n;
  }

  makeRoom(n: number): void {
    this.room += n;
    if (!this.full || this.gone) return;
    this.full = false;
    this.sink.onWritable();
  }

  fail(): void {
    this.gone = true;
    this.sink.onClose(new EventError("Cannot go on: connection reset", { code: "ECONNRESET" }));
  }

  shutdownWrite(): void {
    this.finished++;
  }

  reset(): void {
    if (this.gone) return;
    this.gone = true;
    this.sink.onClose();
  }

  close(): void {
    this.reset();
  }

  pauseRead(): void {}
  resumeRead(): void {}
  release(): void {}
  setNoDelay(): void {}
  setKeepAlive(): void {}
  ref(): void {}
  unref(): void {}
}

class Host extends BusyHost {
  readonly transport: Transport = new Transport();

  override connect(_options: ConnectOptions, sink: TransportSink): TransportBinding {
    this.transport.sink = sink;
    return this.transport;
  }
}

/** The model. After each step it does everything that can be done. */
class Model {
  readonly reads: string[] = [];
  readonly writes: string[] = [];
  enabled = EV_WRITE;
  input = 0;
  /** Bytes that have arrived and were not read. */
  staged = 0;
  ended = false;
  failed = false;
  output = 0;
  room = 0;
  /** The transport has reported that it is full, and has not reported space since. */
  full = false;
  readLow = 0;
  readHigh = 0;
  writeLow = 0;
  maxRead = 16_384;
  maxWrite = 0;
  greedy = true;
  finishing = false;
  /** The write callback for a writable socket with nothing to send is due (V2). */
  owed = false;

  read(): void {
    while ((this.enabled & EV_READ) !== 0 && (this.readHigh === 0 || this.input < this.readHigh)) {
      if (this.staged === 0) {
        if (!this.ended && !this.failed) return;
        this.enabled &= ~EV_READ;
        this.reads.push(this.failed ? "event READING|ERROR" : "event READING|EOF");
        return;
      }
      const n = Math.min(this.staged, this.maxRead, this.readHigh === 0 ? Infinity : this.readHigh - this.input);
      this.staged -= n;
      this.input += n;
      if (this.input >= this.readLow) this.tellRead();
    }
  }

  tellRead(): void {
    this.reads.push(`read ${this.input}`);
    if (this.greedy) this.input = 0;
  }

  write(): void {
    if ((this.enabled & EV_WRITE) === 0) return;
    while (this.output > 0) {
      if (this.failed) {
        this.enabled &= ~EV_WRITE;
        this.owed = false;
        this.writes.push("event WRITING|ERROR");
        return;
      }
      const step = this.maxWrite > 0 ? this.maxWrite : this.output;
      const n = Math.min(step, this.output, this.room);
      if (n < Math.min(step, this.output)) this.full = true;
      if (n === 0) return;
      this.output -= n;
      this.room -= n;
      if (this.output <= this.writeLow) this.writes.push(`write ${this.output}`);
    }
    if (!this.owed || (this.full && !this.failed)) return;
    this.owed = false;
    this.writes.push("write 0");
  }

  enable(what: number): void {
    this.enabled |= what;
    if ((what & EV_WRITE) !== 0) this.owed = this.output === 0 && !this.finishing;
  }

  disable(what: number): void {
    if ((what & EV_WRITE) !== 0) this.owed = false;
    this.enabled &= ~what;
  }
}

const size = fc.oneof(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 40_000 }));
const kinds = [
  ...["data", "data", "data", "room", "room", "write", "write", "take", "enable", "enable", "disable"],
  ...["read mark", "write mark", "max read", "max write", "greedy", "trigger", "end", "fail", "shutdown"],
] as const;
const step = fc.record({ kind: fc.constantFrom(...kinds), n: size, what: fc.constantFrom(EV_READ, EV_WRITE, 6) });
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** A bufferevent and its model side by side. */
class Pair {
  readonly bev: SocketBufferEvent;
  readonly transport: Transport;
  readonly model: Model = new Model();
  readonly reads: string[] = [];
  readonly writes: string[] = [];
  readonly #received: Uint8Array[] = [];
  #arrived = 0;
  #written = 0;

  constructor(base: EventBase, host: Host) {
    const socket = Socket.connect(host, { port: 1 });
    this.transport = host.transport;
    this.transport.sink.onConnect();
    this.bev = new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE);
    this.bev.setCallbacks({
      read: (bev) => {
        this.reads.push(`read ${bev.input.length}`);
        if (this.model.greedy) this.#take(bev.input.length);
      },
      write: (bev) => void this.writes.push(`write ${bev.output.length}`),
      event: (_, what) =>
        void ((what & BEV_EVENT_READING) !== 0 ? this.reads : this.writes).push(`event ${bits(what)}`),
    });
  }

  #take(n: number): void {
    const into = new Uint8Array(n);
    this.#received.push(into.slice(0, this.bev.read(into)));
  }

  apply({ kind, n, what }: Step): void {
    const { bev, model, transport } = this;
    const over = model.ended || model.failed;
    if (kind === "data" && !over) {
      transport.sink.onData(pattern(n, this.#arrived));
      this.#arrived += n;
      model.staged += n;
    } else if (kind === "end" && !over && n % 3 === 0) {
      transport.sink.onEnd();
      model.ended = true;
    } else if (kind === "fail" && !model.failed && n % 5 === 0) {
      transport.fail();
      model.failed = true;
    } else if (kind === "room" && !model.failed) {
      transport.makeRoom(n);
      model.room += n;
      model.full = false;
    } else if (kind === "write" && !model.finishing) {
      bev.write(pattern(n, this.#written));
      this.#written += n;
      model.output += n;
      // There is output, so the callback runs when it has left.
      model.owed = model.owed && (model.enabled & EV_WRITE) !== 0;
    } else if (kind === "take") {
      this.#take(n);
      model.input -= Math.min(n, model.input);
    } else if (kind === "enable") {
      bev.enable(what);
      model.enable(what);
    } else if (kind === "disable") {
      bev.disable(what);
      model.disable(what);
    } else if (kind === "read mark") {
      model.readHigh = what === EV_READ ? 0 : n;
      model.readLow = what === EV_WRITE ? 0 : n >> 1;
      bev.setWatermark(EV_READ, model.readLow, model.readHigh);
    } else if (kind === "write mark") {
      model.writeLow = what === EV_READ ? 0 : n >> 1;
      bev.setWatermark(EV_WRITE, model.writeLow, n);
    } else if (kind === "max read") {
      model.maxRead = n;
      bev.setMaxSingleRead(n);
    } else if (kind === "max write") {
      // Large enough to be sent within one step.
      model.maxWrite = what === EV_READ ? 0 : n + 200;
      bev.setMaxSingleWrite(model.maxWrite);
    } else if (kind === "greedy") model.greedy = n % 2 === 0;
    else if (kind === "trigger") {
      bev.trigger(what);
      if ((what & EV_READ) !== 0 && model.input >= model.readLow) model.tellRead();
      if ((what & EV_WRITE) !== 0 && model.output <= model.writeLow) model.writes.push(`write ${model.output}`);
    } else if (kind === "shutdown" && !model.finishing && n % 4 === 0) {
      bev.shutdown();
      model.finishing = true;
    }
    model.read();
    model.write();
  }

  compare(): void {
    const { bev, model, transport } = this;
    assertEquals({ reads: this.reads, writes: this.writes }, { reads: model.reads, writes: model.writes });
    assertEquals(
      { input: bev.input.length, output: bev.output.length, enabled: bev.enabled },
      { input: model.input, output: model.output, enabled: model.enabled },
    );
    const finished = model.finishing && model.output === 0 && (model.enabled & EV_WRITE) !== 0;
    if (finished && !model.failed) assertEquals(transport.finished, 1);
    if (!model.finishing) assertEquals(transport.finished, 0);
  }

  /** Checks that the bytes went in order and once, both ways. */
  compareBytes(): void {
    const received = join([...this.#received, this.bev.input.toUint8Array()]);
    assertEquals(received, pattern(this.#arrived - this.model.staged));
    const sent = join(this.transport.taken);
    assertEquals(join([sent, this.bev.output.toUint8Array()]), pattern(this.#written));
  }
}

describe("a bufferevent calls back exactly as the rules say", () => {
  it("whatever is done to it, and whatever its transport does", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60, size: "max" }), async (steps) => {
        const sim = simRuntime({ maxSteps: 1_000_000 });
        const host = new Host(sim);
        const base = new EventBase({ runtime: host });
        const done = base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
        const pair = new Pair(base, host);
        await sim.advance(1);
        for (const each of steps) {
          pair.apply(each);
          await sim.advance(5);
          pair.compare();
        }
        pair.compareBytes();
        const told = pair.reads.length + pair.writes.length;
        pair.bev.free();
        await sim.advance(1);
        assertEquals(pair.reads.length + pair.writes.length, told, "nothing after free()");
        assertEquals(base.numEvents(EVENT_BASE_COUNT_ADDED), 0);
        assert(host.transport.gone);
        base.loopBreak();
        await sim.run(done);
      }),
      { numRuns: 400, seed: 20 },
    );
  });
});
