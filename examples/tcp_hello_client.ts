/**
 * Connects, says hello and closes: `tcp_hello_client port [host]`.
 *
 * After "connecting and sending" of the chapter on socket programming. `send()` returns at once, since the bytes go into
 * a buffer; `close()` lets them leave.
 */

import { EventBase, select } from "trivent";
import { main, port, refuse } from "./_common.ts";

await main("tcp_hello_client port [host]", async ([portText, hostname = "127.0.0.1", ...more]) => {
  if (portText === undefined || more.length > 0) refuse(`Cannot take these arguments`);
  const base = new EventBase(); // socket(TCP), bind(any_port)
  const s = base.connect({ hostname, port: port(portText, 1) });
  await select({ write: [s] }); // connect() has blocked so long
  s.send("hello"); // throws if the connection has failed
  s.close();
});
