/**
 * Real time, for the time limit of exploring. The simulation does not depend on it.
 *
 * @module
 */

/** Gives the real time in milliseconds. It was taken when the module was loaded, so `sim.install()` does not change it. */
export const realTime: () => number = Date.now;
