/**
 * A ROT13 server on bufferevents: `rot13_bufferevent [PORT] [--max-line BYTES]`.
 *
 * After the "simpler ROT13 server with Libevent" of the libevent book. The bufferevent reads and writes by itself.
 * The program only takes lines from its input and puts answers into its output.
 */

import {
  BEV_EVENT_EOF,
  BEV_OPT_CLOSE_ON_FREE,
  type BufferEvent,
  EAGAIN,
  EV_PERSIST,
  EV_READ,
  EV_WRITE,
  EVBUFFER_EOL_LF,
  EventBase,
  SocketBufferEvent,
  stopOnSignals,
} from "trivent";
import { accept, announce, main, named, port } from "./_common.ts";
import { rot13 } from "./_rot13.ts";

const MAX_OUTPUT = 32768;
let maxLine = 16384;

await main("rot13_bufferevent [PORT] [--max-line BYTES]", async ([where = "40713", ...args]) => {
  maxLine = named(args, { "--max-line": maxLine })["--max-line"];
  const base = new EventBase();
  const listening = await base.listen({ hostname: "127.0.0.1", port: port(where, 0) });
  const connections = new Set<BufferEvent>();

  const accepting = base.event(listening, EV_READ | EV_PERSIST, () => {
    for (let socket = accept(listening); socket !== EAGAIN; socket = accept(listening)) {
      const bev = new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE);
      bev.setCallbacks({ read, write, event });
      // At most one line of input, and a few lines of output.
      bev.setWatermark(EV_READ, 0, maxLine);
      bev.setWatermark(EV_WRITE, MAX_OUTPUT / 4, 0);
      bev.enable(EV_READ | EV_WRITE);
      connections.add(bev);
    }
  });
  accepting.add();

  function event(bev: BufferEvent, what: number): void {
    connections.delete(bev);
    // The peer has finished; it still gets its answers. After an error there is no peer to answer.
    if ((what & BEV_EVENT_EOF) !== 0) bev.close();
    else bev.free();
  }

  stopOnSignals({
    base,
    close() {
      accepting.free();
      listening.close();
      for (const bev of connections) bev.close({ timeoutMs: 1000 });
    },
  });
  announce(listening.address);
  await base.dispatch();
});

function read(bev: BufferEvent): void {
  const { input, output } = bev;
  for (let line = input.readln(EVBUFFER_EOL_LF); line !== null; line = input.readln(EVBUFFER_EOL_LF)) {
    output.add(rot13(line));
    output.add("\n");
  }
  if (input.length >= maxLine) {
    // Too long; process the bytes so far, so that the buffer does not grow for ever.
    output.add(rot13(input.toUint8Array()));
    output.add("\n");
    input.drain(input.length);
  }
  // A peer that sends and does not read its answers must wait, too.
  if (output.length > MAX_OUTPUT) bev.disable(EV_READ);
}

/** The output has drained to its low watermark. */
function write(bev: BufferEvent): void {
  bev.enable(EV_READ);
}
