// Faults at a certain time: those of the simulator that a program sets and takes away again.

import type { SimHost } from "../../runtimes/sim.ts";
import type { Dice } from "../tools/dice.mjs";
import type { TroublePlan } from "./plan.ts";
import { part, type World } from "./world.ts";

/** The end of a fault. */
interface Repair {
  readonly at: number;
  run(): void;
}

/** Causes faults, and ends them. */
export class Troubles {
  readonly #world: World;
  readonly #repairs: Repair[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  /** When the next fault ends; Infinity for never. */
  get next(): number {
    return Math.min(Infinity, ...this.#repairs.map(({ at }) => at));
  }

  /** Ends the faults that are due. */
  repair(now: number): void {
    for (const each of this.#repairs.filter(({ at }) => at <= now)) {
      this.#repairs.splice(this.#repairs.indexOf(each), 1);
      each.run();
    }
  }

  #host(dice: Dice): SimHost {
    return dice.pick(this.#world.hosts);
  }

  #later(ms: number, run: () => void): void {
    this.#repairs.push({ at: this.#world.sim.now() + ms, run });
  }

  /** Causes a fault. */
  cause({ what, seed }: TroublePlan): void {
    const world = this.#world;
    const { sim } = world;
    if (world.hosts.length === 0) return;
    const dice = part(seed, 5);
    const host = this.#host(dice);
    const others = world.hosts.filter((other) => other !== host);
    const other = others.length > 0 ? dice.pick(others) : host;
    const link = sim.link(host, other, { oneWay: dice.below(3) === 0 });
    const forMs = dice.pick([0.5, 5, 50, 400, 1500]);
    world.note(`${what} at ${host.addresses[0]}, ${other.addresses[0]} for ${forMs}`);
    switch (what) {
      case "partition":
        link.partition();
        this.#later(forMs, () => link.heal());
        break;
      case "hold":
        link.hold();
        this.#later(forMs, () => link.release());
        break;
      case "crash":
        world.crash(host);
        this.#later(forMs, () => world.restart(host));
        break;
      case "restart":
        world.restart(host);
        break;
      case "pause":
        host.pause(forMs);
        break;
      case "resetAfter":
        link.resetAfter(dice.below(5000));
        this.#later(forMs, () => link.resetAfter(Infinity));
        break;
      case "endAfter":
        world.middlebox = true;
        link.endAfter(dice.below(5000));
        this.#later(forMs, () => link.endAfter(Infinity));
        break;
      case "shortWrites":
        host.shortWrites = dice.pick([0.3, 1]);
        this.#later(forMs, () => host.shortWrites = 0);
        break;
      case "acceptErrors":
        for (let i = 1 + dice.below(3); i > 0; i--) {
          host.acceptErrors.push(dice.pick(["EMFILE", "ENOMEM", "ECONNABORTED"]));
        }
        break;
      case "window": {
        const before = host.windowBytes;
        host.windowBytes = dice.pick([1, 50, 2000]);
        this.#later(Math.min(forMs, 50), () => host.windowBytes = before);
        break;
      }
      case "handleLimit":
        host.handleLimit = host.openHandles;
        // A host that cannot pause tries to accept again and again, in many steps.
        this.#later(host.capabilities.pauseAccept ? forMs : Math.min(forMs, 50), () => host.handleLimit = Infinity);
        break;
      case "dns":
        this.#dns(dice, host, forMs);
        break;
      case "rates":
        sim.faults.connectionReset = dice.pick([0, 0.05]);
        sim.faults.segmentCut = dice.pick([0, 0.5]);
        sim.faults.latencyMs = dice.pick([0, 1, 30]);
        sim.faults.jitterMs = dice.pick([0, 10]);
    }
  }

  #dns(dice: Dice, host: SimHost, forMs: number): void {
    for (const name of ["s0", "s1", "s2"]) {
      const own = this.#world.sim.host(name).addresses[0] as string;
      host.dns.set(
        name,
        dice.pick([
          { error: "EAI_AGAIN" },
          { error: "ENOTFOUND" },
          { delayMs: 2000 },
          { addresses: ["10.9.9.9", own] },
          { addresses: [own, "10.9.9.9"] },
        ]),
      );
      this.#later(forMs, () => host.dns.delete(name));
    }
  }

  /** Ends all faults. */
  end(): void {
    const { sim, hosts } = this.#world;
    for (const each of this.#repairs.splice(0)) each.run();
    sim.faults.connectionReset = 0;
    sim.faults.connectRefused = 0;
    sim.faults.connectLost = 0;
    sim.faults.datagramLost = 0;
    // A slow network would only make a run long.
    sim.faults.bandwidth = Infinity;
    sim.faults.latencyMs = Math.min(1, sim.faults.latencyMs ?? 1);
    sim.faults.jitterMs = 0;
    for (const host of hosts) {
      host.acceptErrors.length = 0;
      host.shortWrites = 0;
      host.windowBytes = 65_536;
    }
  }
}
