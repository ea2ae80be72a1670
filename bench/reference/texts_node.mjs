/**
 * The rivals of views for programs on `node:net`; on Deno and Bun, on their `node:net`. The
 * argument after the port chooses:
 *
 * - `readline`: the lines of `node:readline`, by `for await`, as its documentation shows
 * - `split2`: the lines of a pipe through split2
 * - `streams`: a web stream through `TextDecoderStream`
 *
 * Each sends the text back. The answers of one turn leave together (`cork()`), as good code does.
 */

import { createServer } from "node:net";
import process from "node:process";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import split2 from "split2";
import { announce } from "./lifetime.mjs";

const CORKED = Symbol("corked");

function uncork(socket) {
  socket[CORKED] = false;
  socket.uncork();
}

/** @returns Whether more may be written now. */
function answer(socket, text) {
  if (!socket[CORKED]) {
    socket[CORKED] = true;
    socket.cork();
    setImmediate(uncork, socket);
  }
  return socket.write(text);
}

function drained(socket) {
  return new Promise((resolve) => {
    socket.once("drain", resolve).once("close", resolve);
  });
}

const MODES = {
  async readline(socket) {
    for await (const line of createInterface({ input: socket })) {
      if (!answer(socket, `${line}\n`)) await drained(socket);
    }
  },
  split2(socket) {
    const lines = socket.pipe(split2("\n"));
    socket.on("drain", () => lines.resume());
    lines.on("data", (line) => {
      if (!answer(socket, `${line}\n`)) lines.pause();
    });
  },
  async streams(socket) {
    const reader = Readable.toWeb(socket).pipeThrough(new TextDecoderStream()).getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) {
      if (!socket.write(next.value)) await drained(socket);
    }
  },
};

const [port, mode] = process.argv.slice(2);
const server = createServer({ noDelay: true }, (socket) => {
  socket.on("error", () => {});
  MODES[mode](socket)?.catch(() => socket.destroy());
});
server.listen(Number(port ?? 0), "127.0.0.1", () => announce(server.address().port));
