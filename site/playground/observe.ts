/**
 * Shows the packets on their way in a simulated network. The simulator reports only deliveries, so
 * this module observes the sending: it wraps two methods of the simulator's own classes, only in
 * the worker of the playground.
 */

import type { SimRuntime } from "../../runtimes/sim.ts";
import type { SimHostRuntime } from "../../runtimes/sim/host.ts";
import { Link } from "../../runtimes/sim/link.ts";
import type { Network } from "../../runtimes/sim/network.ts";
import { SegmentQueue } from "../../runtimes/sim/segment_queue.ts";
import type { Flight, Happening, HostState, LinkState } from "./protocol.ts";

/** The most characters of a content that are shown. */
const PREVIEW = 80;
const text = new TextDecoder();

/** The observer. There is one run at a time. */
let current: Observer | undefined;
/** The link of the packet that is being sent, and the bytes that a program got last. */
let sending: Link | undefined;
let given: Uint8Array | undefined;

const { arrival, carry } = Link.prototype;
Link.prototype.arrival = function (this: Link, ...args: Parameters<Link["arrival"]>): number {
  sending = this;
  return arrival.apply(this, args);
};
Link.prototype.carry = function (this: Link, ...args: Parameters<Link["carry"]>): ReturnType<Link["carry"]> {
  const scheduled = carry.apply(this, args);
  if (scheduled !== undefined) current?.fly(this, scheduled.time, undefined);
  return scheduled;
};
const { add, takeArrived } = SegmentQueue.prototype;
SegmentQueue.prototype.add = function (this: SegmentQueue, ...args: Parameters<SegmentQueue["add"]>): void {
  const [bytes, , time] = args;
  if (sending !== undefined) current?.fly(sending, time, bytes);
  add.apply(this, args);
};
SegmentQueue.prototype.takeArrived = function (
  this: SegmentQueue,
  ...args: Parameters<SegmentQueue["takeArrived"]>
): Uint8Array {
  return given = takeArrived.apply(this, args);
};

/** Shortens bytes to a text that a person can read. */
export function preview(bytes: Uint8Array): string {
  const start = text.decode(bytes.subarray(0, PREVIEW)).replaceAll(
    // deno-lint-ignore no-control-regex -- these are what is to be replaced
    /[\u0000-\u001f\ufffd]/g,
    (letter) => letter === "\n" ? "⏎" : letter === "\r" ? "␍" : "·",
  );
  return bytes.length > PREVIEW ? `${start}…` : start;
}

/** Watches one network. */
export class Observer {
  /** The packets and the events since they were last taken. */
  flights: Flight[] = [];
  happenings: Happening[] = [];
  readonly #sim: SimRuntime;
  readonly #network: Network;
  #ids = 0;

  constructor(sim: SimRuntime) {
    this.#sim = sim;
    this.#network = (sim as unknown as SimHostRuntime).network;
    current = this;
    sim.trace = (line) => this.#note(line);
  }

  /** Ends the watching. */
  stop(): void {
    if (current === this) current = undefined;
    this.#sim.trace = false;
  }

  /** A packet is on its way. */
  fly(link: Link, arrives: number, bytes: Uint8Array | undefined): void {
    if (link.from.network !== this.#network || !Number.isFinite(arrives)) return;
    this.flights.push({
      id: ++this.#ids,
      from: link.from.label,
      to: link.to.label,
      sent: this.#sim.now(),
      arrives,
      bytes: bytes?.length ?? 0,
      text: bytes === undefined ? "" : preview(bytes),
    });
  }

  /** Adds something to the list. */
  say(kind: string, what: string): void {
    this.happenings.push({ at: this.#sim.now(), kind, text: what });
  }

  /**
   * Turns a line of the trace into words: host names in place of addresses, and the content of the
   * received bytes.
   */
  #note(line: string): void {
    const [, kind = "", rest = ""] = /^\S+ (\S+) (.*)$/.exec(line) ?? [];
    let what = rest.replaceAll(/\[?([0-9a-f.:]+?)\]?:(\d+)/g, (all, ip, port) => {
      const host = this.#network.hosts.find(({ addresses }) => addresses.includes(ip));
      return host === undefined ? all : `${host.label}:${port}`;
    }).replace("<", "from");
    if (kind === "data" && given !== undefined) {
      what = what.replace(/ (\d+)$/, `: $1 bytes ${JSON.stringify(preview(given))}`);
      given = undefined;
    }
    this.say(kind, what);
  }

  /** The hosts that the program uses. */
  hosts(): HostState[] {
    return this.#network.hosts.filter((host) =>
      host !== this.#network.main || host.connections.size > 0 || host.listeners.size > 0
    )
      .map((host) => ({ name: host.label, down: host.down, listens: host.listeners.size > 0 }));
  }

  /** The lines between them. */
  links(): LinkState[] {
    const links = new Map<string, LinkState>();
    for (const from of this.#network.hosts) {
      for (const [to, link] of from.links) {
        if (from === to) continue;
        const [a, b] = [from.label, to.label].sort() as [string, string];
        let state = links.get(`${a} ${b}`);
        if (state === undefined) links.set(`${a} ${b}`, state = { a, b, connections: 0, cut: false });
        state.cut ||= link.cut;
      }
    }
    for (const host of this.#network.hosts) {
      for (const { remote } of host.connections) {
        const hostname = remote !== undefined && "hostname" in remote ? remote.hostname : undefined;
        const peer = this.#network.hosts.find(({ addresses }) =>
          hostname !== undefined && addresses.includes(hostname)
        );
        if (peer === undefined) continue;
        const [a, b] = [host.label, peer.label].sort() as [string, string];
        const state = links.get(`${a} ${b}`);
        if (state !== undefined) state.connections += 0.5;
      }
    }
    return [...links.values()].map((state) => ({ ...state, connections: Math.ceil(state.connections) }));
  }
}
