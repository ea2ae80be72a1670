/**
 * The exports for a program in the playground: the core and the simulator, without the adapters of
 * other runtimes.
 */

export * from "../../core/mod.ts";
export * from "../../runtimes/sim.ts";
