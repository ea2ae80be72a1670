/**
 * As much of the runtimes' datagram sockets as the adapters use.
 *
 * @module
 */

import type { GroupSocket } from "../shared/datagram.ts";

/** `node:dgram`. */
export interface NodeDgram {
  createSocket(options: NodeDgramOptions): NodeDgramSocket;
}

/** What `dgram.createSocket()` takes. */
export interface NodeDgramOptions {
  type: "udp4" | "udp6";
  reuseAddr: boolean;
  lookup: (hostname: string, options: unknown, callback: NodeDgramLookedUp) => void;
}

/** What `lookup` calls. */
export type NodeDgramLookedUp = (error: unknown, address: string, family: number) => void;

/** `dgram.Socket`. */
export interface NodeDgramSocket extends GroupSocket {
  on(event: "error", fn: (reason: unknown) => void): this;
  on(event: "message", fn: (data: Uint8Array, from: { address: string; port: number }) => void): this;
  once(event: "listening" | "close", fn: () => void): this;
  bind(options: { address: string; port: number; exclusive: boolean }): this;
  address(): { address: string; port: number };
  send(data: Uint8Array, port: number, address: string, sent: (reason: unknown) => void): void;
  getSendQueueSize(): number;
  getSendQueueCount(): number;
  close(): this;
  ref(): this;
  unref(): this;
}

/** As much of the global `Deno` as there is with `--unstable-net` only. */
export interface DenoDatagramHost {
  listenDatagram?(options: {
    transport: "udp";
    hostname: string;
    port: number;
    reuseAddress?: boolean;
    /** Whether what is sent to a group comes back to this host: false by default. */
    loopback?: boolean;
  }): DenoDatagramConn;
}

/** `Deno.DatagramConn`. */
export interface DenoDatagramConn {
  readonly addr: DenoUdpAddr;
  receive(into: Uint8Array): Promise<[Uint8Array, DenoUdpAddr]>;
  send(data: Uint8Array, to: DenoUdpAddr): Promise<number>;
  joinMulticastV4(group: string, networkInterface: string): Promise<DenoMembership>;
  joinMulticastV6(group: string, interfaceIndex: number): Promise<DenoMembership>;
  close(): void;
  ref(): void;
  unref(): void;
}

/** `Deno.MulticastV4Membership` and `Deno.MulticastV6Membership`. */
export interface DenoMembership {
  leave(): Promise<void>;
}

/** An address of UDP. */
export interface DenoUdpAddr {
  readonly transport: "udp";
  readonly hostname: string;
  readonly port: number;
}

/** As much of the global `Bun` as datagrams need. */
export interface BunDatagramHost {
  udpSocket(options: BunUdpOptions): Promise<BunUdpSocket>;
}

/** What `Bun.udpSocket()` takes. */
export interface BunUdpOptions {
  hostname: string;
  port: number;
  /** Neither typed nor documented; Bun's own `node:dgram` has it. */
  flags?: number;
  binaryType: "uint8array";
  socket: {
    data(socket: BunUdpSocket, data: Uint8Array, port: number, address: string): void;
    drain(socket: BunUdpSocket): void;
    /** The error is the only argument, whatever the types say. */
    error(error: unknown): void;
  };
}

/** A datagram socket. */
export interface BunUdpSocket extends GroupSocket {
  readonly hostname: string;
  readonly port: number;
  send(data: Uint8Array, port: number, address: string): boolean;
  close(): void;
  ref(): void;
  unref(): void;
}
