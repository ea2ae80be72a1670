// The tools themselves: a runner that counts wrongly would make all other tests worthless.

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { run, start } from "../tools/processes.mjs";
import { findRuntime, ROOT, RUNTIMES } from "../tools/runtimes.mjs";
import { cleanEnvironment, temporaryFolder } from "./workshop.ts";

const node = findRuntime("node").path;

describe("needs of a test", () => {
  it("are named if they are missing", async () => {
    const code = `import { needs } from "./tests/tools/needs.ts";
console.log(needs(), needs("node"), needs("no-such-program", "/proc", "127.0.0.2", "ulimit", "nc -N"));`;
    const { output } = await run(findRuntime("deno").path, [
      "eval",
      "--ext=ts",
      "--quiet",
      "--no-check",
      code,
    ], {
      cwd: ROOT,
      env: {
        ...cleanEnvironment(),
        TRIVENT_LACKS: "/proc,127.0.0.2,ulimit,nc -N",
      },
      timeoutMs: 300_000,
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
  it("refuses wrong arguments before it installs anything", async () => {
    for (
      const [args, message] of [
        [
          ["--runtime", "node"],
          "Cannot read the arguments: no option is called --runtime\n",
        ],
        [
          ["--runtimes", ""],
          "Cannot read the arguments: --runtimes names no runtime\n",
        ],
        [
          ["--runtimes", "nod@24"],
          "Cannot test nod@24: it is not node, deno or bun, with or without a version such as node@24\n",
        ],
        [
          ["--runtimes=node", "no such file"],
          "No test file matches no such file\n",
        ],
      ] as const
    ) {
      const { code, output } = await run(node, ["tools/matrix.mjs", ...args], {
        cwd: ROOT,
        env: cleanEnvironment(),
        timeoutMs: 300_000,
      });
      assertEquals([code, output], [1, message]);
    }
  });
});

describe("npm run counts", () => {
  const path = join(temporaryFolder(), "counts.md");
  const table = readFileSync(join(ROOT, "docs", "counts.md"), "utf8").trimEnd();
  const rows = table.split("\n");
  const cells = rows.at(-1)!.split("|").map((cell) => cell.trim());
  const skip = process.versions.node.split(".")[0] !== cells[3] &&
    "the counts were made on another Node";

  function counts(
    ...args: string[]
  ): Promise<{ code: number | null; output: string }> {
    return run(node, ["tools/counts.mjs", "--file", path, ...args], {
      cwd: ROOT,
      env: cleanEnvironment(),
      timeoutMs: 300_000,
    });
  }

  it(
    "adds a row with the reason, and fails when a count has grown by more than 3 % since",
    { skip },
    async () => {
      writeFileSync(
        path,
        `${
          [...rows.slice(0, -1), cells.with(4, "1").join(" | ").trim()].join(
            "\n",
          )
        }\n`,
      );
      assertEquals((await counts("the reason")).code, 0);
      const written = readFileSync(path, "utf8").trimEnd().split("\n");
      assertEquals(written.length, rows.length + 1);
      assertMatch(
        written.at(-1)!,
        /^\| \d{4}-\d\d-\d\d \| .* \| the reason +\|$/,
      );

      // Pretends that these counts were lower before: by 8 %, and one by 1 %.
      const factors = new Map([[4, 0.92], [5, 0.92], [6, 0.99], [7, 0.92]]);
      const less = written.at(-1)!.split("|").map((cell, i) => {
        const factor = factors.get(i);
        return factor === undefined ? cell : ` ${Math.round(Number(cell) * factor)} `;
      });
      writeFileSync(
        path,
        `${[...written.slice(0, -1), less.join("|")].join("\n")}\n`,
      );
      const { code, output } = await counts("--check");
      const grown = [
        ...output.matchAll(
          /^(.*) grew by \d\.\d %, from [\d.]+ to [\d.]+\. If it is worth that/gm,
        ),
      ];
      assertEquals(grown.map(([, what]) => what), [
        "calls for a line",
        "bytes for a connection",
        "bundle, gzipped",
      ]);
      assertEquals(code, 1);
    },
  );
});

describe("the test runner", () => {
  // Below tests/, since the runner looks only there; the name separates it from a parallel run.
  const folder = `tests/core/scratch-${process.pid}`;

  before(() => mkdirSync(join(ROOT, folder)));
  after(() => rmSync(join(ROOT, folder), { recursive: true, force: true }));

  async function runTests(
    text: string,
    args: readonly string[] = [],
    env: Record<string, string> = {},
  ): Promise<{ code: number | null; output: string }> {
    writeFileSync(join(ROOT, folder, "x.test.ts"), text);
    return await run(node, ["tests/run.mjs", folder, ...args], {
      cwd: ROOT,
      env: { ...cleanEnvironment(), ...env },
      timeoutMs: 300_000,
    });
  }

  it("counts the same on the three runtimes: tests, not suites, and skipped ones separately", async () => {
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
    for (const name of RUNTIMES) {
      assertMatch(
        output,
        new RegExp(`^${name} \\S+ +3 passed, 0 failed, 1 skipped`, "m"),
      );
    }
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

  it("names the test that was running if a file takes too long, or after which it did not end", async () => {
    const limit = { TRIVENT_TEST_TIMEOUT_MS: "3000" };
    const hanging = await runTests(
      `
      import { describe, it } from "node:test";
      describe("outer", () => {
        it("passes", () => {});
        it("hangs", () => new Promise(() => setInterval(() => {}, 1e6)));
      });
    `,
      [],
      limit,
    );
    const told = /did not end within 3 s and was stopped: "outer > hangs" had been running for \d+\.\d s$/gm;
    assertEquals(hanging.output.match(told)?.length, 3, hanging.output);
    const held = await runTests(
      `
      import { it } from "node:test";
      it("ends", () => void setInterval(() => {}, 1e6));
    `,
      ["node"],
      limit,
    );
    assertStringIncludes(
      held.output,
      `and was stopped: "ends" had ended and no other test began; a handle is left open`,
    );
  });

  it("fails when a test leaves a process behind, and ends that process", async () => {
    const { code, output } = await runTests(
      `
      import { spawn } from "node:child_process";
      import { it } from "node:test";
      it("starts and forgets", () => { spawn("sleep", ["300"], { stdio: "ignore" }).unref(); });
    `,
      ["node"],
    );
    assertStringIncludes(output, "left a process behind: sleep 300");
    assertMatch(output, /\n1 passed, 1 failed\n$/);
    assertEquals(code, 1);
  });

  const NAMED = `
    import { after, before, describe, it } from "node:test";
    before(() => { console.log("of the file"); });
    describe("a stack", () => {
      before(() => { console.log("of the stack"); });
      it("pushes", () => {});
      describe("that is empty", () => {
        after(() => { console.log("of the empty one"); });
        it("pushes", () => {});
        it("pops (nothing) + 1", { skip: "a stack has no bottom" }, () => {});
      });
    });
    describe("a queue", () => {
      before(() => { throw new Error("of a suite that is not chosen"); });
      it("fails", () => { throw new Error("not chosen"); });
    });
    it("a stack is a tree", () => {});
  `;

  for (
    const [names, passed, skipped] of [
      [["pushes"], 2, 0],
      [["a stack that is empty pushes"], 1, 0],
      [["a stack > that is empty > pushes"], 1, 0],
      [["stack"], 3, 1],
      [["empty pushes", "tree"], 2, 0],
      [["(nothing) + 1"], 0, 1],
    ] as const
  ) {
    it(`runs only the tests whose full name contains: ${names.join(", or ")}`, async () => {
      const { code, output } = await runTests(
        NAMED,
        names.flatMap((name) => ["-t", name]),
      );
      const counts = `${passed} passed, 0 failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
      for (const name of RUNTIMES) {
        assertStringIncludes(
          output.replaceAll(/ +/g, " "),
          `${name} ${findRuntime(name).version} ${counts} (1 files)`,
        );
      }
      assertEquals(code, 0);
    });
  }

  it("runs only the hooks of a chosen test", async () => {
    const failing = NAMED.replace(
      `it("pushes", () => {});`,
      `it("pushes", () => { throw new Error("shown"); });`,
    );
    const { output } = await runTests(failing, ["-t", "a stack pushes"]);
    for (
      const [text, count] of [["shown", 3], ["of the file", 3], [
        "of the stack",
        3,
      ], ["of the empty one", 0]] as const
    ) {
      assertEquals(
        new Set(output.match(new RegExp(`=== .*|${text}`, "g"))).size,
        count === 0 ? 3 : 4,
        text,
      );
    }
    assertMatch(output, /\n0 passed, 3 failed\n$/);
  });

  it("fails if no test has such a name, and prints the name", async () => {
    const { code, output } = await runTests(NAMED, [
      "-t",
      "pushes away",
      "-t",
      "falls",
    ]);
    assertStringIncludes(
      output,
      `No test in 3 files has a name that contains "pushes away" or "falls"\n`,
    );
    assertMatch(output, /\n0 passed, 1 failed\n$/);
    assertEquals(code, 1);
  });

  it("prints at the end why tests were skipped, how many, and where", async () => {
    const { code, output } = await runTests(`
      import { describe, it } from "node:test";
      const name = process.versions.deno ? "deno" : process.versions.bun ? "bun" : "node";
      it("runs", () => {});
      it("one", { skip: 'there is <no> "file"' }, () => {});
      describe("inner", () => {
        it("two", { skip: name === "bun" && "Bun can't" }, () => {});
        it("three", { skip: true }, () => {});
        it.skip("four", () => {});
      });
      describe("suite", { skip: name !== "deno" && "this is not Deno" }, () => it("five", () => {}));
    `);
    assertMatch(output, /\n6 passed, 0 failed, 12 skipped\n$/);
    assertStringIncludes(
      output,
      [
        "skipped:",
        "    6  no reason given (node 2, deno 2, bun 2)",
        `    3  there is <no> "file" (node 1, deno 1, bun 1)`,
        "    2  this is not Deno (node 1, bun 1)",
        "    1  Bun can't (bun 1)",
        "",
      ].join("\n"),
    );
    assertEquals(code, 0);
  });

  it("prints its progress while tests run", async () => {
    const { output } = await runTests(
      `
      import { it } from "node:test";
      it("takes a second", () => new Promise((resolve) => setTimeout(resolve, 1000)));
    `,
      ["deno", "bun"],
      { TRIVENT_TEST_PROGRESS_MS: "100" },
    );
    assertMatch(output, /^0 of 2 files, 0 passed, 0 failed, \d+\.\d s$/m);
  });

  it("prints its usage for an unknown option", async () => {
    const { code, output } = await runTests(NAMED, ["--grep", "a"]);
    assertStringIncludes(
      output,
      "Cannot read the arguments: Unknown option '--grep'",
    );
    assertStringIncludes(
      output,
      "usage: npm test -- [node] [deno] [bun] [part of a path]… [-t part of a test's name]",
    );
    assertEquals(code, 2);
  });

  it(
    "watches: runs the tests again when a file changes, until it is interrupted",
    {
      skip: process.platform !== "linux" && "processes are looked for in /proc",
    },
    async () => {
      const path = join(ROOT, folder, "x.test.ts");
      const one = `import { it } from "node:test";\nit("one", () => {});\n`;
      writeFileSync(path, one);
      const watcher = await start(node, ["tests/watch.mjs", "bun", folder], {
        cwd: ROOT,
        env: cleanEnvironment(),
        ready: /\n1 passed, 0 failed\nwaiting/,
        timeoutMs: 300_000,
      });
      const printed = async (pattern: RegExp): Promise<void> => {
        for (let i = 0; i < 1800 && !pattern.test(watcher.output()); i++) {
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
        assertMatch(watcher.output(), pattern);
      };
      writeFileSync(path, `${one}it("two", () => {});\n`);
      await printed(/\n2 passed, 0 failed\nwaiting/);
      // Interrupt it in the middle of a test.
      const pid = join(ROOT, folder, "pid");
      writeFileSync(
        path,
        `import { renameSync, writeFileSync } from "node:fs";
import { it } from "node:test";
it("waits", () => {
  writeFileSync("${folder}/pid.new", String(process.pid));
  renameSync("${folder}/pid.new", "${folder}/pid");
  return new Promise(() => setInterval(() => {}, 1e6));
});
`,
      );
      for (let i = 0; i < 1800 && !existsSync(pid); i++) {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      const waiting = `/proc/${readFileSync(pid, "utf8")}`;
      assert(existsSync(waiting));
      assertStringIncludes(
        String(await watcher.stop("SIGINT")),
        "exit code 130",
      );
      for (let i = 0; i < 300 && existsSync(waiting); i++) {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      assert(!existsSync(waiting));
    },
  );

  it("fails when no file matches", async () => {
    const { code, output } = await run(
      node,
      ["tests/run.mjs", "no such file"],
      {
        cwd: ROOT,
        env: cleanEnvironment(),
        timeoutMs: 300_000,
      },
    );
    assertMatch(output, /\n0 passed, 1 failed\n$/);
    assertEquals(code, 1);
  });
});

describe("the example runner", () => {
  for (
    const args of [[], ["bun"], ["perl", "rot13_bufferevent"], [
      "bun",
      "../mod",
    ]]
  ) {
    it(`prints its usage for: ${args.join(" ") || "nothing"}`, async () => {
      const result = await run(node, ["examples/run.mjs", ...args], {
        cwd: ROOT,
        env: cleanEnvironment(),
        timeoutMs: 300_000,
      });
      assertStringIncludes(
        result.output,
        "usage: npm run -s example -- <node|deno|bun> <name> [arguments]",
      );
      assertEquals(result.code, 2);
    });
  }
});
