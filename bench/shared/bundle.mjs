/** A program of these folders as one file that all three runtimes run. */

import { join } from "node:path";
import { build } from "esbuild";
import { ROOT } from "../../tests/tools/runtimes.mjs";
import { BUILD } from "./compile.mjs";

/**
 * Bundles a program together with the library.
 *
 * @param {string} source The path, such as `bench/loop/main.ts`
 * @param {string} name The name of the output file
 * @returns {Promise<string>} The path
 */
export async function bundle(source, name) {
  const outfile = join(BUILD, name);
  await build({
    absWorkingDir: ROOT,
    entryPoints: [source],
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "es2022",
    logLevel: "error",
    // split2 is CommonJS, and loads its modules with `require`.
    banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
  });
  return outfile;
}
