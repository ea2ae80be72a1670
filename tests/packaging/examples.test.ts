// The examples of the docstrings, each in a process of its own: on Node and Bun they run to their end. Deno runs them by
// `npm run docs:test`, in one process that does not wait for open handles of an example.
// documents.test.ts runs those of README and guide.

import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { transform } from "esbuild";
import { run } from "../tools/processes.mjs";
import { findRuntime, ROOT } from "../tools/runtimes.mjs";
import { cleanEnvironment, temporaryFolder } from "./workshop.ts";

const JOBS = 4;
const LIMIT_MS = 180_000;
const FENCE = /```ts\n([\s\S]*?)```/g;

/** The examples of a file, by name. */
function examplesOf(file: string): [name: string, code: string][] {
  const text = readFileSync(join(ROOT, file), "utf8");
  const texts = [...text.matchAll(/\/\*\*([\s\S]*?)\*\//g)].map((
    [, comment = ""],
  ) => comment.replace(/^ *\* ?/gm, ""));
  return texts.flatMap((each) => [...each.matchAll(FENCE)].map(([, code = ""]) => code))
    .map((code, i) => [`${file.replaceAll("/", "-")}-${i + 1}`, code]);
}

/** The sources below a folder. */
function sources(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true }).map((name) => join(folder, String(name)))
    .filter((name) => name.endsWith(".ts")).sort();
}

describe("every example", () => {
  const folder = temporaryFolder();
  const files: string[] = [];

  before(async () => {
    mkdirSync(join(folder, "node_modules"));
    symlinkSync(ROOT, join(folder, "node_modules", "trivent"));
    writeFileSync(
      join(folder, "package.json"),
      JSON.stringify({ type: "module" }),
    );
    // Some examples read standard input.
    writeFileSync(
      join(folder, "README.md"),
      readFileSync(join(ROOT, "README.md")),
    );
    for (const file of ["mod.ts", ...sources("core"), ...sources("runtimes")]) {
      for (const [name, code] of examplesOf(file)) {
        const { code: plain } = await transform(code, {
          loader: "ts",
          target: "node20",
          format: "esm",
        });
        writeFileSync(join(folder, `${name}.mjs`), plain);
        files.push(`${name}.mjs`);
      }
    }
  });

  for (const runtime of ["node", "bun"] as const) {
    it(`runs to its end on ${runtime}`, async () => {
      assert(files.length > 100, `${files.length} examples`);
      const queue = files.slice();
      const failed: string[] = [];
      const { path } = findRuntime(runtime);
      await Promise.all(Array.from({ length: JOBS }, async () => {
        for (
          let file = queue.shift();
          file !== undefined;
          file = queue.shift()
        ) {
          const result = await run(path, [file], {
            cwd: folder,
            env: cleanEnvironment(),
            timeoutMs: LIMIT_MS,
          });
          if (result.code === 0) continue;
          failed.push(
            `${file}: ${result.timedOut ? "it does not end" : `exit code ${result.code}`}\n${result.output}`,
          );
        }
      }));
      assertEquals(failed, []);
    });
  }
});
