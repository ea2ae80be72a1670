/** The parsers of `parser.mjs` on `node:net`: `parser_node.mjs PORT lines|frames`. */

import { Buffer } from "node:buffer";
import { createServer } from "node:net";
import process from "node:process";
import { announce } from "./lifetime.mjs";
import { join, parse, restOf } from "./parser.mjs";

const REST = Symbol("rest");
const [port, mode] = process.argv.slice(2);

function onData(chunk) {
  const bytes = join(this[REST], chunk);
  const { start, answers } = parse(mode, bytes);
  this[REST] = restOf(bytes, start);
  if (answers.length === 0) return;
  // A copy, because Node may need it after the call.
  if (!this.write(Buffer.from(answers))) this.pause();
}

function onDrain() {
  this.resume();
}

function onEnd() {
  this.end();
}

function onError() {
  this.destroy();
}

const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  socket[REST] = null;
  socket.on("data", onData).on("drain", onDrain).on("end", onEnd).on("error", onError);
});
server.listen(Number(port ?? 0), "127.0.0.1", () => announce(server.address().port));
