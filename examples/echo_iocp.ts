/**
 * An echo server on a completion port with several waiters: `echo_iocp [port]`.
 *
 * After "IOCP" of the chapter on socket programming. A free waiter takes the next completion of any socket. A socket
 * has one operation in progress, so that no two waiters work on it at the same time.
 */

import { type Completion, CompletionPort, EventBase, Overlapped, type Socket } from "trivent";
import { announce, main, onlyPort } from "./_common.ts";
import { peer, untilStopped } from "./_poll.ts";

const MAX_BUFFER = 1024;
const WAITERS = 4;
const PENDING_ACCEPTS = 4;

/** The data of a socket; the key of the listening one is null. */
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
  // With a buffer, an accept would complete with the first data, so a silent client would delay it.
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

/** Sends received bytes back. */
function process(userPtr: UserPtr, bytes: number): void {
  if (bytes === 0) return close(userPtr);
  userPtr.socket.sendOverlapped(userPtr.data.subarray(0, bytes), userPtr.sendOverlapped);
}

function close({ socket }: UserPtr): void {
  console.log(`Host disconnected, ${peer(socket)}`);
  clients.delete(socket);
  socket.close();
}
