/**
 * An echo server on a completion port with several waiters: `echo_iocp [port]`.
 *
 * After "IOCP" of the chapter on socket programming. Whoever is free takes the next completion, whichever socket it is
 * of; a socket has one operation under way, so that no two of them work on it at a time.
 */

import { type Completion, CompletionPort, EventBase, Overlapped, type Socket } from "trivent";
import { announce, main, onlyPort } from "./_common.ts";
import { peer, untilStopped } from "./_poll.ts";

const MAX_BUFFER = 1024;
const WAITERS = 4;
const PENDING_ACCEPTS = 4;

/** What belongs to a socket; the key of the listening one is null. */
interface UserPtr {
  socket: Socket;
  data: Uint8Array;
  receiveOverlapped: Overlapped;
  sendOverlapped: Overlapped;
}

const clients = new Set<Socket>();

await main("echo_iocp [port]", async (args) => {
  const base = new EventBase();
  const listening = await base.listen({ hostname: "127.0.0.1", port: onlyPort(args, 3500) });
  const iocp = new CompletionPort<UserPtr | null>(base); // 1
  iocp.associate(listening, null);
  // With a buffer, an accept would bring the first data in the same completion; a client that says nothing holds it then.
  for (let i = 0; i < PENDING_ACCEPTS; i++) listening.acceptOverlapped(new Overlapped());
  announce(listening.address);

  /** The completion of an accept: the connection, with both addresses. */
  function accepted({ overlapped, error }: Completion): void {
    const { socket } = overlapped as Overlapped;
    listening.acceptOverlapped(overlapped as Overlapped);
    if (socket === null) return console.error(error?.message);
    console.log(`New connection, ${peer(socket)}`);
    const userPtr = {
      socket,
      data: new Uint8Array(MAX_BUFFER),
      receiveOverlapped: new Overlapped(),
      sendOverlapped: new Overlapped(),
    };
    clients.add(socket);
    iocp.associate(socket, userPtr); // 2
    socket.recvOverlapped(userPtr.data, userPtr.receiveOverlapped);
  }

  async function waiter(stop: AbortSignal): Promise<void> {
    for (;;) {
      const event = await iocp.wait(undefined, { signal: stop }); // 3: one at a time
      if (event === null) continue;
      const { key: userPtr, overlapped, bytes, error } = event; // 5
      if (userPtr === null) accepted(event);
      else if (error !== null) close(userPtr);
      else if (overlapped === userPtr.receiveOverlapped) process(userPtr, bytes);
      else userPtr.socket.recvOverlapped(userPtr.data, userPtr.receiveOverlapped); // 6
    }
  }

  await untilStopped(base, (stop) => Promise.all(Array.from({ length: WAITERS }, () => waiter(stop))));
  iocp.close();
  await listening.close();
  for (const socket of clients) socket.close();
});

/** Sends back what was received. */
function process(userPtr: UserPtr, bytes: number): void {
  if (bytes === 0) return close(userPtr);
  userPtr.socket.sendOverlapped(userPtr.data.subarray(0, bytes), userPtr.sendOverlapped);
}

function close({ socket }: UserPtr): void {
  console.log(`Host disconnected, ${peer(socket)}`);
  clients.delete(socket);
  socket.close();
}
