/**
 * A ROT13 server that shares its port with others of its kind: `workers_server.ts PORT TURNS`. It
 * rotates each line that many times, an odd number, which has the same result as once. So a line
 * costs as much as real work.
 */

import process from "node:process";
import {
  BEV_OPT_CLOSE_ON_FREE,
  ConnListener,
  EV_READ,
  EV_WRITE,
  EVBUFFER_EOL_LF,
  EventBase,
  LEV_OPT_CLOSE_ON_FREE,
  LEV_OPT_REUSEABLE_PORT,
  SocketBufferEvent,
} from "../mod.ts";

const [port = 0, turns = 1] = process.argv.slice(2).map(Number);
const ROT13: Uint8Array = Uint8Array.from({ length: 256 }, (_, c) => {
  const letter = c | 32;
  return letter >= 97 && letter <= 122 ? (letter < 110 ? c + 13 : c - 13) : c;
});
const NEWLINE = new Uint8Array([10]);

function rotate(bytes: Uint8Array): Uint8Array {
  for (let turn = 0; turn < turns; turn++) {
    for (let i = 0; i < bytes.length; i++) bytes[i] = ROT13[bytes[i] as number] as number;
  }
  return bytes;
}

const base = new EventBase();
if (!base.runtime.capabilities.reusePort) {
  console.log("this host can't share a port");
  process.exit(3);
}
const listener = await ConnListener.bind(
  base,
  (_listener, socket) => {
    const bev = new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE);
    bev.setCallbacks({
      read({ input, output }) {
        for (let line = input.readln(EVBUFFER_EOL_LF); line !== null; line = input.readln(EVBUFFER_EOL_LF)) {
          output.add(rotate(line));
          output.add(NEWLINE);
        }
      },
      event() {
        bev.free();
      },
    });
    bev.enable(EV_READ | EV_WRITE);
  },
  LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE_PORT,
  -1,
  { hostname: "127.0.0.1", port },
);
const { address } = listener;
if ("port" in address) console.log(`listening on ${address.hostname}:${address.port}`);
for (const name of ["SIGINT", "SIGTERM"]) base.signal(name, () => base.loopExit()).add();
await base.dispatch();
process.exit(0);
