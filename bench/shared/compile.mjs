/** The reference programs in C, and what is done without a compiler. */

import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../../tests/tools/runtimes.mjs";

/** Where all that the benchmarks build lies. */
export const BUILD = join(ROOT, "build", "bench");
/** Where the programs lie that the library is compared with. */
export const REFERENCE = join(ROOT, "bench", "reference");
/** How to get the rows of C. */
export const HOW_TO_GET_C = "it needs a C compiler and libevent (Debian: apt-get install gcc libc6-dev libevent-dev)";

/**
 * Compiles `bench/reference/<name>.c`.
 *
 * @param {string} name
 * @param {readonly string[]} [libraries] As `-levent_core`
 * @returns {string | undefined} The path of the program; nothing where it can't be compiled
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

/** Compiles what needs libevent, or gives undefined. @param {string} name */
export function compileWithLibevent(name) {
  return compile(name, ["-levent_core"]);
}

/** The version of libevent that C is compiled with here. */
export function libeventVersion() {
  try {
    return execFileSync("pkg-config", ["--modversion", "libevent_core"], { encoding: "utf8" }).trim();
  } catch {
    return "(of this system)";
  }
}
