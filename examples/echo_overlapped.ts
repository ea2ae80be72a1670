/**
 * An echo server on overlapped operations with callbacks: `echo_overlapped [port]`.
 *
 * After the overlapped sample of the chapter on socket programming. An operation goes on by itself, and its callback
 * begins the next one. The program waits nowhere, and the buffer belongs to the operation until it has completed.
 */

import { EventBase, type EventError, type ListeningSocket, Overlapped, type Socket } from "trivent";
import { announce, main, onlyPort } from "./_common.ts";
import { stopped } from "./_poll.ts";

const MAX_BUFFER = 1024;
const PENDING_ACCEPTS = 4;

/** `struct SOCKETINFO`. The callbacks get only the status, which leads to the socket. */
class SocketInfo {
  readonly socket: Socket;
  readonly messageBuffer = new Uint8Array(MAX_BUFFER);
  readonly received = new Overlapped((_overlapped, dataBytes, error) => recvCallback(this, dataBytes, error));
  readonly sent = new Overlapped((_overlapped, dataBytes, error) => sendCallback(this, dataBytes, error));

  constructor(socket: Socket) {
    this.socket = socket;
  }
}

const clients = new Map<Socket, SocketInfo>();
/** Pending completions may still come after that. */
let closed = false;

await main("echo_overlapped [port]", async (args) => {
  const base = new EventBase();
  const listening = await base.listen({ hostname: "127.0.0.1", port: onlyPort(args, 3500) });
  for (let i = 0; i < PENDING_ACCEPTS; i++) {
    listening.acceptOverlapped(
      new Overlapped((overlapped, _bytes, error) => acceptCallback(listening, overlapped, error)),
    );
  }
  announce(listening.address);
  await stopped(base);
  closed = true;
  await listening.close();
  for (const { socket } of clients.values()) socket.close();
});

function acceptCallback(listening: ListeningSocket, overlapped: Overlapped, error: EventError | null): void {
  if (closed) return overlapped.socket?.close();
  if (overlapped.socket !== null) {
    const info = new SocketInfo(overlapped.socket);
    clients.set(info.socket, info);
    info.socket.recvOverlapped(info.messageBuffer, info.received);
  } else console.error(error?.message);
  listening.acceptOverlapped(overlapped);
}

function recvCallback(info: SocketInfo, dataBytes: number, error: EventError | null): void {
  if (closed || dataBytes === 0 || error !== null) return close(info);
  console.log(`From client: ${dataBytes} bytes`);
  info.socket.sendOverlapped(info.messageBuffer.subarray(0, dataBytes), info.sent);
}

function sendCallback(info: SocketInfo, dataBytes: number, error: EventError | null): void {
  if (closed || error !== null) return close(info);
  console.log(`Sent: ${dataBytes} bytes`);
  info.socket.recvOverlapped(info.messageBuffer, info.received);
}

function close(info: SocketInfo): void {
  clients.delete(info.socket);
  info.socket.close();
}
