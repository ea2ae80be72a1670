/**
 * The echo server that the benchmark measures: `addBuffer()` moves the input to the output, without
 * a copy.
 */

import process from "node:process";
import {
  BEV_EVENT_EOF,
  BEV_OPT_CLOSE_ON_FREE,
  type BufferEventCallbacks,
  ConnListener,
  EV_READ,
  EV_WRITE,
  EventBase,
  LEV_OPT_CLOSE_ON_FREE,
  SocketBufferEvent,
} from "../mod.ts";

type Bev = SocketBufferEvent<unknown>;

const MAX_OUTPUT = 1024 * 1024;
/**
 * Without this a callback gets at most 16 KiB, as in libevent. A callback that takes the whole
 * input needs a larger value.
 */
const MAX_SINGLE_READ = 1024 * 1024;

const serving: BufferEventCallbacks<Bev> = {
  read(bev) {
    bev.output.addBuffer(bev.input);
    // Only a connection whose peer does not read pays for a write callback.
    if (bev.output.length > MAX_OUTPUT) {
      bev.disable(EV_READ);
      bev.setCallbacks(waiting);
    }
  },
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
    bev.setMaxSingleRead(MAX_SINGLE_READ);
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
