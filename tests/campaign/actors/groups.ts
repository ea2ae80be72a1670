// Datagrams to multicast groups and broadcasts between three hosts: each socket gets those that are meant for it, from the
// right sender, once and whole. Where the network may lose, double or delay them, it may.

import { type DatagramSocket, EAGAIN, EV_PERSIST, EV_READ, type EventHandle } from "../../../core/mod.ts";
import type { SimHost } from "../../../runtimes/sim.ts";
import type { Dice } from "../../tools/dice.mjs";
import { codeOf, show, type World } from "../world.ts";

const FAMILIES = {
  IPv4: { any: "0.0.0.0", group: "239.1.2.3", all: ["255.255.255.255", "10.255.255.255"], own: "127.255.255.255" },
  IPv6: { any: "::", group: "ff02::123", all: [], own: undefined },
} as const;

/** The longest time, in milliseconds, that a datagram is on its way where nothing goes wrong. */
const LONGEST_MS = 1500;

/** A span in which a socket is bound, or has joined the group. */
interface Span {
  readonly asked: number;
  /** When the promise had resolved. Infinity before. */
  begun: number;
  until: number;
}

/** A socket. */
interface Member {
  readonly host: SimHost;
  readonly life: number;
  readonly socket: DatagramSocket;
  readonly handle: EventHandle;
  readonly mayBroadcast: boolean;
  readonly ttl: number;
  readonly loopback: boolean;
  readonly bound: Span;
  readonly joined: Span[];
  /** How often it has received each datagram, by number. */
  readonly received: Map<number, number>;
}

/** A datagram that was sent. */
interface Sent {
  readonly at: number;
  readonly by: Member;
  readonly kind: "group" | "all" | "own";
  readonly data: Uint8Array;
}

/** Some datagrams to many. */
export class Groups {
  readonly #world: World;
  readonly #hosts: readonly SimHost[];
  readonly #dice: Dice;
  readonly #port: number;
  readonly #family: "IPv4" | "IPv6";
  readonly #members: Member[] = [];
  readonly #sent: Sent[] = [];

  constructor(world: World, hosts: readonly SimHost[], dice: Dice, port: number, messages: number) {
    this.#world = world;
    this.#hosts = hosts;
    this.#dice = dice;
    this.#port = port;
    this.#family = dice.pick(["IPv4", "IPv6"]);
    for (const host of hosts) {
      // Two sockets share the port.
      for (let i = 1 + (dice.below(3) >> 1); i > 0; i--) this.#bind(host);
    }
    for (let i = Math.min(messages, dice.below(30)); i > 0; i--) {
      const host = dice.pick(hosts);
      world.later(host, 5 + dice.below(1500), () => {
        const members = this.#members.filter((member) => member.host === host && this.#lives(member));
        if (members.length === 0) return;
        const member = dice.pick(members);
        if (dice.below(5) === 0) this.#changeGroup(member);
        else this.#send(member);
      });
    }
  }

  #lives({ host, life }: Member): boolean {
    return this.#world.life(host) === life;
  }

  #bind(host: SimHost): void {
    const world = this.#world;
    const dice = this.#dice;
    const life = world.life(host);
    const base = world.base(host);
    const mayBroadcast = this.#family === "IPv4" && dice.below(4) > 0;
    const ttl = dice.pick([0, 1, 1, 4]);
    const loopback = dice.below(3) > 0;
    const bound: Span = { asked: world.sim.now(), begun: Infinity, until: Infinity };
    const opening = base.datagram({
      hostname: FAMILIES[this.#family].any,
      port: this.#port,
      reuseAddress: true,
      broadcast: mayBroadcast,
      multicastTtl: ttl,
      multicastLoopback: loopback,
    });
    world.task(host, "datagram() for groups", opening, (socket) => {
      if (world.life(host) !== life) return;
      bound.begun = world.sim.now();
      const handle = base.event(socket, EV_READ | EV_PERSIST, () => this.#read(member));
      const options = { mayBroadcast, ttl, loopback, bound };
      const member: Member = { host, life, socket, handle, ...options, joined: [], received: new Map() };
      handle.add();
      this.#members.push(member);
      if (world.isStopping) return this.stop();
      if (dice.below(5) > 0) this.#changeGroup(member);
    }, (error) => {
      if (codeOf(error) !== "EMFILE") world.blame(`datagram() for groups rejected: ${show(error)}`);
    });
  }

  /** Joins the group, or leaves it. */
  #changeGroup({ socket, joined, host }: Member): void {
    const world = this.#world;
    const { group } = FAMILIES[this.#family];
    const last = joined.at(-1);
    if (last === undefined || last.until !== Infinity) {
      const span: Span = { asked: world.sim.now(), begun: Infinity, until: Infinity };
      joined.push(span);
      world.task(host, "join()", socket.join(group), () => void (span.begun = world.sim.now()));
    } else if (last.begun !== Infinity) {
      last.until = world.sim.now();
      world.task(host, "leave()", socket.leave(group));
    }
  }

  #send(by: Member): void {
    const world = this.#world;
    const dice = this.#dice;
    const { group, all, own } = FAMILIES[this.#family];
    const kind = own === undefined || dice.below(2) === 0 ? "group" : dice.pick(["all", "own"] as const);
    const hostname = kind === "group" ? group : kind === "all" ? dice.pick(all as readonly string[]) : own as string;
    const data = new Uint8Array(4 + dice.below(1200));
    data.set(dice.bytes(data.length));
    const id = this.#sent.length;
    new DataView(data.buffer).setUint32(0, id);
    world.note(`datagram ${id} of ${by.host.addresses[0]} to ${hostname}`);
    if (by.socket.sendTo(data, { hostname, port: this.#port }) === EAGAIN) return;
    this.#sent.push({ at: world.sim.now(), by, kind, data });
  }

  #read(member: Member): void {
    for (;;) {
      try {
        const datagram = member.socket.recvFrom();
        if (datagram === EAGAIN) return;
        this.#receive(member, datagram.data, datagram.address.hostname, datagram.address.port);
      } catch (error) {
        if (codeOf(error) !== "EACCES" || member.mayBroadcast) this.#world.blame(`recvFrom() threw ${show(error)}`);
      }
    }
  }

  #receive(member: Member, data: Uint8Array, hostname: string, port: number): void {
    const world = this.#world;
    const { rates } = world.plan;
    // Datagrams of one host are in `datagrams.ts` compared bit by bit.
    if (rates.datagramCorrupted > 0) return;
    const id = new DataView(data.buffer, data.byteOffset).getUint32(0);
    const sent = this.#sent[id];
    const name = `datagram ${id} to many`;
    if (sent === undefined || sent.data.length !== data.length || sent.data.some((byte, i) => byte !== data[i])) {
      return world.blame(`${name} was not sent so`);
    }
    const local = sent.kind === "own";
    if (port !== this.#port || !(local ? ["127.0.0.1"] : sent.by.host.addresses).includes(hostname)) {
      world.blame(`${name} came from ${hostname} port ${port}`);
    }
    if (!this.#mayGet(member, sent)) world.blame(`${name} came to ${member.host.addresses[0]}, for whom it is not`);
    const times = (member.received.get(id) ?? 0) + 1;
    member.received.set(id, times);
    if (times > 1 && rates.datagramDoubled === 0) world.blame(`${name} came ${times} times`);
  }

  /** Whether a datagram goes to the host of a socket. */
  #reaches(member: Member, { by, kind }: Sent): boolean {
    if (kind !== "group" && !by.mayBroadcast) return false;
    if (member.host === by.host) return kind !== "group" || by.loopback;
    return kind === "all" || kind === "group" && by.ttl > 0;
  }

  #mayGet(member: Member, sent: Sent): boolean {
    const spans = sent.kind === "group" ? member.joined : [member.bound];
    return this.#reaches(member, sent) && spans.some(({ until }) => until >= sent.at);
  }

  #mustGet(member: Member, sent: Sent): boolean {
    const spans = sent.kind === "group" ? member.joined : [member.bound];
    return this.#reaches(member, sent) &&
      spans.some(({ begun, until }) => begun <= sent.at && until >= sent.at + LONGEST_MS);
  }

  onRestart(host: SimHost): void {
    if (this.#hosts.includes(host)) this.#bind(host);
  }

  /** Nothing was lost where nothing may be lost. */
  check(): void {
    for (const [id, sent] of this.#sent.entries()) {
      for (const member of this.#members) {
        if (!this.#mustGet(member, sent) || member.received.has(id)) continue;
        this.#world.blame(`datagram ${id} to many did not come to ${member.host.addresses[0]}, and nothing was lost`);
      }
    }
  }

  stop(): void {
    for (const member of this.#members) {
      if (!this.#lives(member)) continue;
      member.handle.del();
      member.socket.close();
    }
    this.#members.length = 0;
  }
}
