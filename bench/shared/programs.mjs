/** The commands of the programs that are measured: ours, and those that they are compared with. */

import { basename, join } from "node:path";
import { buildTests } from "../../tests/tools/bundles.mjs";
import { findRuntime, ROOT } from "../../tests/tools/runtimes.mjs";
import { buildDist } from "../../tools/build.mjs";
import { BUILD, REFERENCE } from "./compile.mjs";

const DENO = ["run", "--quiet", "--no-check", "--allow-net", "--unstable-net"];
/** Where the programs for Node are built. */
export const PROGRAMS = join(BUILD, "programs");

/**
 * Builds the library, and servers of this folder for Node; they import it from `dist/` by the name of the package, as
 * users do.
 *
 * @param {readonly string[]} names As `rot13_server`
 */
export async function buildPrograms(names) {
  await buildDist({ declarations: false });
  await buildTests(names.map((name) => `bench/${name}.ts`), PROGRAMS);
}

/**
 * The command of a server of ours; the port, a free one, is its first argument.
 *
 * @param {"node" | "deno" | "bun"} runtime
 * @param {string} name
 * @param {readonly string[]} [args]
 */
export function ours(runtime, name, args = []) {
  const file = runtime === "node" ? join(PROGRAMS, "bench", `${name}.js`) : join(ROOT, "bench", `${name}.ts`);
  return program(runtime, file, ["0", ...args]);
}

/**
 * The command of a program of `reference/`.
 *
 * @param {"node" | "deno" | "bun"} runtime
 * @param {string} file As `handwritten_node.mjs`, which runs on all of them
 */
export function reference(runtime, file) {
  return program(runtime, join(REFERENCE, basename(file)), ["0"]);
}

/** The command of a program of `reference/` that was built for Node into {@linkcode PROGRAMS}. @param {string} name */
export function builtReference(name) {
  return program("node", join(PROGRAMS, "bench", "reference", `${name}.js`), ["0"]);
}

/** @param {"node" | "deno" | "bun"} runtime @param {string} file @param {readonly string[]} [args] */
export function program(runtime, file, args = []) {
  const { path } = findRuntime(runtime);
  return [path, ...(runtime === "deno" ? DENO : runtime === "bun" ? ["run"] : []), file, ...args];
}
