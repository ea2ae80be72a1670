/**
 * ROT13 by hand on `node:net`: what the library is compared with on Node, as good as the host allows.
 *
 * - The chunk is Node's own fresh array, so it is rotated in place and copied nowhere; no strings, no stream transforms.
 * - One search from the back finds the last newline; everything up to it leaves with one `write()`, whatever the number
 *   of lines. What follows it is the carry, and is copied only when there is one.
 * - Listeners are shared functions, not closures of each connection.
 * - `write()` queues without end: reading pauses when it says false, until `drain`.
 * - A line of MAX_LINE bytes without newline is sent with one added, so that the carry is bounded too.
 */

import { createServer } from "node:net";

const MAX_LINE = 16384;
const CARRY = Symbol("carry");
const ROT13 = Uint8Array.from({ length: 256 }, (_, c) => {
  const letter = c | 32;
  return letter >= 97 && letter <= 122 ? (letter < 110 ? c + 13 : c - 13) : c;
});

function onData(chunk) {
  for (let i = 0; i < chunk.length; i++) chunk[i] = ROT13[chunk[i]];
  let end = chunk.lastIndexOf(10) + 1;
  let bytes = chunk;
  const carry = this[CARRY];
  if (carry !== null) {
    bytes = Buffer.concat([carry, chunk]);
    if (end > 0) end += carry.length;
    this[CARRY] = null;
  }
  let goOn = true;
  if (end === bytes.length) goOn = this.write(bytes);
  else {
    if (end > 0) goOn = this.write(bytes.subarray(0, end));
    // A copy: a view would keep the whole chunk.
    const rest = Buffer.from(bytes.subarray(end));
    if (rest.length < MAX_LINE) this[CARRY] = rest;
    else goOn = this.write(Buffer.concat([rest, Buffer.from("\n")])) && goOn;
  }
  if (!goOn) this.pause();
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
  socket[CARRY] = null;
  socket.on("data", onData).on("drain", onDrain).on("end", onEnd).on("error", onError);
});
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => process.exit(0));
