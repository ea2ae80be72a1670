/**
 * Parts of datagram sockets that all adapters share.
 *
 * @module
 */

import type { DatagramOptions, DatagramSink, InetAddress } from "../../core/runtime.ts";
import { failure, familyOf, show } from "./host.ts";

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

/** A runtime's own name of an interface: IPv6 has it as a zone. */
export function interfaceOf(networkInterface: string | undefined, address: InetAddress): string | undefined {
  return networkInterface !== undefined && address.family === "IPv6" ? `::%${networkInterface}` : networkInterface;
}

/** The words for what was tried when a socket cannot join or leave a group. */
export function grouping(verb: "join" | "leave", group: string, networkInterface: string | undefined): string {
  return `${verb} the multicast group ${group}${networkInterface === undefined ? "" : ` on ${networkInterface}`}`;
}

/** As much of a socket of Node or Bun as groups and sending need. Each method throws. */
export interface GroupSocket {
  addMembership(group: string, networkInterface?: string): unknown;
  dropMembership(group: string, networkInterface?: string): unknown;
  setBroadcast(on: boolean): unknown;
  setMulticastTTL(ttl: number): unknown;
  setMulticastLoopback(on: boolean): unknown;
  setMulticastInterface(networkInterface: string): unknown;
}

/** Joins or leaves a group. */
export async function member(
  verb: "join" | "leave",
  socket: GroupSocket,
  address: InetAddress,
  group: string,
  networkInterface: string | undefined,
): Promise<void> {
  const own = interfaceOf(networkInterface, address);
  await Promise.resolve();
  try {
    if (verb === "join") socket.addMembership(group, own);
    else socket.dropMembership(group, own);
  } catch (reason) {
    throw failure(grouping(verb, group, networkInterface), reason, "setsockopt");
  }
}

/** Sets how a socket sends. It throws the runtime's own error. */
export function setSending(socket: GroupSocket, options: DatagramOptions, address: InetAddress): void {
  const { broadcast, multicastTtl, multicastLoopback, multicastInterface } = options;
  if (broadcast === true) socket.setBroadcast(true);
  if (multicastTtl !== undefined) socket.setMulticastTTL(multicastTtl);
  if (multicastLoopback !== undefined) socket.setMulticastLoopback(multicastLoopback);
  const own = interfaceOf(multicastInterface, address);
  if (own !== undefined) socket.setMulticastInterface(own);
}
