/**
 * A proxy by hand on `Bun.listen` and `Bun.connect`: `proxy_bun.mjs PORT PORT_OF_THE_SERVER`.
 *
 * A chunk is Bun's own fresh array, and is passed on unchanged within `data`, with one `write()`
 * and no copy. `write()` queues nothing: the rest is kept, and the side that it came from pauses
 * until `drain`.
 */

import process from "node:process";
import { announce } from "./lifetime.mjs";

const there = Number(process.argv[3]);

/**
 * One side of a connection: its socket (none while it is being connected), the other side, and the
 * bytes that wait to be sent on it.
 */
class Side {
  socket = null;
  other = null;
  unsent = [];
  from = 0;
  ended = false;
}

function send(side, chunk) {
  if (side.unsent.length > 0 || side.socket === null) {
    side.unsent.push(chunk);
    return;
  }
  const n = side.socket.write(chunk);
  if (n === chunk.length || n < 0) return;
  side.unsent.push(chunk);
  side.from = n;
  side.other.socket.pause();
}

function flush(side) {
  while (side.unsent.length > 0) {
    const first = side.unsent[0];
    const n = side.socket.write(side.from === 0 ? first : first.subarray(side.from));
    if (n < 0) return;
    side.from += n;
    if (side.from < first.length) return;
    side.unsent.shift();
    side.from = 0;
  }
  if (side.ended) side.socket.shutdown();
  else side.other.socket.resume();
}

const handlers = {
  data(socket, chunk) {
    send(socket.data.other, chunk);
  },
  drain(socket) {
    flush(socket.data);
  },
  end(socket) {
    const { other } = socket.data;
    other.ended = true;
    if (other.unsent.length === 0 && other.socket !== null) other.socket.shutdown();
  },
  error(socket) {
    socket.data.other.socket?.terminate();
  },
  close(socket) {
    socket.data.other.socket?.end();
  },
};

const server = Bun.listen({
  hostname: "127.0.0.1",
  port: Number(process.argv[2] ?? 0),
  allowHalfOpen: true,
  socket: {
    ...handlers,
    open(socket) {
      const client = new Side();
      const upstream = new Side();
      client.socket = socket;
      client.other = upstream;
      upstream.other = client;
      socket.data = client;
      Bun.connect({
        hostname: "127.0.0.1",
        port: there,
        allowHalfOpen: true,
        data: upstream,
        socket: {
          ...handlers,
          open(connected) {
            upstream.socket = connected;
            flush(upstream);
          },
          connectError: () => socket.terminate(),
        },
      }).catch(() => socket.terminate());
    },
  },
});
announce(server.port);
