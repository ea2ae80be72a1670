/** The reference programs in C, and the case without a compiler. */

import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../../tests/tools/runtimes.mjs";

/** The folder of everything that the benchmarks build. */
export const BUILD = join(ROOT, "build", "bench");
/** The folder of the programs that the library is compared with. */
export const REFERENCE = join(ROOT, "bench", "reference");
/** How to get the rows of C. */
export const HOW_TO_GET_C = "it needs a C compiler and libevent (Debian: apt-get install gcc libc6-dev libevent-dev)";

/**
 * Compiles `bench/reference/<name>.c`.
 *
 * @param {string} name
 * @param {readonly string[]} [libraries] Options such as `-levent_core`
 * @returns {string | undefined} The path of the program; undefined if it cannot be compiled
 */
export function compile(name, libraries = []) {
  mkdirSync(BUILD, { recursive: true });
  const binary = join(BUILD, name);
  try {
    const args = ["-O2", "-o", binary, join(REFERENCE, `${name}.c`), ...libraries];
    execFileSync("cc", args, { stdio: ["ignore", "ignore", "pipe"] });
    return binary;
  } catch {
    return undefined;
  }
}

/** Compiles a program that needs libevent, or returns undefined. @param {string} name */
export function compileWithLibevent(name) {
  return compile(name, ["-levent_core"]);
}

/** The version of libevent for the programs in C. */
export function libeventVersion() {
  try {
    return execFileSync("pkg-config", ["--modversion", "libevent_core"], { encoding: "utf8" }).trim();
  } catch {
    return "(of this system)";
  }
}
