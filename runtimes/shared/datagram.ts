/**
 * Parts of datagram sockets that all adapters share.
 *
 * @module
 */

import type { DatagramSink, InetAddress } from "../../core/runtime.ts";
import { familyOf, show } from "./host.ts";

/** How many bytes of datagrams may wait in a runtime's queue: as many as Linux has for a socket. */
export const SEND_QUEUE_BYTES: number = 208 * 1024;
/** The bytes that each datagram counts besides its own. */
export const DATAGRAM_COST: number = 64;

/** The form of an IPv4 address on a dual-stack socket. */
const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

/** The address that a datagram came from. IPv4 is reported as IPv4, also on a dual-stack socket. */
export function sender(hostname: string, port: number): InetAddress {
  const own = MAPPED.exec(hostname)?.[1] ?? hostname;
  return { hostname: own, port, family: familyOf(own) };
}

/** The runtime's spelling of a destination, for a socket of a family. */
export function receiver(to: InetAddress, from: InetAddress): string {
  return to.family === "IPv4" && from.family === "IPv6" ? `::ffff:${to.hostname}` : to.hostname;
}

/** The words for what was tried when a socket fails to send or receive. */
export function using(address: InetAddress): string {
  return `use the datagram socket on ${show(address)}`;
}

/** The words for what was tried when a datagram cannot be sent. */
export function sendingTo(to: InetAddress): string {
  return `send a datagram to ${show(to)}`;
}

/** The sink of a socket that was closed. */
export const DEAF: DatagramSink = { onMessage() {}, onWritable() {}, onError() {} };
