/** Echo over `node:tls` by hand: `tls_node.mjs PORT CERTIFICATE KEY`. As `echo_node.mjs`, with TLS. */

import { readFileSync } from "node:fs";
import process from "node:process";
import { createServer } from "node:tls";
import { announce } from "./lifetime.mjs";

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

const [port, cert, key] = process.argv.slice(2);
const options = { cert: readFileSync(cert), key: readFileSync(key), allowHalfOpen: true, noDelay: true };
const server = createServer(options, (socket) => {
  socket.on("data", onData).on("drain", onDrain).on("end", onEnd).on("error", onError);
});
server.on("tlsClientError", () => {});
server.listen(Number(port ?? 0), "127.0.0.1", () => announce(server.address().port));
