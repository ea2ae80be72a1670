/**
 * An echo server on `select()` for at most 30 clients: `echo_select [port]`. The 31st gets a message.
 *
 * After the example of the document on asynchronous socket programming, whose clients beyond the 30th were accepted and
 * forgotten. Bytes that a client does not read at once are kept, and nothing more is read from it meanwhile.
 */

import { EAGAIN, EventBase, EventError, select, type Socket } from "trivent";
import { accept, announce, main, onlyPort } from "./_common.ts";
import { peer, untilStopped } from "./_poll.ts";

const BUFFER_SIZE = 1024;
const MAX_CLIENTS = 30;

interface Client {
  socket: Socket;
  /** Bytes that were received and not sent back. */
  unsent: Uint8Array;
}

await main("echo_select [port]", async (args) => {
  const base = new EventBase();
  const listening = await base.listen({ hostname: "127.0.0.1", port: onlyPort(args, 8080) });
  const clients: (Client | undefined)[] = new Array(MAX_CLIENTS).fill(undefined);
  announce(listening.address);

  await untilStopped(base, async (stop) => {
    for (;;) {
      const present = clients.filter((client) => client !== undefined);
      const read = present.filter(({ unsent }) => unsent.length === 0).map(({ socket }) => socket);
      const write = present.filter(({ unsent }) => unsent.length > 0).map(({ socket }) => socket);
      const ready = await select({ read: [listening, ...read], write }, undefined, { signal: stop });

      if (ready.read.includes(listening)) {
        const socket = accept(listening);
        if (socket !== EAGAIN) welcome(socket, clients);
      }
      for (const [i, client] of clients.entries()) {
        if (client === undefined) continue;
        if (!ready.read.includes(client.socket) && !ready.write.includes(client.socket)) continue;
        if (echo(client)) continue;
        console.log(`Host disconnected, ${peer(client.socket)}`);
        client.socket.close();
        clients[i] = undefined;
      }
    }
  });
  await listening.close();
  for (const client of clients) client?.socket.close();
});

function welcome(socket: Socket, clients: (Client | undefined)[]): void {
  console.log(`New connection, ${peer(socket)}`);
  const i = clients.indexOf(undefined);
  if (i >= 0) {
    clients[i] = { socket, unsent: new Uint8Array(0) };
    console.log(`Adding to list of sockets as ${i}`);
  } else {
    socket.send(`Sorry, ${MAX_CLIENTS} clients are here already\n`);
    socket.close();
    console.log(`No room for another one`);
  }
}

/** Sends the bytes back. @returns False if the connection has ended */
function echo(client: Client): boolean {
  try {
    if (client.unsent.length === 0) {
      const buffer = new Uint8Array(BUFFER_SIZE);
      const n = client.socket.recv(buffer);
      if (n === 0) return false;
      client.unsent = buffer.subarray(0, Math.max(n, 0));
    }
    const n = client.socket.send(client.unsent);
    if (n !== EAGAIN) client.unsent = client.unsent.subarray(n);
    return true;
  } catch (error) {
    if (!(error instanceof EventError)) throw error;
    return false;
  }
}
