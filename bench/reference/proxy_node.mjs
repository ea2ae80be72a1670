/**
 * A proxy by hand on `node:net`: `proxy_node.mjs PORT PORT_OF_THE_SERVER`.
 *
 * - What clients send is Node's own fresh array, and goes on as it is, with one `write()` and no copy.
 * - What the server sends is read into one buffer of all connections (`onread`, which `net` offers to clients of a server):
 *   Node then allocates nothing for a read. If the kernel does not take all of it, Node still needs the buffer, and the
 *   next read gets another one.
 * - Reading pauses while `write()` says false. Listeners of clients are shared functions.
 */

import { Buffer } from "node:buffer";
import { connect, createServer } from "node:net";
import process from "node:process";
import { announce } from "./lifetime.mjs";

const READ_MAX = 64 * 1024;
const OTHER = Symbol("other");
const there = Number(process.argv[3]);
let buffer = Buffer.allocUnsafeSlow(READ_MAX);
const current = () => buffer;

function onData(chunk) {
  if (!this[OTHER].write(chunk)) this.pause();
}

function onDrain() {
  this[OTHER].resume();
}

function onEnd() {
  this[OTHER].end();
}

function onError() {
  this[OTHER].destroy();
}

const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
  const callback = (length, bytes) => {
    const goOn = client.write(bytes.subarray(0, length));
    if (client.writableLength > 0) buffer = Buffer.allocUnsafeSlow(READ_MAX);
    return goOn;
  };
  const upstream = connect({
    host: "127.0.0.1",
    port: there,
    allowHalfOpen: true,
    noDelay: true,
    onread: { buffer: current, callback },
  });
  client[OTHER] = upstream;
  upstream[OTHER] = client;
  client.on("data", onData).on("drain", onDrain).on("end", onEnd).on("error", onError);
  upstream.on("drain", onDrain).on("end", onEnd).on("error", onError);
});
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => announce(server.address().port));
