/**
 * The oldest versions of the runtimes that Trivent supports. `npm run matrix` has tested them; README and package.json
 * have the same numbers.
 *
 * @module
 */

import { EventError } from "../../core/errors.ts";

/** The numbers at the front of a version. The rest is ignored. */
function numbers(version: string): number[] {
  return version.split(/[-+]/, 1)[0]!.split(".").map(Number);
}

/** Whether a version is at least another one. */
export function isAtLeast(version: string, least: string): boolean {
  const [found, needed] = [numbers(version), numbers(least)];
  for (let i = 0; i < needed.length; i++) {
    const difference = (found[i] ?? 0) - needed[i]!;
    if (difference !== 0) return difference > 0;
  }
  return true;
}

/** The version needed and the version found: `it takes Deno 2.9.3 or later, and this is 2.9.0`. */
export function takes(host: string, least: string, version: string): string {
  return `it takes ${host} ${least} or later, and this is ${version}`;
}

/**
 * Refuses a runtime that is too old.
 *
 * @param host Its name
 * @param version Its version
 * @param enough Whether it is new enough
 * @param least The oldest version, in words
 * @param why What an older one does wrong
 * @throws {EventError} `EV_UNSUPPORTED`
 */
export function checkVersion(host: string, version: string, enough: boolean, least: string, why: string): void {
  if (enough) return;
  throw new EventError(`Cannot use the network on ${host}: ${takes(host, least, version)}: an older one ${why}`, {
    code: "EV_UNSUPPORTED",
  });
}
