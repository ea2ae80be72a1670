/** A relay between two sockets: bytes from one go to the other, with bounded memory in between. */

import { EAGAIN, select, type Socket } from "trivent";

/** Sends all bytes; waits while there is no space. */
export async function sendAll(socket: Socket, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) {
    const n = socket.send(bytes.subarray(sent));
    if (n === EAGAIN) await select({ write: [socket] });
    else sent += n;
  }
}

/** Passes on all bytes, and then the end. */
export async function pump(from: Socket, to: Socket): Promise<void> {
  const chunk = new Uint8Array(16384);
  for (let n = from.recv(chunk); n !== 0; n = from.recv(chunk)) {
    if (n === EAGAIN) await select({ read: [from] });
    else await sendAll(to, chunk.subarray(0, n));
  }
  to.shutdown();
}
