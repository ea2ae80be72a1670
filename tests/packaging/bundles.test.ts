// The cost of a part of the package: the content of a bundle, and the loaded modules of the
// runtime.

import { join } from "node:path";
import { before, describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import { assert, assertEquals } from "@std/assert";
import { build } from "esbuild";
import { findRuntime, ROOT, type RuntimeName, RUNTIMES } from "../tools/runtimes.mjs";
import { cleanEnvironment, installTarball, must, packTarball, writeFiles } from "./workshop.ts";

const RUN: Record<RuntimeName, string[]> = {
  node: [],
  deno: ["run", "--allow-net=127.0.0.1"],
  bun: ["run"],
};

let project: string;
before(async () => {
  project = await installTarball((await packTarball()).path);
});

/** The names of the classes that esbuild leaves in. */
async function classesIn(program: string): Promise<Set<string>> {
  const { outputFiles: [file] } = await build({
    stdin: { contents: program, resolveDir: project },
    bundle: true,
    format: "esm",
    platform: "neutral",
    write: false,
  });
  return new Set(
    [...file!.text.matchAll(/^(?:var|let|const) (\w+?)\d* = class\b/gm)].map((
      [, name],
    ) => name!),
  );
}

function assertNone(classes: Set<string>, names: string): void {
  assertEquals(names.split(" ").filter((name) => classes.has(name)), []);
}

describe("a bundle", () => {
  it("with a constant has no class but EventError", async () => {
    // Another class is included if a module makes an object when it is loaded: mark it with /*
    // @__PURE__ */ (docs/decisions/no-static-blocks.md).
    assertEquals([
      ...await classesIn(`export { EV_READ } from "trivent/core";`),
    ], ["EventError"]);
  });

  it("with EvBuffer has buffers, and nothing for the loop, sockets and files", async () => {
    const classes = await classesIn(`export { EvBuffer } from "trivent/core";`);
    for (const name of ["EvBuffer", "Chain", "Position"]) {
      assert(classes.has(name), name);
    }
    assertNone(
      classes,
      "Loop EventBase EventHandle TimerHeap Connection Socket Acceptor FileSegment Operation BevCore",
    );
  });

  it("with a line server on Node has no unused parts", async () => {
    const classes = await classesIn(
      `export { ConnListener, EventBase, SocketBufferEvent } from "trivent/core";
export { nodeRuntime } from "trivent/node";`,
    );
    for (
      const name of ["EventBase", "ConnListener", "SocketCore", "NodeTransport"]
    ) assert(classes.has(name), name);
    // Bundlers keep a class with a static block, with its dependencies, and objects that a module
    // makes when it is loaded.
    assertNone(
      classes,
      "FileSegment Overlapped Operation Operations Completions TokenBucketConfig RateLimits RateLimitGroup GroupCore " +
        "FilterCore PairCore Poller CompletionPort Server StreamSocket DenoTransport BunTransport SimHostRuntime",
    );
  });

  it("with an Overlapped, a limit or a file has the parts for that", async () => {
    const overlapped = await classesIn(
      `export { Overlapped } from "trivent/core";`,
    );
    assert(overlapped.has("Operations"));
    const limit = await classesIn(
      `export { TokenBucketConfig } from "trivent/core";`,
    );
    assert(limit.has("RateLimits"));
    assert(
      (await classesIn(`export { FileSegment } from "trivent/core";`)).has(
        "FileSegment",
      ),
    );
  });
});

describe("a built file", () => {
  it("has numbers in place of the names of bits, and nowhere else", async () => {
    const { finish } = await import(
      pathToFileURL(join(ROOT, "tools", "chunks.mjs")).href
    ) as { finish(text: string): string };
    const built = [
      "var CLOSED = 16;",
      "var BOTH = CLOSED | 1;",
      "var LIMIT = size();",
      'var text = "a & CLOSED | b";',
      "function test(state, flags) {",
      "  state &= ~CLOSED;",
      "  return (state & BOTH) !== 0 || (CLOSED | LIMIT) === flags.CLOSED || use({ CLOSED });",
      "}",
      "export { CLOSED };",
    ];
    const finished = finish(built.join("\n")).split("\n");
    assertEquals(finished, [
      "var CLOSED = 16;",
      "var BOTH = 16 /* CLOSED */ | 1;",
      ...built.slice(2, 5),
      "  state &= ~16 /* CLOSED */;",
      "  return (state & 17 /* BOTH */) !== 0 || (16 /* CLOSED */ | LIMIT) === flags.CLOSED || use({ CLOSED });",
      ...built.slice(7),
    ]);
  });
});

describe("importing the package", () => {
  for (const name of RUNTIMES) {
    it(`loads no module of the runtime on ${name}, and a line server only the modules that it needs`, async () => {
      writeFiles(project, { "modules.mjs": MODULES });
      const output = await must(findRuntime(name).path, [
        ...RUN[name],
        "modules.mjs",
      ], {
        cwd: project,
        env: cleanEnvironment(),
      });
      assertEquals(output.trim().split("\n"), [
        "import: ",
        `serve: ${name === "node" ? "node:buffer,node:net" : ""}`.trim(),
      ]);
    });
  }
});

/** Prints which modules of Node were asked for, and on Node also which were loaded. */
const MODULES = `import process from "node:process";
const asked = [];
const original = process.getBuiltinModule;
process.getBuiltinModule = (name) => {
  asked.push(name);
  return original.call(process, name);
};
const loaded = () => [...(process.moduleLoadList ?? [])].filter((name) => /^NativeModule \\w+$/.test(name));
const before = loaded();
const { serve } = await import("trivent");
const news = loaded().filter((name) => !before.includes(name));
const said = ["import: " + [...asked, ...news].join()];
const server = await serve({ hostname: "127.0.0.1", port: 0 }, {});
await server.close();
said.push("serve: " + [...new Set(asked)].join());
console.log(said.join("\\n"));
`;
