/** The server behind the proxy in the test of hostile clients. */

import { type AddressInfo, createServer, type Server, type Socket } from "node:net";

/** The first line of an honest client of a proxy. After it, the server echoes. */
export const HONEST = "honest\n";

/** A server behind a proxy. The first word of a client decides whether it echoes, resets, ends, is silent or floods. */
export async function startUpstream(): Promise<{ port: number; close(): void }> {
  const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on("error", () => {});
    socket.once("data", (first: Buffer) => {
      if (first.subarray(0, HONEST.length).toString() === HONEST) {
        socket.write(first);
        socket.pipe(socket);
        return;
      }
      switch (/^[a-z]+/.exec(first.subarray(0, 20).toString())?.[0]) {
        case "reset":
          return void socket.resetAndDestroy();
        case "leave":
          return void socket.destroy();
        case "end":
          socket.end("that is all");
          return void socket.resume();
        case "silence":
          return void socket.pause();
        case "flood":
          return flood(socket);
        default:
          socket.write(first);
          socket.pipe(socket);
      }
    });
    socket.on("end", () => socket.end());
  });
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, resolve));
  return {
    port: (server.address() as AddressInfo).port,
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Sends 4 MiB without being asked for data. */
function flood(socket: Socket): void {
  const piece = Buffer.alloc(64 << 10, "flood ");
  let left = 64;
  const more = (): void => {
    while (left > 0 && socket.writable) {
      left--;
      if (!socket.write(piece)) return void socket.once("drain", more);
    }
    socket.end();
  };
  more();
}
