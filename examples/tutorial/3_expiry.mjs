// Chapter 3: keys that expire. node|deno|bun 3_expiry.mjs [PORT]
import process from "node:process";
import { serve } from "trivent";
import { resp } from "./resp.mjs";
import { Store } from "./store.mjs";

const server = await serve({ hostname: "127.0.0.1", port: Number(process.argv[2] ?? 6400) }, {
  async open(bev) {
    for await (const command of bev.frames(resp)) bev.writeFrame(resp, store.answer(command));
  },
});
// The clock of the runtime: in the simulator it is virtual.
const { base } = server;
const store = new Store(() => base.runtime.now());
base.interval(() => store.sweep(), 1000);
console.log(`listening on 127.0.0.1:${server.port}`);
