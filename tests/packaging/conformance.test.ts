// The laws of adapters, as the author of another adapter runs them: from the package.

import { before, describe, it } from "node:test";
import { assertEquals, assertMatch } from "@std/assert";
import { run } from "../tools/processes.mjs";
import { findRuntime, type RuntimeName, RUNTIMES } from "../tools/runtimes.mjs";
import { cleanEnvironment, installTarball, packTarball, writeFiles } from "./workshop.ts";

const TEST: Record<RuntimeName, string[]> = {
  node: ["--test"],
  deno: ["test", "--allow-all"],
  bun: ["test", "--timeout=120000"],
};

/** The runtime that runs the test, with a change. */
const RUNTIME = (change: string): string =>
  `import { detectRuntime } from "trivent";

const host = detectRuntime();

export function myRuntime() {
  return new Proxy(host, {
    get(target, name) {
      if (name === "name") return "mine";
      ${change}
      const value = target[name];
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
`;

const BROKEN = `if (name === "setTimer") {
        return (deadlineMs, fn, background) => target.setTimer(deadlineMs + 60_000, fn, background);
      }`;

const LAWS = (suite: string): string =>
  `import { conformance } from "trivent/conformance";
import { myRuntime } from "./my_runtime.mjs";

const runtime = myRuntime();
conformance("my runtime", () => ({ runtime }), ["${suite}"]);
`;

describe("trivent/conformance", () => {
  let project: string;

  before(async () => {
    project = await installTarball((await packTarball()).path);
  });

  async function test(
    name: RuntimeName,
    ...more: string[]
  ): Promise<{ code: number | null; output: string }> {
    return await run(findRuntime(name).path, [...TEST[name], ...more, "./my.test.mjs"], {
      cwd: project,
      env: cleanEnvironment(),
      timeoutMs: 300_000,
    });
  }

  for (const name of RUNTIMES) {
    it(`tests another runtime on ${name}, with only the package installed`, async () => {
      writeFiles(project, {
        "my_runtime.mjs": RUNTIME(""),
        "my.test.mjs": LAWS("polling"),
      });
      const { code, output } = await test(name);
      assertEquals(code, 0, output);
      assertMatch(output, /CompletionPort/);
    });
  }

  it("fails for a runtime that breaks a law, and names the law", async () => {
    writeFiles(project, {
      "my_runtime.mjs": RUNTIME(BROKEN),
      "my.test.mjs": LAWS("clock"),
    });
    // Each law of the clock would take a minute or more.
    const law = "calls timers at their time, and in order";
    const { code, output } = await test("bun", "--timeout=5000", "-t", law);
    assertEquals(code, 1, output);
    assertMatch(output, new RegExp(`\\(fail\\).*${law}`));
  });

  it("gives the laws as a list for another test runner", async () => {
    writeFiles(project, {
      "my_runtime.mjs": RUNTIME(""),
      "list.mjs": `import { laws, SUITES } from "trivent/conformance";
import { myRuntime } from "./my_runtime.mjs";

const runtime = myRuntime();
const all = SUITES.flatMap((suite) => laws("mine", () => ({ runtime }), [suite]));
console.log(all.length > 200, new Set(all.map(({ name }) => name)).size === all.length);
const law = all.find(({ name }) => name.includes("never goes back"));
console.log(law.skip, await law.run());
`,
    });
    const { code, output } = await run(findRuntime("node").path, ["list.mjs"], {
      cwd: project,
      env: cleanEnvironment(),
      timeoutMs: 300_000,
    });
    assertEquals([code, output], [0, "true true\nfalse undefined\n"]);
  });
});
