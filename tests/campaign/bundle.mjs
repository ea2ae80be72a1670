/** Bundles the campaign with the library, or with a changed copy of it. */

import { readFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { build } from "esbuild";
import { ROOT } from "../tools/runtimes.mjs";

/**
 * Writes one module with the campaign, the core and the simulator.
 *
 * @param {string} outfile
 * @param {{ file: string, from: string, to: string } | null} [change] A text of one file of the library to be replaced
 */
export async function bundleCampaign(outfile, change = null) {
  await build({
    entryPoints: [join(ROOT, "tests", "campaign", "main.ts")],
    outfile,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "es2022",
    sourcemap: "inline",
    logLevel: "warning",
    // package.json says which files do something when they are imported; it does not know those of tests.
    ignoreAnnotations: true,
    plugins: change === null ? [] : [changing(change)],
  });
}

function changing({ file, from, to }) {
  return {
    name: "changing",
    setup({ onLoad }) {
      onLoad({ filter: /\.ts$/ }, async ({ path }) => {
        if (relative(ROOT, path).split(sep).join("/") !== file) return undefined;
        return { contents: replaced(await readFile(path, "utf8"), { file, from, to }), loader: "ts" };
      });
    },
  };
}

/**
 * Replaces a text that stands in a file once.
 *
 * @param {string} source
 * @param {{ file: string, from: string, to: string }} change
 * @returns {string}
 */
export function replaced(source, { file, from, to }) {
  const parts = source.split(from);
  if (parts.length !== 2) throw new Error(`${file} has ${parts.length - 1} times, not once: ${from}`);
  return parts.join(to);
}
