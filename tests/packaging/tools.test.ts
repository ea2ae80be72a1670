// The tools themselves: a runner that counts wrong would make all other tests worthless.

import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { run } from "../tools/processes.mjs";
import { findRuntime, ROOT, RUNTIMES } from "../tools/runtimes.mjs";
import { cleanEnvironment } from "./workshop.ts";

const node = findRuntime("node").path;

describe("what a test needs", () => {
  it("is told in words where it is not there", async () => {
    const code = `import { needs } from "./tests/tools/needs.ts";
console.log(needs(), needs("node"), needs("no-such-program", "/proc", "127.0.0.2", "ulimit", "nc -N"));`;
    const { output } = await run(findRuntime("deno").path, ["eval", "--ext=ts", "--quiet", "--no-check", code], {
      cwd: ROOT,
      env: { ...cleanEnvironment(), TRIVENT_LACKS: "/proc,127.0.0.2,ulimit,nc -N" },
      timeoutMs: 30_000,
    });
    assertEquals(
      output.trim(),
      "false false no-such-program is not installed, there is no /proc to see a process's memory and sockets, " +
        "127.0.0.2 is not an address of this machine, a limit of open files (ulimit -n) is known to hold on Linux alone, " +
        "there is no nc that half-closes (-N)",
    );
  });
});

describe("npm run matrix", () => {
  it("says what it can't read, before it installs anything", async () => {
    for (
      const [args, message] of [
        [["--runtime", "node"], "Cannot read the arguments: no option is called --runtime\n"],
        [["--runtimes", ""], "Cannot read the arguments: --runtimes names no runtime\n"],
        [
          ["--runtimes", "nod@24"],
          "Cannot test nod@24: it is not node, deno or bun, with or without a version such as node@24\n",
        ],
        [["--runtimes=node", "no such file"], "No test file matches no such file\n"],
      ] as const
    ) {
      const { code, output } = await run(node, ["tools/matrix.mjs", ...args], {
        cwd: ROOT,
        env: cleanEnvironment(),
        timeoutMs: 30_000,
      });
      assertEquals([code, output], [1, message]);
    }
  });
});

describe("the test runner", () => {
  // Below tests/, since the runner looks there only; the name keeps it apart from a run beside this one.
  const folder = `tests/core/scratch-${process.pid}`;

  before(() => mkdirSync(join(ROOT, folder)));
  after(() => rmSync(join(ROOT, folder), { recursive: true, force: true }));

  async function runTests(text: string, ...runtimes: string[]): Promise<{ code: number | null; output: string }> {
    writeFileSync(join(ROOT, folder, "x.test.ts"), text);
    const args = ["tests/run.mjs", ...runtimes, folder];
    return await run(node, args, { cwd: ROOT, env: cleanEnvironment(), timeoutMs: 60_000 });
  }

  it("counts the same on the three runtimes: tests, not suites, and what is skipped apart", async () => {
    const { code, output } = await runTests(`
      import { describe, it } from "node:test";
      describe("outer <&> \\"x\\"", () => {
        it("one > two", () => {});
        describe("inner", () => {
          it("three", async () => { await Promise.resolve(); });
          it.skip("four", () => {});
        });
      });
      it("five", () => {});
    `);
    for (const name of RUNTIMES) assertMatch(output, new RegExp(`^${name} \\S+ +3 passed, 0 failed, 1 skipped`, "m"));
    assertMatch(output, /\n9 passed, 0 failed, 3 skipped\n$/);
    assertEquals(code, 0);
  });

  it("fails with the output of a test that fails", async () => {
    const { code, output } = await runTests(`
      import { it } from "node:test";
      it("good", () => {});
      it("bad", () => { console.log("a", "trace"); throw new Error("the reason"); });
    `);
    assertEquals(output.match(/a trace/g)?.length, 3);
    assertStringIncludes(output, "the reason");
    assertMatch(output, /\n3 passed, 3 failed\n$/);
    assertEquals(code, 1);
  });

  it("fails when a file has no test, and when it ends early", async () => {
    for (const text of ["export {};", 'throw new Error("early");']) {
      const { code, output } = await runTests(text);
      assertMatch(output, /\n0 passed, 3 failed\n$/);
      assertEquals(code, 1);
    }
  });

  it("fails when a test leaves a process behind, and ends that process", async () => {
    const { code, output } = await runTests(
      `
      import { spawn } from "node:child_process";
      import { it } from "node:test";
      it("starts and forgets", () => { spawn("sleep", ["300"], { stdio: "ignore" }).unref(); });
    `,
      "node",
    );
    assertStringIncludes(output, "left a process behind: sleep 300");
    assertMatch(output, /\n1 passed, 1 failed\n$/);
    assertEquals(code, 1);
  });

  it("fails when no file matches", async () => {
    const { code, output } = await run(node, ["tests/run.mjs", "no such file"], {
      cwd: ROOT,
      env: cleanEnvironment(),
      timeoutMs: 20_000,
    });
    assertMatch(output, /\n0 passed, 1 failed\n$/);
    assertEquals(code, 1);
  });
});

describe("the example runner", () => {
  for (const args of [[], ["bun"], ["perl", "rot13_bufferevent"], ["bun", "../mod"]]) {
    it(`tells how it is used after: ${args.join(" ") || "nothing"}`, async () => {
      const result = await run(node, ["examples/run.mjs", ...args], {
        cwd: ROOT,
        env: cleanEnvironment(),
        timeoutMs: 20_000,
      });
      assertStringIncludes(result.output, "usage: npm run -s example -- <node|deno|bun> <name> [arguments]");
      assertEquals(result.code, 2);
    });
  }
});
