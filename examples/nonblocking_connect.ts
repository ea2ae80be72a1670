/**
 * Connects without blocking and sends 0 bytes to find out whether it is connected: `nonblocking_connect port [host]`.
 *
 * After "sending 0 bytes" of the chapter on socket programming: OK means connected, ENOTCONN means that the attempt
 * goes on, every other error means that it has failed. In between the program can do other work; without other work,
 * `select()` on the socket saves processor time.
 */

import { ENOTCONN, EventBase, select } from "trivent";
import { main, port, refuse } from "./_common.ts";

const EMPTY = new Uint8Array(0);

await main("nonblocking_connect port [host]", async ([portText, hostname = "127.0.0.1", ...more]) => {
  if (portText === undefined || more.length > 0) refuse(`Cannot take these arguments`);
  const base = new EventBase();
  const s = base.connect({ hostname, port: port(portText, 1) });
  let asked = 1;
  try {
    while (s.send(EMPTY) === ENOTCONN) {
      if (asked === 1) console.log("in progress");
      await select({ except: [s] }, 1); // something else to do
      asked++;
    }
    console.log(`connected, asked ${asked} times`);
  } finally {
    s.close();
  }
});
