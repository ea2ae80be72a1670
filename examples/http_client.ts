/**
 * An HTTP client: `http_client host [port] [path]` prints the reply to `GET path`, its headers too, as it comes.
 *
 * After the "simple blocking HTTP client" of the libevent book, without the blocking: the name is looked up, the
 * connection made and the request sent while the loop runs.
 */

import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_ERROR,
  BEV_EVENT_TIMEOUT,
  BEV_OPT_CLOSE_ON_FREE,
  EV_READ,
  EventBase,
  SocketBufferEvent,
} from "../mod.ts";
import { fail, main, port, print, refuse } from "./_common.ts";

const CONNECT_TIMEOUT_MS = 10_000;
const READ_TIMEOUT_MS = 30_000;

await main("http_client host [port] [path]", async ([hostname, portText = "80", path = "/", ...more]) => {
  if (hostname === undefined) refuse("Cannot connect without a host name");
  if (more.length > 0) refuse(`Cannot take ${3 + more.length} arguments`);
  if (!/^\/[\x21-\x7e]*$/.test(path)) refuse(`Cannot ask for "${path}": it is no path`);
  const address = { hostname, port: port(portText, 1) };

  const base = new EventBase();
  const bev = new SocketBufferEvent(base, null, BEV_OPT_CLOSE_ON_FREE);
  bev.setCallbacks({
    read({ input }) {
      print(input.toUint8Array());
      input.drain(input.length);
    },
    event(bev, what, error) {
      if ((what & BEV_EVENT_CONNECTED) !== 0) return;
      if ((what & BEV_EVENT_TIMEOUT) !== 0) {
        fail(error?.message ?? `No answer from ${hostname} for ${READ_TIMEOUT_MS} ms`);
      } else if ((what & BEV_EVENT_ERROR) !== 0) fail(error?.message ?? "The connection has failed");
      // Otherwise it is the end of the reply.
      bev.free();
    },
  });
  // While connecting, the timeout of writing is the one of the attempt.
  bev.setTimeouts(READ_TIMEOUT_MS, CONNECT_TIMEOUT_MS);
  bev.enable(EV_READ);
  // It waits in the output until there is a connection.
  bev.write(`GET ${path} HTTP/1.0\r\nHost: ${hostname}\r\nConnection: close\r\n\r\n`);
  bev.connect(address);
  await base.dispatch();
});
