/**
 * The bound addresses of a host, by port.
 *
 * @module
 */

import type { EventError } from "../../core/errors.ts";
import { refusal, show } from "../shared/errors.ts";
import { type Bound, fit, type Ip, overlap } from "./addresses.ts";

/** The first port that the host chooses for a listener. */
const FIRST_PORT = 49_152;
const LAST_PORT = 65_535;

/** A socket that has bound a port. */
export interface Holder {
  /** The bound address. */
  readonly bound: Bound;
  /** Whether others may bind the same, if all of them allow it. */
  readonly reusePort: boolean;
}

/** The holders of one port, and the index of the next one. */
interface Port<T> {
  holders: T[];
  turn: number;
}

/** The ports of one host and one protocol. */
export class PortTable<T extends Holder> {
  readonly #ports: Map<number, Port<T>> = new Map();
  #nextPort = FIRST_PORT;

  /**
   * Chooses or checks a port.
   *
   * @param ip The address to bind
   * @param port The port, or 0 to choose one
   * @param ipv6Only Whether `::` excludes IPv4
   * @param reusePort Whether the port may be shared
   * @param syscall The call that binds
   * @returns The address to bind
   * @throws {EventError} `EADDRINUSE`
   */
  claim(ip: Ip, port: number, ipv6Only: boolean, reusePort: boolean, syscall: string): Bound {
    if (port !== 0) {
      const bound = { ...ip, port, ipv6Only };
      if (this.#isFree(bound, reusePort)) return bound;
      throw inUse(bound, syscall);
    }
    for (let tries = FIRST_PORT; tries <= LAST_PORT; tries++) {
      const bound = { ...ip, port: this.#nextPort, ipv6Only };
      this.#nextPort = this.#nextPort === LAST_PORT ? FIRST_PORT : this.#nextPort + 1;
      if (this.#isFree(bound, false)) return bound;
    }
    throw inUse({ ...ip, port, ipv6Only }, syscall);
  }

  /**
   * Binds the port that `claim()` gave.
   *
   * @param holder The socket that holds it from now on
   */
  add(holder: T): void {
    const port = this.#ports.get(holder.bound.port);
    if (port === undefined) this.#ports.set(holder.bound.port, { holders: [holder], turn: 0 });
    else port.holders.push(holder);
  }

  /**
   * Releases a port.
   *
   * @param holder The socket that held it
   */
  delete(holder: T): void {
    const port = this.#ports.get(holder.bound.port);
    if (port === undefined) return;
    port.holders = port.holders.filter((other) => other !== holder);
    if (port.holders.length === 0) this.#ports.delete(holder.bound.port);
  }

  /**
   * Tells whether a socket is bound to an address.
   *
   * @param ip The address
   * @param port The port
   * @returns True if so
   */
  has(ip: Ip, port: number): boolean {
    return this.#holders(port).some((holder) => fit(holder.bound, ip) > 0);
  }

  /**
   * Finds the socket that receives packets to an address: the best fit. If several fit equally,
   * each in turn.
   *
   * @param ip The address
   * @param port The port
   * @returns The socket, or undefined
   */
  find(ip: Ip, port: number): T | undefined {
    const entry = this.#ports.get(port);
    if (entry === undefined) return undefined;
    const best = Math.max(1, ...entry.holders.map((holder) => fit(holder.bound, ip)));
    const fitting = entry.holders.filter((holder) => fit(holder.bound, ip) === best);
    return fitting.length > 1 ? fitting[entry.turn++ % fitting.length] : fitting[0];
  }

  #holders(port: number): readonly T[] {
    return this.#ports.get(port)?.holders ?? [];
  }

  #isFree(bound: Bound, reusePort: boolean): boolean {
    return this.#holders(bound.port).every((holder) =>
      (reusePort && holder.reusePort) || !overlap(holder.bound, bound)
    );
  }
}

function inUse(bound: Bound, syscall: string): EventError {
  return refusal(`${syscall === "bind" ? "bind" : "listen on"} ${show(bound)}`, "EADDRINUSE", syscall);
}
