// The page on performance has the measured figures, and no text that the next measurement makes
// wrong.

import { describe, it } from "node:test";
import { assertEquals } from "@std/assert";
import { run } from "../tools/processes.mjs";
import { findRuntime, ROOT } from "../tools/runtimes.mjs";
import { cleanEnvironment } from "./workshop.ts";

const node = findRuntime("node").path;

async function output(args: string[]): Promise<string> {
  const { output } = await run(node, args, { cwd: ROOT, env: cleanEnvironment(), timeoutMs: 60_000 });
  return output.trim();
}

describe("docs/performance.md", () => {
  it("is made from bench/results", async () => {
    assertEquals(await output(["bench/run.mjs", "document", "--check"]), "");
  });

  it("has a paragraph for each goal that can be missed, without a figure of a run", async () => {
    const script = `import { CAUSES } from "./bench/shared/causes.mjs";
import { GOALS } from "./bench/shared/goals.mjs";
const judged = GOALS.filter(({ limit, limits }) => limit !== undefined || Object.keys(limits).length > 0);
const all = new Set(GOALS.map(({ id }) => id));
console.log(JSON.stringify({
  missing: judged.filter(({ id }) => CAUSES[id]?.title === undefined).map(({ id }) => id),
  unknown: Object.keys(CAUSES).filter((id) => !all.has(id)),
  figures: Object.values(CAUSES).flatMap((each) => Object.values(each)).filter((text) => /\\d\\.\\d|\\d ?(µs|%)/.test(text)),
}));`;
    assertEquals(JSON.parse(await output(["--input-type=module", "-e", script])), {
      missing: [],
      unknown: [],
      figures: [],
    });
  });
});
