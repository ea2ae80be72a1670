/**
 * What `dist/` is cut into.
 *
 * A host pays for each file that it loads (Node 0.4 ms), and parses all that is in them. So the library is two chunks:
 * one with the core, the simulator and the adapter of Bun, which every entry point needs, and one with the adapters of
 * Node and Deno. Bun, which takes longest to parse, finds an entry point that needs the first only.
 */

import { readFile } from "node:fs/promises";
import { dirname, join, relative, sep } from "node:path";

const ROOT = dirname(import.meta.dirname);

/** The entry point "trivent" on Bun, made from `mod.ts`: it chooses the adapter of Bun without a look at the host. */
export const BUN_ENTRY = { in: "trivent:mod.bun", out: "mod.bun" };

const FIRST = ["./core/mod.ts", "./runtimes/sim.ts", "./runtimes/bun.ts"];
const SECOND = ["./runtimes/node.ts", "./runtimes/deno.ts", "./runtimes/detect.ts"];
/** Contents by name: an entry point that imports one of these needs what the others do that import it. */
const MODULES = new Map([
  ["first", importing(FIRST)],
  ["second", importing(SECOND)],
  ["detect.bun", `export { bunRuntime as detectRuntime } from "./runtimes/bun.ts";`],
]);

/** @param {readonly string[]} entries The paths of the entry points, from the root */
export function inTwoChunks(entries) {
  return {
    name: "in-two-chunks",
    setup({ onLoad, onResolve }) {
      onResolve({ filter: /^trivent:/ }, ({ path }) => ({ path: path.slice("trivent:".length), namespace: "trivent" }));
      onResolve({ filter: /detect\.ts$/ }, ({ importer, namespace }) => {
        return namespace === "trivent" && importer === "mod.bun" ? { path: "detect.bun", namespace } : undefined;
      });
      onLoad({ filter: /./, namespace: "trivent" }, async ({ path }) => {
        return path === "mod.bun"
          ? { contents: await read("mod.ts", ["first"]), loader: "ts", resolveDir: ROOT }
          : { contents: MODULES.get(path), resolveDir: ROOT };
      });
      onLoad({ filter: /\.ts$/, namespace: "file" }, async ({ path }) => {
        const name = relative(ROOT, path).split(sep).join("/");
        const second = name === "mod.ts" || SECOND.includes(`./${name}`);
        const needed = !entries.includes(name) ? [] : second ? ["first", "second"] : ["first"];
        return { contents: await read(name, needed), loader: "ts" };
      });
    },
  };
}

/**
 * A file, and what it is to need besides. It is without docstrings: they are in the declarations, and esbuild would leave
 * those of methods in, a quarter of the code.
 */
async function read(path, needed) {
  const text = await readFile(join(ROOT, path), "utf8");
  const code = text.replaceAll(/^ *\/\*\*[^]*?\*\/$/gm, (doc) => doc.replaceAll(/.+/g, ""));
  return code + needed.map((name) => `import "trivent:${name}";\n`).join("");
}

/** Not `import "…"`: esbuild would say that it does nothing, as the manifest has it. */
function importing(paths) {
  return paths.map((path) => `import {} from "${path}";\n`).join("");
}
