// The faults that are planted in a copy of the library to test the campaign: each can still be
// planted, and the first two are found.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { assert, assertThrows } from "@std/assert";
import { run } from "../tools/processes.mjs";
import { plainEnvironment, ROOT } from "../tools/runtimes.mjs";

interface Planted {
  readonly name: string;
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

const { PLANTED } = await import(`${join(ROOT, "tests/campaign/planted.mjs")}`) as { PLANTED: readonly Planted[] };
const { replaced } = await import(`${join(ROOT, "tests/campaign/bundle.mjs")}`) as {
  replaced(source: string, change: Planted): string;
};

describe("the planted faults", () => {
  for (const fault of PLANTED) {
    it(`can be planted: ${fault.name}`, () => {
      const source = readFileSync(join(ROOT, fault.file), "utf8");
      assert(replaced(source, fault) !== source);
    });
  }

  it("are not planted if the text is missing, or there twice", () => {
    const [fault] = PLANTED as [Planted];
    for (const source of ["", fault.from + fault.from]) assertThrows(() => replaced(source, fault), Error, "not once");
  });

  it("are found", async () => {
    const args = ["tests/campaign/planted.mjs", "--runs", "300", "chunk border", "after free"];
    const { code, output } = await run(process.execPath, args, {
      cwd: ROOT,
      env: plainEnvironment(),
      timeoutMs: 300_000,
    });
    assert(code === 0, output);
  });
});
