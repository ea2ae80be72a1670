/**
 * The timers benchmark on one runtime: a line of JSON for each round. `bench/timers.mjs` builds it and runs it on all three.
 *
 *     timers_main.ts COUNT RESTARTS ROUNDS TEST_TIME_COUNT TEST_TIME_ROUNDS
 */

import { argv } from "node:process";
import { hostChurn, hostTestTime, ourChurn, ourTestTime } from "./timers.ts";

const [count = 0, restarts = 0, rounds = 0, timers = 0, testTimeRounds = 0] = argv.slice(2).map(Number);

// A smaller round first, for the compilers.
ourChurn(count / 10, restarts / 10);
hostChurn(count / 10, restarts / 10);
for (let round = 0; round < rounds; round++) {
  console.log(
    JSON.stringify({ work: "churn", ours: ourChurn(count, restarts), theirs: hostChurn(count, restarts) }),
  );
}
await ourTestTime(timers / 10);
await hostTestTime(timers / 10);
for (let round = 0; round < testTimeRounds; round++) {
  const [ours, theirs] = [await ourTestTime(timers), await hostTestTime(timers)];
  console.log(JSON.stringify({ work: "test-time", ours: { ms: ours.ms }, theirs: { ms: theirs.ms } }));
}
