/**
 * An HTTP client: `http_client host [port] [path]` prints the reply to `GET path`, with its headers, as it arrives.
 *
 * After the "simple blocking HTTP client" of the libevent book, and in its order: look up the name, connect, send,
 * receive until the end, one step after the other. Each `await` replaces a call of the listing that blocks. There is
 * no loop and no callback, and as in the listing, the program does nothing else meanwhile.
 */

import { EAGAIN, EventBase, type EventError, select, type Socket } from "trivent";
import { fail, main, port, print, refuse } from "./_common.ts";
import { sendAll } from "./_relay.ts";

const CONNECT_TIMEOUT_MS = 10_000;
const READ_TIMEOUT_MS = 30_000;

await main("http_client host [port] [path]", async ([hostname, portText = "80", path = "/", ...more]) => {
  if (hostname === undefined) refuse("Cannot connect without a host name");
  if (more.length > 0) refuse(`Cannot take ${3 + more.length} arguments`);
  if (!/^\/[\x21-\x7e]*$/.test(path)) refuse(`Cannot ask for "${path}": it is not a path`);
  const query = `GET ${path} HTTP/1.0\r\nHost: ${hostname}\r\nConnection: close\r\n\r\n`;

  const socket = await connect(hostname, port(portText, 1));
  try {
    await sendAll(socket, new TextEncoder().encode(query));
    const buffer = new Uint8Array(16384);
    for (;;) {
      const received = socket.recv(buffer);
      if (received === 0) break;
      if (received !== EAGAIN) print(buffer.slice(0, received));
      else if ((await select({ read: [socket] }, READ_TIMEOUT_MS)).read.length === 0) {
        fail(`No answer from ${hostname} for ${READ_TIMEOUT_MS} ms`);
        break;
      }
    }
  } finally {
    socket.close();
  }
});

/** Looks up the name, and connects to the first of its addresses that answers. */
async function connect(hostname: string, port: number): Promise<Socket> {
  const base = new EventBase();
  let error: EventError | null = null;
  for (const address of await base.runtime.resolve(hostname)) {
    const socket = base.connect({ ...address, port, timeoutMs: CONNECT_TIMEOUT_MS });
    await select({ write: [socket] });
    error = socket.error;
    if (error === null) return socket;
    socket.close();
  }
  throw error;
}
