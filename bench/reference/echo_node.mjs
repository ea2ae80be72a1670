/**
 * Echo by hand on `node:net`: what the library is compared with on Node, and on Deno and Bun for those who use their
 * `node:net`.
 *
 * As good as it gets: the chunk that came goes back as it is, with one `write()` and no copy; listeners are shared
 * functions; reading pauses while `write()` says false. `pipe()` does the same with more functions in between.
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
