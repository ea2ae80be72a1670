/**
 * ROT13 on bufferevents that share their callbacks, for the parts of the benchmark that do not
 * measure natural code. A second argument of `eachLine` takes the lines without a view for each.
 */

import process from "node:process";
import { rot13 } from "../examples/_rot13.ts";
import {
  BEV_EVENT_EOF,
  BEV_OPT_CLOSE_ON_FREE,
  type BufferEventCallbacks,
  ConnListener,
  EV_READ,
  EV_WRITE,
  EVBUFFER_EOL_LF,
  EventBase,
  LEV_OPT_CLOSE_ON_FREE,
  SocketBufferEvent,
} from "../mod.ts";

type Bev = SocketBufferEvent<unknown>;

const MAX_LINE = 64 * 1024;
const MAX_OUTPUT = 256 * 1024;
const NEWLINE = new Uint8Array([10]);

function afterLines(bev: Bev): void {
  const { input, output } = bev;
  if (input.length >= MAX_LINE) {
    output.add(rot13(input.toUint8Array()));
    output.add(NEWLINE);
    input.drain(input.length);
  }
  // Only a connection whose peer does not read pays for a write callback.
  if (output.length > MAX_OUTPUT) {
    bev.disable(EV_READ);
    bev.setCallbacks(waiting);
  }
}

function readLines(bev: Bev): void {
  const { input, output } = bev;
  for (let line = input.readln(EVBUFFER_EOL_LF); line !== null; line = input.readln(EVBUFFER_EOL_LF)) {
    output.add(rot13(line));
    output.add(NEWLINE);
  }
  afterLines(bev);
}

/**
 * The replies of one turn, which leave together. A turn brings at most the high watermark, and
 * waiting bytes.
 */
const replies = new Uint8Array(4 * MAX_LINE);
let filled = 0;
/**
 * Up to this length a loop copies a line faster than `set()` of a view. For 64 bytes: 140 to 180 ns and 55 on Node 20, 50 and 55 on
 * Deno, 35 and 80 on Bun.
 */
const LOOP_BYTES = "Bun" in globalThis ? 256 : 32;

function oneLine(bytes: Uint8Array, start: number, end: number): void {
  let at = filled;
  if (end - start > LOOP_BYTES) {
    replies.set(bytes.subarray(start, end), at);
    at += end - start;
  } else for (let i = start; i < end; i++) replies[at++] = bytes[i] as number;
  replies[at] = 10;
  filled = at + 1;
}

function eachLine(bev: Bev): void {
  const { input, output } = bev;
  filled = 0;
  input.eachLine(EVBUFFER_EOL_LF, oneLine);
  if (filled > 0) output.add(rot13(replies.subarray(0, filled)));
  afterLines(bev);
}

const serving: BufferEventCallbacks<Bev> = {
  read: process.argv[3] === "eachLine" ? eachLine : readLines,
  event(bev, what) {
    if ((what & BEV_EVENT_EOF) !== 0) bev.close();
    else bev.free();
  },
};

const waiting: BufferEventCallbacks<Bev> = {
  ...serving,
  write(bev) {
    bev.setCallbacks(serving);
    bev.enable(EV_READ);
  },
};

const base = new EventBase();
const listener = await ConnListener.bind(
  base,
  (_listener, socket) => {
    const bev: Bev = new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE);
    bev.setCallbacks(serving);
    bev.setWatermark(EV_READ, 0, MAX_LINE);
    bev.enable(EV_READ | EV_WRITE);
  },
  LEV_OPT_CLOSE_ON_FREE,
  -1,
  { hostname: "127.0.0.1", port: Number(process.argv[2] ?? 0) },
);
for (const name of ["SIGINT", "SIGTERM"]) base.signal(name, () => base.loopExit()).add();
const { address } = listener;
if ("port" in address) console.log(`listening on ${address.hostname}:${address.port}`);
await base.dispatch();
process.exit(0);
