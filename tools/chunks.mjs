/**
 * Divides `dist/` into chunks.
 *
 * A runtime parses all files that it loads, and each file has a cost (on Node 0.4 ms). So a chunk
 * is a part that some program needs without the others: the core with what all adapters share, each
 * adapter, and the simulator.
 *
 * "trivent" has an entry point for each runtime, with its adapter only, and one for bundlers and other hosts, with all of
 * them. In those of runtimes, `simRuntime()` loads the simulator when it is called. For Node the condition is `module-sync`,
 * which only the versions have that can load an ES module synchronously, and no bundler that has `module`.
 */

import { readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";

const ROOT = dirname(import.meta.dirname);

/** The entry points "trivent" of single runtimes, made from `mod.ts`. */
export const HOST_ENTRIES = ["node", "deno", "bun"].map((host) => ({ in: `trivent:mod.${host}`, out: `mod.${host}` }));

const SHARED = readdirSync(join(ROOT, "runtimes", "shared")).map((name) => `./runtimes/shared/${name}`);

/** The files that each entry point loads first, as one chunk. */
const COMMON = ["./core/mod.ts", ...SHARED].map((path) => `import {} from "${path}";\n`).join("");

/** @param {readonly string[]} entries The paths of the entry points, from the root */
export function inChunks(entries) {
  return {
    name: "in-chunks",
    setup({ onLoad, onResolve }) {
      onResolve({ filter: /^trivent:/ }, ({ path }) => ({ path: path.slice("trivent:".length), namespace: "trivent" }));
      onResolve({ filter: /(detect|sim)\.ts$/ }, ({ path, importer, namespace }) => {
        const [, host] = namespace === "trivent" ? importer.split(".") : [];
        if (host === undefined) return undefined;
        // Each has its own, so that it stays beside `runtimes/`, and is not a chunk.
        return { path: `${path.endsWith("detect.ts") ? "detect" : "sim"}.${host}`, namespace };
      });
      onLoad({ filter: /./, namespace: "trivent" }, async ({ path }) => {
        const [name, host] = path.split(".");
        if (name === "mod") return { contents: await read("mod.ts", true), loader: "ts", resolveDir: ROOT };
        return { contents: { common: COMMON, sim: SIMULATOR }[name] ?? detect(host), resolveDir: ROOT };
      });
      onLoad({ filter: /\.ts$/, namespace: "file" }, async ({ path }) => {
        const name = relative(ROOT, path).split(sep).join("/");
        return { contents: await read(name, entries.includes(name)), loader: "ts" };
      });
    },
  };
}

/** The adapter of a runtime, without detection. */
function detect(host) {
  return `export { ${host}Runtime as detectRuntime } from "./runtimes/${host}.ts";`;
}

/**
 * The simulator, loaded when it is needed. Bun and bundlers find what `require` asks for in an ES module. Node and Deno have
 * no `require` there, or with `node -e` one that looks in another folder, but a function that makes one. Deno asks for no
 * permission to read if the package is in `node_modules`.
 */
const SIMULATOR = `let simulator;
function load() {
  try {
    return requireHere("./runtimes/sim.js");
  } catch {
    return process.getBuiltinModule("node:module").createRequire(import.meta.url)("./runtimes/sim.js");
  }
}
export function simRuntime(options) {
  simulator ??= load();
  return simulator.simRuntime(options);
}
`;

/**
 * A file as esbuild has built it, with what esbuild does not do. It keeps its lines.
 *
 * - `require` stays what it is: esbuild would replace it with a function of its own.
 * - Chunks do nothing when they are loaded, so an import of their names is enough. Bundlers warn of one without names.
 * - Bits are numbers where they are used, as in `state & 16 /* CLOSED *\/`. esbuild makes a variable of each constant. V8 loads it
 *   at each use, and bundlers keep it.
 */
export function finish(text) {
  const built = text.replaceAll("requireHere", "require").replaceAll(/^import "[./]+\/chunks\/[^"]+";$/gm, "");
  const bits = bitsOf(built);
  return built.replaceAll(OPERANDS, (found) => bits.has(found) ? `${bits.get(found)} /* ${found} */` : found);
}

/** Names on either side of `&`, `|` and `^`; and strings, so that nothing is found in them. */
const OPERANDS = /"(?:[^"\\\n]|\\.)*"|(?<= [&|^]=? ~?)[A-Z][A-Z0-9_]*\b|(?<![.#$\w])[A-Z][A-Z0-9_]*(?= [&|^] )/g;

/** The constants at the top level of a file that are whole numbers, or several of those: `A | B`. */
function bitsOf(text) {
  const bits = new Map();
  for (const [, name, terms] of text.matchAll(/^var ([A-Z][A-Z0-9_]*) = (\w+(?: \| \w+)*);$/gm)) {
    const values = terms.split(" | ").map((term) => bits.get(term) ?? Number(term));
    if (values.every(Number.isInteger)) bits.set(name, values.reduce((all, value) => all | value, 0));
  }
  return bits;
}

/**
 * A file, and whether it is an entry point. It is without docstrings: they are in the declarations, and esbuild would
 * leave those of methods in, a quarter of the code.
 */
async function read(path, entry) {
  const text = await readFile(join(ROOT, path), "utf8");
  const code = text.replaceAll(/^ *\/\*\*[^]*?\*\/$/gm, (doc) => doc.replaceAll(/.+/g, ""));
  return entry ? `${code}import "trivent:common";\n` : code;
}
