// A bufferevent on a simulated connection, a plain socket as its peer, and a record of its
// callbacks.

import { assert, assertEquals } from "@std/assert";
import type { BufferEventCallbacks } from "../../../core/bufferevent/callbacks.ts";
import { type BufferEvent, coreOf } from "../../../core/api/bufferevent.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import type { EventError } from "../../../core/errors.ts";
import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  BEV_EVENT_READING,
  BEV_EVENT_TIMEOUT,
  BEV_EVENT_WRITING,
  BEV_OPT_CLOSE_ON_FREE,
  EAGAIN,
  EVENT_BASE_COUNT_ADDED,
  EVLOOP_NO_EXIT_ON_EMPTY,
} from "../../../core/flags.ts";
import type { EventBase, EventBaseOptions } from "../../../core/api/event_base.ts";
import type { Socket } from "../../../core/api/socket.ts";
import type { SimRuntime } from "../../../runtimes/sim.ts";
import { nothingLeft, world } from "../loop/harness.ts";
import { socketPair } from "../socket/pairs.ts";

/**
 * Records the callbacks of bufferevents: `read 5`, `write 0`, `event READING|EOF`. The numbers are
 * lengths of buffers.
 */
export class Recorder {
  /** The callbacks, in order. */
  readonly lines: string[] = [];
  /** The errors of the event callbacks. */
  readonly errors: (EventError | undefined)[] = [];
  /** More work for the callbacks. */
  on: BufferEventCallbacks<BufferEvent> = {};
  /** Whether each read callback drains the input. */
  drains = true;
  /** The bytes that the read callbacks have taken. */
  readonly received: EvBuffer = new EvBuffer();
  /** The callbacks to set. */
  readonly callbacks: Required<BufferEventCallbacks<BufferEvent>>;
  readonly #stamp: () => string;

  /** Makes a record. With a clock, each line ends with the time: `read 5 at 3`. */
  constructor(now?: () => number) {
    this.#stamp = now === undefined ? (): string => "" : (): string => ` at ${now()}`;
    this.callbacks = {
      read: (bev) => {
        this.lines.push(`read ${bev.input.length}${this.#stamp()}`);
        if (this.drains) bev.readBuffer(this.received);
        this.on.read?.(bev);
      },
      write: (bev) => {
        this.lines.push(`write ${bev.output.length}${this.#stamp()}`);
        this.on.write?.(bev);
      },
      event: (bev, what, error) => {
        this.lines.push(`event ${bits(what)}${this.#stamp()}`);
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

const NAMES = [
  [BEV_EVENT_READING, "READING"],
  [BEV_EVENT_WRITING, "WRITING"],
  [BEV_EVENT_EOF, "EOF"],
  [BEV_EVENT_ERROR, "ERROR"],
  [BEV_EVENT_TIMEOUT, "TIMEOUT"],
  [BEV_EVENT_CONNECTED, "CONNECTED"],
] as const;

/** The names of event bits. */
export function bits(what: number): string {
  const known = NAMES.filter(([bit]) => (what & bit) !== 0);
  assertEquals(known.reduce((sum, [bit]) => sum | bit, 0), what, "only known bits");
  return known.map(([, name]) => name).join("|");
}

/** How to make a rig. */
export interface RigOptions {
  /** `BEV_OPT_` flags besides `BEV_OPT_CLOSE_ON_FREE`. */
  options?: number;
  /** The options of the base. */
  base?: EventBaseOptions;
  /** Whether the lines end with the time since the rig was made. */
  times?: boolean;
}

/** A bufferevent, its peer, and what belongs to them. */
export class Rig {
  readonly sim: SimRuntime;
  readonly base: EventBase;
  readonly bev: SocketBufferEvent;
  readonly peer: Socket;
  readonly record: Recorder;
  /** The time when it was made. */
  readonly begin: number;

  constructor(sim: SimRuntime, base: EventBase, bev: SocketBufferEvent, peer: Socket, record: Recorder) {
    this.sim = sim;
    this.base = base;
    this.bev = bev;
    this.peer = peer;
    this.record = record;
    this.begin = sim.now();
  }

  /** Runs the loop for a span, and returns the callbacks in it. */
  async during(ms: number): Promise<string[]> {
    this.base.loopExit(ms);
    await this.sim.run(this.base.loop(EVLOOP_NO_EXIT_ON_EMPTY));
    return this.record.take();
  }

  /** Lets time pass without the loop: bytes travel, but no callback runs. */
  async still(ms: number): Promise<void> {
    await this.sim.advance(ms);
    assertEquals(this.record.lines, []);
  }

  /** All that the peer can receive now. */
  peerTakes(): EvBuffer {
    const into = new EvBuffer();
    while (this.peer.recvBuffer(into) > 0);
    return into;
  }

  /** The same, as text. */
  peerReceives(): string {
    return this.peerTakes().toString();
  }

  /** How many bytes the peer can receive now. */
  peerCount(): number {
    return this.peerTakes().length;
  }

  /**
   * Fills all queues between the bufferevent and its peer, which does not read, so that output must
   * wait.
   */
  async block(): Promise<number> {
    const chunk = new Uint8Array(65_536);
    const { socket } = this.bev;
    assert(socket !== null);
    let sent = 0;
    for (let ms = 0; ms < 20; ms++) {
      for (let n = socket.send(chunk); n !== EAGAIN; n = socket.send(chunk)) sent += n;
      await this.sim.advance(1);
    }
    return sent;
  }

  /** Frees everything, and fails if something is left. */
  async end(): Promise<void> {
    this.bev.free();
    this.peer.close();
    assertEquals(this.base.numEvents(EVENT_BASE_COUNT_ADDED), 0, "events");
    await nothingLeft(this);
  }
}

/** Makes a bufferevent on a connection. Only writing is enabled. */
export async function rig({ options = 0, base: baseOptions = {}, times = false }: RigOptions = {}): Promise<Rig> {
  const { sim, base } = world(baseOptions);
  const [socket, peer] = await socketPair(sim);
  const begin = sim.now();
  const record = new Recorder(times ? () => sim.now() - begin : undefined);
  const bev = new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE | options);
  bev.setCallbacks(record.callbacks);
  return new Rig(sim, base, bev, peer, record);
}

/** Whether a bufferevent has been freed. */
export function isFreed(bev: BufferEvent): boolean {
  return coreOf(bev).freed;
}
