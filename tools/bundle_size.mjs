/** Measures the bundle of a program with the library. */

import { dirname } from "node:path";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

/** The imports of a line server, besides its adapter. */
export const LINE_SERVER = `export { ConnListener, EventBase, SocketBufferEvent } from "./core/mod.ts";`;

/**
 * Bundles and minifies a program.
 *
 * @param {string} contents The program, which imports sources by their paths from the root
 * @returns {Promise<{ minified: number, gzipped: number, heaviest: Record<string, number> }>}
 * Bytes; `heaviest` has the largest files
 */
export async function bundleSize(contents) {
  const { outputFiles, metafile } = await build({
    stdin: { contents, resolveDir: dirname(import.meta.dirname), loader: "ts" },
    bundle: true,
    minify: true,
    format: "esm",
    platform: "neutral",
    target: "es2022",
    external: ["node:*"],
    write: false,
    metafile: true,
    logLevel: "error",
  });
  const [file] = outputFiles;
  const inputs = Object.entries(Object.values(metafile.outputs)[0].inputs)
    .map(([path, { bytesInOutput }]) => [path, bytesInOutput])
    .sort((a, b) => b[1] - a[1]);
  return {
    minified: file.contents.length,
    gzipped: gzipSync(file.contents, { level: 9 }).length,
    heaviest: Object.fromEntries(inputs.slice(0, 8)),
  };
}
