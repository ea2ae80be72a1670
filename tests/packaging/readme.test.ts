// The README is one page, and the table of guarantees is correct: each cell names a test that
// exists.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { ROOT } from "../tools/runtimes.mjs";

const section = readFileSync(join(ROOT, "docs", "guarantees.md"), "utf8");
const rows = section.split("\n").filter((line) => line.startsWith("|")).slice(2)
  .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
const links = new Map(
  [...section.matchAll(/^\[([^\]]+)\]: \.\.\/(\S+) "(.*)"$/gm)].map((
    [, label, file, title],
  ) => [label, { file, title }]),
);

describe("the README", () => {
  const readme = readFileSync(join(ROOT, "README.md"), "utf8");

  it("is one page, and links to the site", () => {
    assert(readme.split("\n").length <= 100);
    assertStringIncludes(readme, "npm run site");
  });

  it("has the two commands of a checkout, and no other", () => {
    const [, block = ""] = /\n## From a checkout\n+```sh\n([^`]*)```/.exec(readme) ?? [];
    assertEquals(block.trim().split("\n").map((line) => line.replace(/ +#.*/, "")), [
      "npm ci && npm run demo",
      "npm ci && npm test",
    ]);
  });
});

describe("the table of guarantees", () => {
  it("names a test in each cell", () => {
    assert(rows.length > 20);
    const used = new Set<string>();
    for (const [what, ...cells] of rows) {
      assertEquals(cells.length, 3, what);
      for (const cell of cells) {
        const [, label = ""] = /^\[[^\]]+\]\[([^\]]+)\]$/.exec(cell) ?? [];
        assert(links.has(label), `${what}: "${cell}" names no test`);
        used.add(label);
      }
    }
    assertEquals(
      [...links.keys()].filter((label) => !used.has(label as string)),
      [],
    );
  });

  for (const [label, { file = "", title = "" }] of links) {
    it(`names an existing test for ${label}`, () => {
      assert(
        /^tests\/.*(\.test|_laws)\.ts$/.test(file) &&
          existsSync(join(ROOT, file)),
        `${file} is no test`,
      );
      assert(
        readFileSync(join(ROOT, file), "utf8").includes(title),
        `${file} has no test named ${title}`,
      );
    });
  }
});
