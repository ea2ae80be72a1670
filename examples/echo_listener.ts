/**
 * An echo server: `echo_listener [port]`. After the example of the libevent book's chapter on connection listeners.
 */

import {
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  BEV_OPT_CLOSE_ON_FREE,
  type BufferEvent,
  ConnListener,
  EV_READ,
  EV_WRITE,
  EventBase,
  type EventError,
  LEV_OPT_CLOSE_ON_FREE,
  LEV_OPT_REUSEABLE,
  type Socket,
  SocketBufferEvent,
  stopOnSignals,
} from "trivent";
import { announce, fail, main, onlyPort } from "./_common.ts";

const MAX_OUTPUT = 65536;

const connections = new Set<BufferEvent>();

/** There is input: move it to the output, without a copy. */
function read(bev: BufferEvent): void {
  bev.output.addBuffer(bev.input);
  // A peer that sends and does not read must wait.
  if (bev.output.length > MAX_OUTPUT) bev.disable(EV_READ);
}

/** The output has drained to its low watermark. */
function write(bev: BufferEvent): void {
  bev.enable(EV_READ);
}

function event(bev: BufferEvent, what: number, error?: EventError): void {
  if ((what & BEV_EVENT_ERROR) !== 0) console.error(`Error from bufferevent: ${error?.message}`);
  connections.delete(bev);
  // At the peer's end, all its bytes go back before the connection is closed.
  if ((what & BEV_EVENT_EOF) !== 0) bev.close();
  else bev.free();
}

/** A connection was accepted: give it a bufferevent. */
function acceptConnection(listener: ConnListener, socket: Socket): void {
  const bev = new SocketBufferEvent(listener.base, socket, BEV_OPT_CLOSE_ON_FREE);
  bev.setCallbacks({ read, write, event });
  bev.setWatermark(EV_WRITE, MAX_OUTPUT / 4, 0);
  bev.enable(EV_READ | EV_WRITE);
  connections.add(bev);
}

function acceptError(listener: ConnListener, error: EventError): void {
  fail(`Got an error ${error.code} (${error.message}) on the listener. Shutting down.`);
  listener.base.loopExit();
}

await main("echo_listener [port]", async (args) => {
  const base = new EventBase();
  const address = { hostname: "127.0.0.1", port: onlyPort(args, 9876) };
  const flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE;
  const listener = await ConnListener.bind(base, acceptConnection, flags, -1, address);
  listener.setErrorCallback(acceptError);

  stopOnSignals({
    base,
    close() {
      listener.free();
      for (const bev of connections) bev.close({ timeoutMs: 1000 });
    },
  });
  announce(listener.address);
  await base.dispatch();
});
