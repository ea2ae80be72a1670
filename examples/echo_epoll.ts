/**
 * An echo server on a poller, as epoll is used: `echo_epoll [port] [--edge]`.
 *
 * After the epoll example of the document on asynchronous socket programming. With `--edge` a socket is reported once
 * when bytes arrive: the program must read until EAGAIN, or the rest is never reported.
 */

import { EAGAIN, EV_ET, EV_READ, EV_WRITE, EventBase, EventError, Poller, type Socket } from "trivent";
import { accept, announce, main, onlyPort } from "./_common.ts";
import { peer, untilStopped } from "./_poll.ts";

const BUFFER_SIZE = 1024;
const MAX_EVENTS = 10;

/** The data of a socket of the poller. */
interface Client {
  socket: Socket;
  /** Bytes that were received and not sent back. */
  unsent: Uint8Array;
}

await main("echo_epoll [port] [--edge]", async (args) => {
  const edge = args.includes("--edge");
  const base = new EventBase();
  const port = onlyPort(args.filter((arg) => arg !== "--edge"), 8080);
  const listening = await base.listen({ hostname: "127.0.0.1", port });
  const poller = new Poller<Client | null>(base);
  const clients = new Set<Client>();
  poller.add(listening, edge ? EV_READ | EV_ET : EV_READ, null);
  announce(listening.address);

  await untilStopped(base, async (stop) => {
    for (;;) {
      const events = await poller.wait(undefined, MAX_EVENTS, { signal: stop });
      for (const { data: client } of events) {
        if (client === null) {
          // Level-triggered, one at a time would do.
          for (let socket = accept(listening); socket !== EAGAIN; socket = accept(listening)) {
            console.log(`New connection, ${peer(socket)}`);
            const fresh = { socket, unsent: new Uint8Array(0) };
            clients.add(fresh);
            poller.add(socket, edge ? EV_READ | EV_WRITE | EV_ET : EV_READ, fresh);
          }
        } else if (!(edge ? echoAll(client) : echoOnce(poller, client))) {
          console.log(`Host disconnected, ${peer(client.socket)}`);
          clients.delete(client);
          client.socket.close(); // and it is out of the poller
        }
      }
    }
  });
  poller.close();
  await listening.close();
  for (const { socket } of clients) socket.close();
});

/**
 * Level-triggered: one step; if there is more to do, the next wait reports it. @returns False if the connection has
 * ended
 */
function echoOnce(poller: Poller<Client | null>, client: Client): boolean {
  const alive = step(client) !== "over";
  if (alive) poller.modify(client.socket, client.unsent.length > 0 ? EV_WRITE : EV_READ);
  return alive;
}

/** Edge-triggered: until there is nothing more to do. @returns False if the connection has ended */
function echoAll(client: Client): boolean {
  for (;;) {
    const how = step(client);
    if (how !== "more") return how === "wait";
  }
}

/** Receives, or sends received bytes. */
function step(client: Client): "more" | "wait" | "over" {
  try {
    if (client.unsent.length > 0) {
      const n = client.socket.send(client.unsent);
      if (n === EAGAIN) return "wait";
      client.unsent = client.unsent.subarray(n);
      return "more";
    }
    const buffer = new Uint8Array(BUFFER_SIZE);
    const n = client.socket.recv(buffer);
    if (n === EAGAIN) return "wait";
    if (n === 0) return "over";
    client.unsent = buffer.subarray(0, n);
    const sent = client.socket.send(client.unsent);
    if (sent !== EAGAIN) client.unsent = client.unsent.subarray(sent);
    return "more";
  } catch (error) {
    if (!(error instanceof EventError)) throw error;
    return "over";
  }
}
