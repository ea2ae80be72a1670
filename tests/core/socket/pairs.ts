// Connected sockets on a simulator, made without a loop.

import { assert, assertEquals } from "@std/assert";
import { EAGAIN } from "../../../core/flags.ts";
import type { InetAddress } from "../../../core/runtime.ts";
import { ListeningSocket } from "../../../core/api/listening_socket.ts";
import { Socket } from "../../../core/api/socket.ts";
import type { SimHost, SimRuntime } from "../../../runtimes/sim.ts";
import "./checked.ts";

/** Two connected sockets: the end that connected, and the end that was accepted. */
export async function socketPair(
  sim: SimRuntime,
  client: SimHost = sim,
  server: SimHost = sim,
): Promise<[client: Socket, server: Socket]> {
  const hostname = server === sim ? "127.0.0.1" : server.addresses[0] as string;
  const listening = await ListeningSocket.listen(server, { hostname, port: 0 });
  const connecting = Socket.connect(client, { hostname, port: portOf(listening) });
  while (!connecting.connected) await sim.advance(1);
  let accepted = listening.accept();
  for (let ms = 0; accepted === EAGAIN && ms < 1000; ms++) {
    await sim.advance(1);
    accepted = listening.accept();
  }
  assert(accepted !== EAGAIN, "nothing was accepted");
  await listening.close();
  assertEquals(connecting.error, null);
  return [connecting, accepted];
}

/** The port of a listening socket. */
export function portOf(listening: { readonly address: unknown }): number {
  return (listening.address as InetAddress).port;
}

/** All bytes that can be received now; "EOF" ends the list if the peer has finished. */
export function receiveAll(socket: Socket): { bytes: Uint8Array; ended: boolean } {
  const chunks: Uint8Array[] = [];
  const into = new Uint8Array(65_536);
  for (;;) {
    const n = socket.recv(into);
    if (n <= 0) return { bytes: join(chunks), ended: n === 0 };
    chunks.push(into.slice(0, n));
  }
}

/** Whether the connection is over: the peer has finished, or has reset it. */
export function isOver(socket: Socket): boolean {
  return socket.error?.code === "ECONNRESET" || receiveAll(socket).ended;
}

/** One array of several. */
export function join(chunks: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

/** Bytes that differ by position, so that a loss or an exchange is detected. */
export function pattern(length: number, start = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => ((start + i) * 167 + ((start + i) >> 8)) & 255);
}

/** Text as bytes and back. */
export function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
