// The simulator runs anywhere: it uses no name that only some runtime has, and nothing that differs
// between two runs.

import { readdirSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";

const HOST_NAMES =
  /(?<![.#\w$])(?:process|Buffer|setTimeout|setInterval|setImmediate|clearTimeout|queueMicrotask|performance|Deno|Bun|require|global|globalThis|window|self|document|navigator|fetch|console|Date|TextEncoder|TextDecoder|WeakRef|FinalizationRegistry)(?![\w$]|\s*\??:)|\bMath\.random\b/g;

/** Names that these files implement. */
const ALLOWED: { readonly [file: string]: readonly string[] } = {
  "sim/host_task.ts": ["setImmediate", "process", "Deno", "globalThis"],
  "sim/real_time.ts": ["Date"],
  "sim/memory.ts": ["globalThis", "Deno"],
  "sim/threads.ts": ["process", "globalThis"],
  "sim/install.ts": ["globalThis", "Date", "performance"],
};

describe("the simulator", () => {
  it("uses no name of a runtime, and no clock or random numbers but its own", () => {
    const files = ["sim.ts", ...readdirSync("runtimes/sim").map((name) => `sim/${name}`)];
    assert(files.length > 8);
    for (const file of files) {
      const code = readFileSync(`runtimes/${file}`, "utf8").replace(/\/\*.*?\*\/|\/\/.*?$|"[^"\n]*"|`[^`]*`/gms, "");
      const names = [...code.matchAll(HOST_NAMES)].map(([name]) => name);
      assertEquals(names.filter((name) => !ALLOWED[file]?.includes(name)), [], file);
      const imports = [...readFileSync(`runtimes/${file}`, "utf8").matchAll(/^[^*\n]*from "([^"]+)";$/gm)];
      assertEquals(imports.map(([, path]) => path).filter((path) => !path?.startsWith(".")), [], file);
    }
  });
});
