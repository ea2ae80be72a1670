/**
 * Echo by hand on `node:net`: the rival of the library on Node, and on Deno and Bun for programs
 * that use their `node:net`.
 *
 * As good as possible: a chunk goes back unchanged, with one `write()` and no copy; listeners are
 * shared functions; reading pauses while `write()` returns false. `pipe()` does the same with more
 * functions in between.
 */

import { createServer } from "node:net";

function onData(chunk) {
  if (!this.write(chunk)) this.pause();
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
  socket.on("data", onData).on("drain", onDrain).on("end", onEnd).on("error", onError);
});
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => process.exit(0));
