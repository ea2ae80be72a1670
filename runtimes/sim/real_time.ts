/**
 * Real time, for the limit of how long exploring may take. Nothing that is simulated depends on it.
 *
 * @module
 */

/** Gives the real time in milliseconds. It was taken when the module was loaded, so `sim.install()` does not change it. */
export const realTime: () => number = Date.now;
