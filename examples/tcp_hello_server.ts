/**
 * Accepts one TCP connection, prints its address and all its bytes: `tcp_hello_server [port]`.
 *
 * After "accepting a connection and receiving data" of the chapter on socket programming. Calls that block there are
 * awaited here, one step after the other.
 */

import { EventBase, select, type Socket } from "trivent";
import { announce, main, onlyPort, print } from "./_common.ts";
import { peer, untilStopped } from "./_poll.ts";

await main("tcp_hello_server [port]", async (args) => {
  const base = new EventBase(); // socket(TCP)
  const s = await base.listen({ hostname: "127.0.0.1", port: onlyPort(args, 5959) }); // bind(5959), listen()
  announce(s.address);

  await untilStopped(base, async (stop) => {
    await select({ read: [s] }, undefined, { signal: stop });
    const s2 = s.accept() as Socket; // select() says that it gives one
    console.log(peer(s2)); // print(getpeeraddr(s2))
    const buffer = new Uint8Array(1024);
    for (;;) {
      await select({ read: [s2] }, undefined, { signal: stop });
      const length = s2.recv(buffer);
      // The peer has finished.
      if (length === 0) break;
      if (length > 0) print(buffer.subarray(0, length));
    }
    s2.close();
  });
  await s.close();
});
