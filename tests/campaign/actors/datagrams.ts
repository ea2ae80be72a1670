// Datagram sockets on two hosts, and on three for groups and broadcasts. Each datagram arrives once and whole. Where the
// network may lose, double or delay it, it may.

import { type DatagramSocket, EAGAIN, EV_PERSIST, EV_READ, type EventHandle } from "../../../core/mod.ts";
import type { SimHost } from "../../../runtimes/sim.ts";
import type { Dice } from "../../tools/dice.mjs";
import type { ActorPlan } from "../plan.ts";
import { type Actor, codeOf, part, show, type World } from "../world.ts";
import { Groups } from "./groups.ts";

/** Some datagrams each way. */
export class Datagrams implements Actor {
  readonly #world: World;
  readonly #hosts: readonly SimHost[];
  readonly #dice: Dice;
  readonly #port: number;
  readonly #groups: Groups;
  readonly #open: Map<DatagramSocket, { handle: EventHandle; host: SimHost; life: number }> = new Map();
  readonly #sent: Map<number, Uint8Array> = new Map();
  readonly #received: Map<number, number> = new Map();
  #ids = 0;
  #last = -1;

  constructor(world: World, { seed, messages = Infinity }: ActorPlan, number: number) {
    this.#world = world;
    const dice = this.#dice = part(seed, 0);
    this.#hosts = [world.host(`u${number}`), world.host(`v${number}`)];
    const [near, far] = this.#hosts as [SimHost, SimHost];
    const port = this.#port = 4000 + number;
    for (const host of this.#hosts) this.#bind(host, port);
    for (let i = Math.min(messages, dice.below(30)); i > 0; i--) {
      const [from, to] = dice.below(2) === 0 ? [near, far] : [far, near];
      world.later(from, 5 + dice.below(1500), () => this.#send(from, to, port));
    }
    const hosts = [near, far, world.host(`w${number}`)];
    this.#groups = new Groups(world, hosts, part(seed, 1), 5000 + number, messages);
  }

  #bind(host: SimHost, port: number): void {
    const world = this.#world;
    const life = world.life(host);
    const base = world.base(host);
    const hostname = host.addresses[0] as string;
    world.task(host, "datagram()", base.datagram({ hostname, port }), (socket) => {
      if (world.life(host) !== life) return;
      const handle = base.event(socket, EV_READ | EV_PERSIST, () => {
        for (let datagram = socket.recvFrom(); datagram !== EAGAIN; datagram = socket.recvFrom()) {
          this.#receive(datagram.data);
        }
      });
      handle.add();
      this.#open.set(socket, { handle, host, life });
      if (world.isStopping) this.stop();
    }, (error) => {
      if (codeOf(error) !== "EMFILE") world.blame(`datagram() rejected: ${show(error)}`);
    });
  }

  #send(from: SimHost, to: SimHost, port: number): void {
    for (const [socket, { host, life }] of this.#open) {
      if (host !== from || this.#world.life(host) !== life) continue;
      const id = this.#ids++;
      const data = new Uint8Array(4 + this.#dice.below(1200));
      data.set(this.#dice.bytes(data.length));
      new DataView(data.buffer).setUint32(0, id);
      this.#sent.set(id, data.slice());
      const taken = socket.sendTo(data, { hostname: to.addresses[0] as string, port });
      // The socket has copied it.
      data.fill(0);
      if (taken === EAGAIN) this.#sent.delete(id);
      else if (taken !== data.length) {
        this.#world.blame(`a datagram of ${data.length} bytes, of which ${taken} were sent`);
      }
    }
  }

  #receive(data: Uint8Array): void {
    const { rates } = this.#world.plan;
    const id = new DataView(data.buffer, data.byteOffset).getUint32(0);
    const sent = this.#sent.get(id);
    // One bit of it may be wrong, also one of its number.
    if (rates.datagramCorrupted > 0) {
      const isNear = (other: Uint8Array): boolean => other.length === data.length && distance(other, data) <= 1;
      if (![...this.#sent.values()].some(isNear)) this.#world.blame(`a datagram with more than one wrong bit: ${id}`);
      return;
    }
    if (sent === undefined || sent.length !== data.length || sent.some((byte, i) => i > 3 && byte !== data[i])) {
      return this.#world.blame(`a datagram came that was not sent so: ${id}`);
    }
    const times = (this.#received.get(id) ?? 0) + 1;
    this.#received.set(id, times);
    if (times > 1 && rates.datagramDoubled === 0) this.#world.blame(`datagram ${id} came ${times} times`);
    this.#last = Math.max(this.#last, id);
  }

  onRestart(host: SimHost): void {
    if (this.#hosts.includes(host)) this.#bind(host, this.#port);
    this.#groups.onRestart(host);
  }

  check(): void {
    const { breaking, plan } = this.#world;
    if (breaking || plan.rates.datagramLost > 0 || plan.rates.datagramCorrupted > 0 || plan.rates.bandwidth !== null) {
      return;
    }
    for (const id of this.#sent.keys()) {
      if (!this.#received.has(id)) this.#world.blame(`datagram ${id} did not come, and nothing was lost`);
    }
    this.#groups.check();
  }

  stop(): void {
    for (const [socket, { handle, host, life }] of this.#open) {
      if (this.#world.life(host) !== life) continue;
      handle.del();
      socket.close();
    }
    this.#open.clear();
    this.#groups.stop();
  }
}

/** The number of bits in which two datagrams of the same length differ. */
function distance(a: Uint8Array, b: Uint8Array): number {
  let bits = 0;
  for (let i = 0; i < a.length; i++) {
    for (let differing = (a[i] as number) ^ (b[i] as number); differing > 0; differing >>= 1) bits += differing & 1;
  }
  return bits;
}
