/**
 * The timers benchmark on one runtime: a line of JSON for each round. `bench/timers.mjs` builds it and runs it on all three.
 *
 *     timers_main.ts ours|host COUNT RESTARTS ROUNDS TEST_TIME_COUNT TEST_TIME_ROUNDS
 *
 * Ours and the runtime's are in separate processes. Otherwise the garbage of one would be collected
 * in the time of the other.
 */

import { argv } from "node:process";
import { hostChurn, hostTestTime, ourChurn, ourTestTime } from "./timers.ts";

const [count = 0, restarts = 0, rounds = 0, timers = 0, testTimeRounds = 0] = argv.slice(3).map(Number);
const [churn, testTime] = argv[2] === "ours" ? [ourChurn, ourTestTime] : [hostChurn, hostTestTime];

// A whole round first, for the compilers and for the heap's growth.
churn(count, restarts);
for (let round = 0; round < rounds; round++) console.log(JSON.stringify({ work: "churn", ...churn(count, restarts) }));
await testTime(timers / 10);
for (let round = 0; round < testTimeRounds; round++) {
  const { ms } = await testTime(timers);
  console.log(JSON.stringify({ work: "test-time", ms }));
}
