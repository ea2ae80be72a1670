/** The commands of the measured programs: ours and their rivals. */

import { basename, join } from "node:path";
import { buildTests } from "../../tests/tools/bundles.mjs";
import { findRuntime, ROOT } from "../../tests/tools/runtimes.mjs";
import { buildDist } from "../../tools/build.mjs";
import { BUILD, REFERENCE } from "./compile.mjs";

const DENO = ["run", "--quiet", "--no-check", "--allow-net", "--allow-read", "--unstable-net"];
/** The folder of the programs that are built for Node. */
const PROGRAMS = join(BUILD, "programs");

/**
 * Builds the library, servers of this folder for Node, and the server that {@linkcode growing} starts there; ours import
 * the library from `dist/` by the name of the package, as users do.
 *
 * @param {readonly string[]} names Names such as `rot13_server`
 */
export async function buildPrograms(names) {
  await buildDist({ declarations: false });
  await buildTests([...names, "reference/growing_node"].map((name) => `bench/${name}.ts`), PROGRAMS);
}

/**
 * The command of one of our servers; its first argument is a free port.
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
 * @param {string} file As `echo_node.mjs`, which runs on all of them
 * @param {readonly string[]} [args] The arguments after the port
 */
export function reference(runtime, file, args = []) {
  return program(runtime, join(REFERENCE, basename(file)), ["0", ...args]);
}

/** The ROT13 server by hand, good at every size of line. @param {"node" | "deno" | "bun"} runtime */
export function growing(runtime) {
  if (runtime !== "node") return reference(runtime, `growing_${runtime}.ts`);
  return program("node", join(PROGRAMS, "bench", "reference", "growing_node.js"), ["0"]);
}

/** @param {"node" | "deno" | "bun"} runtime @param {string} file @param {readonly string[]} [args] */
export function program(runtime, file, args = []) {
  const { path } = findRuntime(runtime);
  return [path, ...(runtime === "deno" ? DENO : runtime === "bun" ? ["run"] : []), file, ...args];
}
