// The package for npm users: packed, installed into an empty project, and used there on the three
// runtimes.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { build, transform } from "esbuild";
import { run, start } from "../tools/processes.mjs";
import { findRuntime, type RuntimeName, RUNTIMES } from "../tools/runtimes.mjs";
import {
  cleanEnvironment,
  echo,
  echoServer,
  installTarball,
  LISTENING,
  must,
  mustTool,
  packTarball,
  readmeProgram,
  writeFiles,
} from "./workshop.ts";

const RUN: Record<RuntimeName, string[]> = {
  node: [],
  deno: ["run", "--allow-net=127.0.0.1"],
  bun: ["run"],
};

/** Whether Node lets a CommonJS module require an ES module. */
const requires = (process.features as { require_module?: boolean }).require_module === true;

describe("the npm package", () => {
  let tarball: { path: string; files: string[] };
  let project: string;

  before(async () => {
    tarball = await packTarball();
    project = await installTarball(tarball.path);
  });

  it("contains only the built files, its documents and the tests that its guarantees link to", () => {
    const others = tarball.files.filter((path) =>
      !/^(dist\/.*\.(js|js\.map|d\.ts)|docs\/(decisions\/)?\w[\w-]*\.md|tests\/.*(\.test|_laws)\.ts)$/
        .test(path)
    );
    const documents = [
      "CHANGELOG.md",
      "CONTRIBUTING.md",
      "LICENSE",
      "README.md",
      "SECURITY.md",
    ];
    assertEquals(others, [...documents, "examples/README.md", "package.json"]);
    for (const path of tarball.files) {
      // Source maps carry their sources, under names relative to the package.
      const text = readFileSync(
        join(project, "node_modules", "trivent", path),
        "utf8",
      );
      assert(
        !text.includes(process.cwd()),
        `${path} names a folder of this machine`,
      );
    }
  });

  it("has every file that its manifest names", () => {
    const folder = join(project, "node_modules", "trivent");
    const { exports } = JSON.parse(
      readFileSync(join(folder, "package.json"), "utf8"),
    ) as { exports: object };
    const targets = JSON.stringify(exports).match(/\.\/[^"]+\.(js|d\.ts|json)(?=")/g) ?? [];
    assert(targets.length >= 30);
    for (const target of targets) {
      assert(existsSync(join(folder, target)), target);
    }
  });

  for (const name of RUNTIMES) {
    it(`serves an echo in ten lines on ${name}`, async () => {
      const program = echoServer("trivent");
      assertEquals(program.trimEnd().split("\n").length, 10);
      writeFiles(project, { "echo.mjs": program });
      const server = await start(findRuntime(name).path, [
        ...RUN[name],
        "echo.mjs",
      ], {
        cwd: project,
        env: cleanEnvironment(),
        ready: LISTENING,
      });
      try {
        const bytes = Uint8Array.from(
          { length: 300_000 },
          (_, i) => (i * 31) >> 3,
        );
        assertEquals(await echo(Number(server.match[1]), bytes), bytes);
      } finally {
        assertEquals(await server.stop(), null);
      }
    });

    it(`serves the ROT13 of the README on ${name}`, async () => {
      // Node runs no TypeScript before 22.18.
      const { code } = await transform(readmeProgram().replace("40713", "0"), {
        loader: "ts",
        target: "es2022",
      });
      writeFiles(project, { "rot13.mjs": code });
      const server = await start(findRuntime(name).path, [
        ...RUN[name],
        "rot13.mjs",
      ], {
        cwd: project,
        env: cleanEnvironment(),
        ready: LISTENING,
      });
      try {
        const reply = await echo(
          Number(server.match[1]),
          new TextEncoder().encode("Hello, Ünïcode\r\n\n"),
        );
        assertEquals(new TextDecoder().decode(reply), "Uryyb, Üaïpbqr\n\n");
      } finally {
        await server.stop();
      }
    });

    it(`has one copy of each class for all entry points on ${name}`, async () => {
      writeFiles(project, {
        "classes.mjs": `import * as all from "trivent";
import * as core from "trivent/core";
await Promise.all([import("trivent/node"), import("trivent/deno"), import("trivent/bun"), import("trivent/sim")]);
const names = Object.keys(core);
const other = names.filter((name) => all[name] !== core[name]);
console.log(\`\${names.length > 2} \${other.join() || "same"} \${typeof new all.EvBuffer()}\`);
`,
      });
      assertEquals(
        (await must(findRuntime(name).path, [...RUN[name], "classes.mjs"], {
          cwd: project,
        })).trim(),
        "true same object",
      );
    });
  }

  for (const name of RUNTIMES) {
    it(
      `can be required by a CommonJS module on ${name}, and is the same copy as an import`,
      {
        skip: name === "node" && !requires &&
          "require() of an ES module takes Node 20.19 or 22.12",
      },
      async () => {
        writeFiles(project, {
          "required.cjs": `const { serve, EvBuffer } = require("trivent");
import("trivent/core").then((core) => console.log(typeof serve, EvBuffer === core.EvBuffer));
`,
        });
        const output = await must(findRuntime(name).path, [
          ...RUN[name],
          "required.cjs",
        ], { cwd: project });
        assertMatch(output, /^function true$/m);
      },
    );

    it(`works without Symbol.dispose on ${name}`, async () => {
      const { outputFiles: [bundle] } = await build({
        stdin: {
          contents: `export * from "trivent/core"; export { simRuntime } from "trivent/sim";`,
          resolveDir: project,
        },
        bundle: true,
        format: "esm",
        platform: "neutral",
        write: false,
      });
      writeFiles(project, {
        "old.mjs": bundle!.text.replaceAll(
          /Symbol\.(dispose|asyncDispose)/g,
          "Symbol.absent",
        ),
        "echo_old.mjs": `import { connect, serve, simRuntime } from "./old.mjs";
${ECHO}console.log(value, runtime.openHandles);
`,
      });
      assertEquals(
        await must(findRuntime(name).path, [...RUN[name], "echo_old.mjs"], {
          cwd: project,
        }),
        "hello 0\n",
      );
    });
  }

  it("is reported as an ES module by a Node that cannot require one", async () => {
    writeFiles(project, { "required.cjs": `require("trivent");\n` });
    const flags = requires ? ["--no-experimental-require-module"] : [];
    const { code, output } = await run(findRuntime("node").path, [
      ...flags,
      "required.cjs",
    ], {
      cwd: project,
      env: cleanEnvironment(),
      timeoutMs: 300_000,
    });
    assertEquals(code, 1);
    assertMatch(output, /ERR_REQUIRE_ESM/);
    assertMatch(
      output,
      /require\(\) of ES Module .*trivent.*dynamic import\(\)/s,
    );
  });

  it("has the same exports on every runtime, except the choice of the adapter and the loader of the simulator", async () => {
    writeFiles(project, {
      "names.mjs": `import * as all from "./node_modules/trivent/dist/mod.js";
import * as onNode from "./node_modules/trivent/dist/mod.node.js";
import * as onDeno from "./node_modules/trivent/dist/mod.deno.js";
import * as onBun from "./node_modules/trivent/dist/mod.bun.js";
for (const one of [onNode, onDeno, onBun]) {
  const names = new Set([...Object.keys(all), ...Object.keys(one)]);
  console.log([...names].filter((name) => all[name] !== one[name] || typeof one[name] === "undefined").join());
}
`,
    });
    assertEquals(
      await must(findRuntime("node").path, ["names.mjs"], { cwd: project }),
      "detectRuntime,simRuntime\n".repeat(3),
    );
  });

  it("parses no simulator and no adapter of another runtime", () => {
    const dist = join(project, "node_modules", "trivent", "dist");
    /** The modules that are loaded with a file. */
    const loaded = (path: string, known = new Map<string, string>()): Map<string, string> => {
      const text = readFileSync(path, "utf8");
      known.set(path, text);
      for (const [, to] of text.matchAll(/^(?:import|export) [^;"]*?from "(\.[^"]+)";$|^import "(\.[^"]+)"/gm)) {
        const next = join(path, "..", to!);
        if (!known.has(next)) loaded(next, known);
      }
      return known;
    };
    const classes = ["SimHostRuntime", "NodeTransport", "DenoTransport", "BunTransport"];
    const found = ["mod.js", "mod.node.js", "mod.deno.js", "mod.bun.js"].map((entry) => {
      const texts = [...loaded(join(dist, entry)).values()];
      return classes.filter((name) => texts.some((text) => text.includes(`var ${name} = class`)));
    });
    assertEquals(found, [classes, ["NodeTransport"], ["DenoTransport"], ["BunTransport"]]);
  });

  for (const name of RUNTIMES) {
    it(`has the simulator on ${name}, as the package and in a bundle for each host`, async () => {
      writeFiles(project, { "simulated.mjs": SIMULATED });
      const expected = "hello 0 true true\n";
      assertEquals(await must(findRuntime(name).path, [...RUN[name], "simulated.mjs"], { cwd: project }), expected);
      // `node -e` has a `require` that every module sees.
      const inline = ["-e", `import("./simulated.mjs")`];
      if (name === "node") assertEquals(await must(findRuntime(name).path, inline, { cwd: project }), expected);
      for (const conditions of [["module", "node"], ["bun"], ["deno"], ["module-sync"], []]) {
        const outfile = join(project, "bundled", "simulated.mjs");
        await build({
          entryPoints: [join(project, "simulated.mjs")],
          bundle: true,
          format: "esm",
          platform: "neutral",
          conditions,
          external: ["node:*"],
          outfile,
        });
        assertEquals(await must(findRuntime(name).path, [...RUN[name], outfile], { cwd: project }), expected);
      }
    });
  }

  it("works after a bundler has dropped unused code", async () => {
    const program = `import { EventBase } from "trivent";\nconsole.log(new EventBase().runtime.name);\n`;
    writeFiles(project, { "bundle.mjs": program });
    const options = {
      entryPoints: [join(project, "bundle.mjs")],
      outfile: join(project, "bundled.mjs"),
    };
    await build({
      ...options,
      bundle: true,
      minify: true,
      format: "esm",
      platform: "neutral",
    });
    assertEquals(
      (await must(findRuntime("node").path, ["bundled.mjs"], { cwd: project }))
        .trim(),
      "node",
    );
  });

  it("passes publint", async () => {
    assertStringIncludes(
      await mustTool("publint", "publint", ["run", tarball.path, "--strict"]),
      "All good!",
    );
  });

  it("passes attw for ES modules", async () => {
    await mustTool("@arethetypeswrong/cli", "attw", [
      tarball.path,
      "--profile",
      "esm-only",
    ]);
  });
});

/** Echoes a line in the simulator. */
const ECHO = `const runtime = simRuntime();
const server = await serve({ runtime, port: 80 }, { read: (bev) => bev.writeBuffer(bev.input) });
const bev = await runtime.run(connect({ runtime, port: 80 }, {}));
bev.write("hello\\n");
const { value } = await runtime.run(bev.lines({ maxBytes: 100, text: true }).next());
await runtime.run(bev.close());
await runtime.run(server.close());
`;

/** The same, and the classes of all entry points are the same. */
const SIMULATED = `import { connect, EvBuffer, EventError, serve, simRuntime } from "trivent";
import { EvBuffer as Same } from "trivent/core";
import { simRuntime as other } from "trivent/sim";
${ECHO}const failure = await other().run(new Promise(() => {})).catch((error) => error);
console.log(value, runtime.openHandles, EvBuffer === Same, failure instanceof EventError);
`;
