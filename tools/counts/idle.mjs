/**
 * Measures the objects that idle connections take in V8's heap: `node --expose-gc idle.mjs trivent|node`. Prints the bytes
 * of all objects for one connection, with those of the host and of the client, which the same process has.
 */

import { createConnection, createServer } from "node:net";
import { text } from "node:stream/consumers";
import { getHeapSnapshot } from "node:v8";
import { serve } from "trivent";

/** Objects of the engine: compiled code and V8's own tables depend on time. */
const KINDS = ["object", "closure", "array", "number", "bigint", "symbol", "regexp"];
const CONNECTIONS = 1000;

const kept = [];
const port = await { trivent: listenTrivent, node: listenNode }[process.argv[2]]();
// The first connections fill tables and caches.
await connect(CONNECTIONS);
const before = await heap();
await connect(CONNECTIONS);
const after = await heap();
const kinds = [...after.keys()].map((kind) => [kind, (after.get(kind) - (before.get(kind) ?? 0)) / CONNECTIONS])
  .filter(([, bytes]) => bytes !== 0).sort(([, a], [, b]) => b - a);
if (process.argv.includes("--list")) { for (const [kind, bytes] of kinds) console.error(bytes.toFixed(2), kind); }
console.log(JSON.stringify({ bytes: kinds.reduce((sum, [, bytes]) => sum + bytes, 0) }));
process.exit(0);

async function listenTrivent() {
  const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
    line(bev, bytes) {
      bev.write(bytes);
    },
  });
  kept.push(server);
  return server.port;
}

async function listenNode() {
  const server = createServer({ allowHalfOpen: true, noDelay: true });
  kept.push(server);
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  server.on("connection", (socket) => kept.push(socket));
  return server.address().port;
}

/** Makes connections one after the other. */
async function connect(count) {
  for (let i = 0; i < count; i++) {
    const client = createConnection({ host: "127.0.0.1", port });
    await new Promise((resolve) => client.once("connect", resolve));
    kept.push(client);
  }
  await new Promise((resolve) => setTimeout(resolve, 200));
}

/** The bytes of objects, by kind and constructor. */
async function heap() {
  for (let i = 0; i < 3; i++) {
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const { snapshot: { meta }, nodes, strings } = JSON.parse(await text(getHeapSnapshot()));
  const width = meta.node_fields.length;
  const [kind, name, size] = ["type", "name", "self_size"].map((field) => meta.node_fields.indexOf(field));
  const sums = new Map();
  for (let at = 0; at < nodes.length; at += width) {
    const type = meta.node_types[kind][nodes[at + kind]];
    const called = strings[nodes[at + name]];
    // Without a name it is the table of a map or a set, of the host's most of the time. It doubles now and then.
    if (!KINDS.includes(type) || (type === "array" && called === "")) continue;
    const key = `${type} ${called}`;
    sums.set(key, (sums.get(key) ?? 0) + nodes[at + size]);
  }
  return sums;
}
