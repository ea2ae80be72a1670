// A part of the campaign on each runtime: fixed seeds, plans that have failed once, and that a seed repeats a program exactly.

import process from "node:process";
import { describe, it } from "node:test";
import { assertEquals } from "@std/assert";
import { FilterCore } from "../../core/bufferevent/filter_core.ts";
import { PairCore } from "../../core/bufferevent/pair_core.ts";
import { SocketCore } from "../../core/bufferevent/socket_core.ts";
import { Connection } from "../../core/socket/connection.ts";
import { checkedClasses } from "../core/socket/checked.ts";
import { KEPT } from "./kept.ts";
import type { Plan } from "./plan.ts";
import { planOf } from "./plan.ts";
import { type Outcome, play } from "./play.ts";

const RUNS = 200;
const TWICE = 25;

/** Plays a program; a rejection that nobody handles is a failure, too. */
async function playAlone(plan: Plan): Promise<Outcome> {
  const unhandled: unknown[] = [];
  const hear = (reason: unknown): void => void unhandled.push(reason);
  process.on("unhandledRejection", hear);
  try {
    const outcome = await play(plan);
    await new Promise((resolve) => setTimeout(resolve, 0));
    const [first] = unhandled;
    return first === undefined || outcome.error !== null ? outcome : { ...outcome, error: new Error(`${first}`) };
  } finally {
    process.removeListener("unhandledRejection", hear);
  }
}

describe("the campaign", () => {
  it(`finds nothing in ${RUNS} programs`, async () => {
    for (let seed = 1; seed <= RUNS; seed++) {
      const { error } = await playAlone(planOf(seed));
      assertEquals(error?.message, undefined, `seed ${seed}`);
    }
  });

  it("checks the tables of states of the classes that its programs use", async () => {
    checkedClasses.clear();
    for (let seed = 4; seed <= 120; seed += 4) await play(planOf(seed));
    const names = (classes: readonly { name: string }[]): string[] => classes.map(({ name }) => name);
    const classes = [Connection, SocketCore, PairCore, FilterCore];
    assertEquals(names(classes.filter((each) => checkedClasses.has(each))), names(classes));
  });

  it("plays the same seed in the same way each time", async () => {
    for (let seed = 1; seed <= TWICE; seed++) {
      const hashes = [(await play(planOf(seed))).hash, (await play(planOf(seed), true)).hash];
      assertEquals(hashes[0], hashes[1], `seed ${seed}`);
    }
  });
});

describe("plans that have failed once", () => {
  for (const { name, plan } of KEPT) {
    it(name, async () => {
      const { error } = await playAlone(plan);
      assertEquals(error?.message, undefined);
    });
  }
});
