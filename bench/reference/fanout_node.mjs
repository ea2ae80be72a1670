/**
 * A chat by hand on `node:net`: the whole lines of a client go to all clients. One array is written
 * to all sockets, without a copy. A client that does not read is dropped.
 */

import { Buffer } from "node:buffer";
import { createServer } from "node:net";
import process from "node:process";
import { announce } from "./lifetime.mjs";

const UNSENT_MAX = 1024 * 1024;
const CARRY = Symbol("carry");
const all = new Set();

function onData(chunk) {
  const whole = this[CARRY] === null ? chunk : Buffer.concat([this[CARRY], chunk]);
  const end = whole.lastIndexOf(10) + 1;
  this[CARRY] = end === whole.length ? null : Buffer.from(whole.subarray(end));
  if (end === 0) return;
  const lines = end === whole.length ? whole : whole.subarray(0, end);
  for (const socket of all) {
    if (!socket.write(lines) && socket.writableLength > UNSENT_MAX) socket.destroy();
  }
}

function onEnd() {
  this.end();
}

function onError() {
  this.destroy();
}

function onClose() {
  all.delete(this);
}

const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
  socket[CARRY] = null;
  all.add(socket);
  socket.on("data", onData).on("end", onEnd).on("error", onError).on("close", onClose);
});
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => announce(server.address().port));
