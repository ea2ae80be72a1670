// The program that a worker of the campaign runs: plays the seeds that it is given, and says what failed.

export { play } from "./play.ts";
export { CALM, planOf } from "./plan.ts";
