// The table of guarantees in the README: each cell names a test, and the test is there.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { ROOT } from "../tools/runtimes.mjs";

const readme = readFileSync(join(ROOT, "README.md"), "utf8");
const [, section = ""] = /\n## What is guaranteed where\n([\s\S]*?)\n## /.exec(readme) ?? [];
const rows = section.split("\n").filter((line) => line.startsWith("|")).slice(2)
  .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
const links = new Map(
  [...section.matchAll(/^\[([^\]]+)\]: (\S+) "(.*)"$/gm)].map((
    [, label, file, title],
  ) => [label, { file, title }]),
);

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
    it(`tells the truth about ${label}`, () => {
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
