// Shared by the tests of pairs, filters and rate limits: a simulator whose loop runs for a span,
// and a check that nothing is left.

import { assertEquals } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import type { BufferEventCallbacks } from "../../../core/bufferevent/callbacks.ts";
import type { BufferEvent } from "../../../core/api/bufferevent.ts";
import { bufferEventPair, type PairBufferEvent, type PairOptions } from "../../../core/api/pair_bufferevent.ts";
import type { EventError } from "../../../core/errors.ts";
import { EVLOOP_NO_EXIT_ON_EMPTY } from "../../../core/flags.ts";
import type { EventBase, EventBaseOptions } from "../../../core/api/event_base.ts";
import type { SimOptions, SimRuntime } from "../../../runtimes/sim.ts";
import { ALL_COUNTS, nothingLeft, world } from "../loop/harness.ts";
import { bits } from "./rig.ts";
import "../socket/checked.ts";

/** A base on a simulator. */
export class Stage {
  readonly sim: SimRuntime;
  readonly base: EventBase;

  constructor(options: EventBaseOptions = {}, simOptions: SimOptions = {}) {
    const { sim, base } = world(options, simOptions);
    this.sim = sim;
    this.base = base;
  }

  /** Runs the loop for a span. */
  async during(ms: number): Promise<void> {
    this.base.loopExit(ms);
    await this.sim.run(this.base.loop(EVLOOP_NO_EXIT_ON_EMPTY));
  }

  /** Runs the loop until it has nothing to wait for. */
  async settle(): Promise<void> {
    assertEquals(await this.sim.run(this.base.dispatch()), "empty");
  }

  /** A pair, and one record of both ends. */
  pair(options = 0, pairOptions: PairOptions = {}): { a: PairBufferEvent; b: PairBufferEvent; log: Record } {
    const [a, b] = bufferEventPair(this.base, options, pairOptions);
    const log = new Record();
    a.setCallbacks(log.of("a"));
    b.setCallbacks(log.of("b"));
    return { a, b, log };
  }

  /** Frees the known bufferevents, and fails if anything else is left. */
  async end(...bevs: BufferEvent[]): Promise<void> {
    for (const bev of bevs) bev.free();
    // A finalizer may wait for its pass.
    await this.sim.run(this.base.dispatch());
    assertEquals(this.base.numEvents(ALL_COUNTS), 0, "events");
    await nothingLeft(this);
  }
}

/** Records the callbacks of bufferevents by name: `a read 5`, `b event READING|EOF`. */
export class Record {
  /** The callbacks, in order. */
  readonly lines: string[] = [];
  /** The errors of the event callbacks. */
  readonly errors: (EventError | undefined)[] = [];
  /** More work for the callbacks. */
  readonly on: BufferEventCallbacks<BufferEvent> = {};
  /** Whether each read callback drains the input. */
  drains = true;
  /** The bytes that the read callbacks have taken. */
  readonly received: EvBuffer = new EvBuffer();

  /** The callbacks of one bufferevent. */
  of(name: string): BufferEventCallbacks<BufferEvent> {
    return {
      read: (bev) => {
        this.lines.push(`${name} read ${bev.input.length}`);
        if (this.drains) bev.readBuffer(this.received);
        this.on.read?.(bev);
      },
      write: (bev) => {
        this.lines.push(`${name} write ${bev.output.length}`);
        this.on.write?.(bev);
      },
      event: (bev, what, error) => {
        this.lines.push(`${name} event ${bits(what)}`);
        this.errors.push(error);
        this.on.event?.(bev, what, error);
      },
    };
  }

  /** The lines since the last call. */
  take(): string[] {
    return this.lines.splice(0);
  }
}
