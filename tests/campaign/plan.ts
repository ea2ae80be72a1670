// A program of the campaign as data: a seed gives a plan, and a plan can be made smaller and kept.

import { Dice } from "../tools/dice.mjs";

/** The kinds of actors. */
export const KINDS = [
  "service",
  "service",
  "service",
  "service",
  "pair",
  "relay",
  "listener",
  "datagrams",
  "waiting",
] as const;

/** One actor. Its actions follow from its seed. */
export interface ActorPlan {
  readonly kind: typeof KINDS[number];
  readonly seed: number;
  /** Which of its parts it has, such as the clients of a service. By default all. */
  readonly only?: readonly number[];
  /** The largest number of messages that each end sends. */
  readonly messages?: number;
}

/** Something that goes wrong at a time, on one of the hosts or links. */
export interface TroublePlan {
  readonly at: number;
  readonly what: string;
  readonly seed: number;
}

/** The probabilities of faults on each link, and the missing capabilities of hosts. */
export interface RatesPlan {
  latencyMs: number;
  jitterMs: number;
  bandwidth: number | null;
  segmentCut: number;
  connectionReset: number;
  connectRefused: number;
  connectLost: number;
  datagramLost: number;
  datagramDoubled: number;
  datagramReordered: number;
  datagramCorrupted: number;
  shortWrites: number;
  timerLateMs: number;
  windowBytes: number | null;
  /** The capabilities that the servers' hosts do not have. */
  without: string[];
}

/** A program. */
export interface Plan {
  readonly seed: number;
  readonly rates: RatesPlan;
  readonly actors: ActorPlan[];
  readonly troubles: TroublePlan[];
}

/** How long a program acts, in virtual milliseconds. */
export const ACTIVE_MS = 2000;

/** The kinds of trouble. */
export const TROUBLES = [
  "partition",
  "hold",
  "crash",
  "restart",
  "pause",
  "resetAfter",
  "endAfter",
  "shortWrites",
  "acceptErrors",
  "window",
  "handleLimit",
  "dns",
  "rates",
] as const;

/** A network on which nothing goes wrong. */
export const CALM: RatesPlan = {
  latencyMs: 1,
  jitterMs: 0,
  bandwidth: null,
  segmentCut: 0,
  connectionReset: 0,
  connectRefused: 0,
  connectLost: 0,
  datagramLost: 0,
  datagramDoubled: 0,
  datagramReordered: 0,
  datagramCorrupted: 0,
  shortWrites: 0,
  timerLateMs: 0,
  windowBytes: null,
  without: [],
};

/** Makes the plan of a seed. */
export function planOf(seed: number, kinds: readonly ActorPlan["kind"][] = KINDS): Plan {
  const dice = new Dice(seed * 2 + 1);
  const maybe = (oneIn: number, value: number): number => dice.below(oneIn) === 0 ? value : 0;
  const rates: RatesPlan = { ...CALM, latencyMs: dice.pick([0, 0.5, 1, 1, 5, 40]) };
  // A third of all programs run on a network that loses nothing, so that everything must arrive there.
  const weather = dice.pick(["calm", "uneven", "broken"] as const);
  if (weather !== "calm") {
    rates.jitterMs = maybe(2, dice.pick([0.5, 5, 50]));
    rates.segmentCut = maybe(2, dice.pick([0.1, 0.5, 1]));
    rates.shortWrites = maybe(3, dice.pick([0.2, 1]));
    rates.timerLateMs = maybe(4, dice.pick([1, 20]));
    rates.windowBytes = maybe(4, dice.pick([100, 1500, 5000])) || null;
    rates.bandwidth = maybe(6, dice.pick([20_000, 200_000])) || null;
    if (dice.below(4) === 0) rates.without = dice.pick([["pauseAccept"], ["reset"], ["pauseAccept", "backlog"]]);
  }
  const troubles: TroublePlan[] = [];
  if (weather === "broken") {
    rates.connectionReset = maybe(3, 0.03);
    rates.connectRefused = maybe(4, 0.2);
    rates.connectLost = maybe(6, 0.2);
    rates.datagramLost = maybe(2, 0.2);
    rates.datagramDoubled = maybe(2, 0.2);
    rates.datagramReordered = maybe(2, 0.3);
    rates.datagramCorrupted = maybe(3, 0.2);
    for (let i = dice.below(5); i > 0; i--) {
      troubles.push({ at: dice.below(ACTIVE_MS), what: dice.pick(TROUBLES), seed: dice.below(1e9) });
    }
    troubles.sort((a, b) => a.at - b.at);
  }
  const actors: ActorPlan[] = [];
  for (let i = 1 + (dice.below(3) >> 1); i > 0; i--) actors.push({ kind: dice.pick(kinds), seed: dice.below(1e9) });
  return { seed, rates, actors, troubles };
}
