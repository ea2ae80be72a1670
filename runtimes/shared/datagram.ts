/**
 * What the three hosts share of datagram sockets.
 *
 * @module
 */

import type { DatagramSink, InetAddress } from "../../core/runtime.ts";
import { familyOf, show } from "./host.ts";

/** How many bytes of datagrams wait to be sent, where the host queues them: as much as Linux has for a socket. */
export const SEND_QUEUE_BYTES: number = 208 * 1024;
/** What one datagram counts besides its bytes. */
export const DATAGRAM_COST: number = 64;

/** An IPv4 address as a dual-stack socket has it. */
const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

/** The address that a datagram came from; one of IPv4 is told as such on a dual-stack socket, too. */
export function sender(hostname: string, port: number): InetAddress {
  const own = MAPPED.exec(hostname)?.[1] ?? hostname;
  return { hostname: own, port, family: familyOf(own) };
}

/** The host's spelling of where a datagram goes, from a socket of a family. */
export function receiver(to: InetAddress, from: InetAddress): string {
  return to.family === "IPv4" && from.family === "IPv6" ? `::ffff:${to.hostname}` : to.hostname;
}

/** What was tried when a socket has failed to send or receive. */
export function using(address: InetAddress): string {
  return `use the datagram socket on ${show(address)}`;
}

/** What was tried when a datagram could not be sent. */
export function sendingTo(to: InetAddress): string {
  return `send a datagram to ${show(to)}`;
}

/** The sink of a socket that was closed. */
export const DEAF: DatagramSink = { onMessage() {}, onWritable() {}, onError() {} };
