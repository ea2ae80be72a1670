// One name for the package in all texts: `trivent`. JSR's longer name is explained where it is
// installed.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { ROOT } from "../tools/runtimes.mjs";
import { json } from "./workshop.ts";

const { name: scoped, exports, imports } = json<
  { name: string; exports: object; imports: Record<string, string> }
>(
  "deno.json",
);
const entries = new Map(
  // The command is run, not imported.
  Object.entries(exports).filter(([entry]) => entry !== "./cli").map((
    [entry, file],
  ) => [`trivent${entry.slice(1)}`, String(file)]),
);
/** The texts that people read: the library with its docstrings, the documents, the examples. */
const READ = [
  "mod.ts",
  "README.md",
  ...["core", "runtimes", "bridges", "docs", "examples"].flatMap(filesIn),
];

function filesIn(folder: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true }).map((name) => `${folder}/${String(name)}`)
    .filter((name) => /\.(ts|mjs|md)$/.test(name)).sort();
}

describe("the name of the package", () => {
  it("is trivent in every import that an example or a docstring shows", () => {
    let count = 0;
    for (const file of READ) {
      const text = readFileSync(join(ROOT, file), "utf8");
      for (
        const [, specifier = ""] of text.matchAll(
          /\b(?:from|import) ?\(?"((?:jsr:|npm:)?@?trivent\b[^"]*)"/g,
        )
      ) {
        assert(entries.has(specifier), `${file} imports ${specifier}`);
        count++;
      }
    }
    assert(count > 130, `${count} imports`);
  });

  it("has a scope only in the instructions for JSR", () => {
    const files = READ.filter((file) => readFileSync(join(ROOT, file), "utf8").includes("@trivent/"));
    assertEquals(files, ["mod.ts", "README.md", "docs/install.md"]);
    for (const file of files) {
      assertStringIncludes(
        readFileSync(join(ROOT, file), "utf8"),
        `deno add trivent@jsr:${scoped}`,
      );
    }
  });

  it("is imported by the examples, instead of a file of this repository", () => {
    for (const file of filesIn("examples")) {
      assert(
        !/from "\.\.\/(mod|core|runtimes)/.test(
          readFileSync(join(ROOT, file), "utf8"),
        ),
        file,
      );
    }
  });

  it("leads to the sources on every runtime and in the type check", () => {
    const ours = Object.entries(imports).filter(([name]) => /^trivent\b/.test(name));
    assertEquals(new Map(ours), entries);
    const { compilerOptions } = json<
      { compilerOptions: { paths: Record<string, string[]> } }
    >("tsconfig.json");
    const paths = Object.entries(compilerOptions.paths).map((
      [name, [file]],
    ) => [name, file]);
    assertEquals(new Map(paths as [string, string][]), entries);
  });
});
