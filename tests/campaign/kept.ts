// Plans that have failed once, made as small as possible.

import { CALM, type Plan } from "./plan.ts";

/** A plan, and the fault that it has found. */
export interface Kept {
  readonly name: string;
  readonly plan: Plan;
}

/** All of them. */
export const KEPT: readonly Kept[] = [
  {
    name: "the idle timeout of a server with TLS counts from the end of the handshake on",
    plan: {
      seed: 20261130001085,
      rates: CALM,
      actors: [{ kind: "service", seed: 8564732, only: [1], messages: 0 }],
      troubles: [],
    },
  },
  {
    name: "the end that a read callback pulls out of a pair comes behind the last read callback",
    plan: { seed: 13008011, rates: CALM, actors: [{ kind: "pair", seed: 6373060, only: [1] }], troubles: [] },
  },
  {
    name: "no handshake begins with a client that was gone before it was accepted",
    plan: {
      seed: 100012088,
      rates: { ...CALM, latencyMs: 1, jitterMs: 50, without: ["pauseAccept", "backlog"] },
      actors: [{ kind: "service", seed: 273928091, only: [1, 2, 3], messages: 1 }],
      troubles: [],
    },
  },
  {
    name: "a connection that is freed in the turn in which it would be stable is not followed by the next at once",
    plan: {
      seed: 400054696,
      rates: { ...CALM, latencyMs: 1, bandwidth: 20_000, timerLateMs: 20 },
      actors: [{ kind: "service", seed: 626049208, only: [1], messages: 10 }],
      troubles: [],
    },
  },
];
