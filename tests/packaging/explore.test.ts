// `npx trivent explore FILE`, from the packed tarball, on the three runtimes.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import type { FaultPlan } from "../../runtimes/sim.ts";
import { run } from "../tools/processes.mjs";
import { findRuntime, type RuntimeName, RUNTIMES } from "../tools/runtimes.mjs";
import { cleanEnvironment, installTarball, must, packTarball, writeFiles } from "./workshop.ts";

/** A client that survives one refusal in five attempts, but not two. */
const SCENARIO = `import { connect, serve } from "trivent";
import type { SimRuntime } from "trivent/sim";

export const options = { faults: { connectRefused: 0.02, jitterMs: 3, shortWrites: 0.1, pause: 0.3 } };

export default async function scenario(sim: SimRuntime): Promise<void> {
  const server = await serve({ hostname: "0.0.0.0", port: 80, runtime: sim.host("server") }, {
    read: (bev) => bev.writeBuffer(bev.input),
  });
  let answers = 0;
  for (let i = 0; i < 5; i++) {
    try {
      const client = await connect({ hostname: "server", port: 80, runtime: sim.host("client") }, {});
      client.write("hello\\n");
      await client.lines().next();
      answers++;
      await client.close();
    } catch (error) {
      if ((error as { code?: string }).code !== "ECONNREFUSED") throw error;
    }
  }
  await server.close();
  if (answers < 4) throw new Error(\`only \${answers} answers\`);
}
`;

/** The same in JavaScript. */
const PLAIN = SCENARIO.replace(/import type.*\n/, "").replace(
  "sim: SimRuntime): Promise<void>",
  "sim)",
)
  .replace("(error as { code?: string })", "error");

/** The test that a user adds to the tests of the program. */
const TEST_CASE = `import { readFileSync } from "node:fs";
import { test } from "node:test";
import { replay } from "trivent/sim";
import scenario from "./scenario.mjs";

const plan = JSON.parse(readFileSync(new URL("plan.json", import.meta.url), "utf8"));
test("two refusals", () => replay(scenario, plan));
`;

const HELD = `export default async (sim) => {
  if (sim.random() < 0.05) Promise.reject(new Error("nobody awaits this"));
  await sim.advance(5);
};
`;

/** A program that explores by itself, alone and with threads. */
const THREADS = `import { explore } from "trivent/sim";
import scenario, { options } from "./scenario.mjs";

const module = new URL("scenario.mjs", import.meta.url);
const found = [];
for (const workers of [0, 2]) {
  let most = 0;
  const { runs, failures } = await explore(scenario, {
    ...options, runs: 400, kinds: 2, workers, module, onProgress: (progress) => most = progress.runs,
  });
  if (most === 0) throw new Error("no progress");
  found.push(JSON.stringify([runs, failures.map(({ seed, plan, hash, trace }) => [seed, plan, hash, trace])]));
}
if (found[0] !== found[1]) throw new Error(found.join("\\n"));
const missing = new URL("missing.mjs", import.meta.url);
const words = await explore(scenario, { ...options, runs: 400, workers: 2, module: missing }).catch(String);
console.log(JSON.parse(found[0])[1][0][0], words.split("\\n")[0]);
`;

const START: Record<RuntimeName, string[]> = {
  node: [],
  deno: ["run", "-A"],
  bun: [],
};
const REPEAT: Record<RuntimeName, string> = {
  node: "npx trivent",
  deno: "deno run -A npm:trivent",
  bun: "bunx --bun trivent",
};

describe("trivent explore", () => {
  let project: string;
  before(async () => {
    project = await installTarball((await packTarball()).path);
    writeFiles(project, {
      "scenario.mjs": PLAIN,
      "scenario.ts": SCENARIO,
      "fine.mjs": "export default async (sim) => await sim.advance(10);\n",
      "plan.test.mjs": TEST_CASE,
      "held.mjs": HELD,
      "nothing.mjs": "export const nothing = 1;\n",
      "wrong.mjs": "export default () => {};\nexport const options = { faults: { rain: 1 } };\n",
      "plan.txt": "no JSON",
      "threads.mjs": THREADS,
    });
  });

  function explore(
    name: RuntimeName,
    args: readonly string[],
  ): ReturnType<typeof run> {
    const command = join(
      "node_modules",
      "trivent",
      "dist",
      "cli",
      "trivent.js",
    );
    return run(findRuntime(name).path, [
      ...START[name],
      command,
      "explore",
      ...args,
    ], {
      cwd: project,
      env: cleanEnvironment(),
      timeoutMs: 300_000,
    });
  }

  it("is run by npx", async () => {
    assertMatch(
      await must("npx", ["--no-install", "trivent", "--help"], {
        cwd: project,
      }),
      /^usage: trivent explore FILE/,
    );
    assertMatch(
      await must("npx", [
        "--no-install",
        "trivent",
        "explore",
        "fine.mjs",
        "--runs",
        "20",
      ], { cwd: project }),
      /^20 runs in .*: nothing found$/m,
    );
  });

  for (const name of RUNTIMES) {
    it(`finds a failure, shortens it, and repeats it by the line that it prints on ${name}`, async () => {
      const plan = `found_${name}.json`;
      const found = await explore(name, [
        "scenario.mjs",
        "--runs",
        "3000",
        "--workers",
        "2",
        "--save",
        plan,
      ]);
      assertEquals(found.code, 1, found.output);
      assertMatch(
        found.output,
        /^seed 73 fails:\n\n {2}Error: only 3 answers$/m,
      );
      assertMatch(
        found.output,
        /faults happened\. 2 are enough:\n\n {2}at 9 ms +connectRefused .*\n {2}at 19 ms +connectRefused /,
      );
      assertMatch(
        found.output,
        /^the last \d+ events:\n\n {2}\d.* lookup client server$/m,
      );
      assertStringIncludes(
        found.output,
        `\n  ${REPEAT[name]} explore scenario.mjs --seed 73\n`,
      );
      const { version, seed, faults } = JSON.parse(
        readFileSync(join(project, plan), "utf8"),
      ) as FaultPlan;
      assertEquals([version, seed, faults.map(({ kind }) => kind)], [1, 73, [
        "connectRefused",
        "connectRefused",
      ]]);

      const again = await explore(name, ["scenario.mjs", "--seed", "73"]);
      assertEquals(again.code, 1);
      const report = (output: string): string => output.slice(output.indexOf("seed 73"), output.indexOf("Repeat it:"));
      assertEquals(report(again.output), report(found.output));

      const repeated = await explore(name, ["scenario.mjs", "--plan", plan]);
      assertEquals(repeated.code, 1);
      assertMatch(
        repeated.output,
        /Error: only 3 answers[^]*\n {2}at 9 ms +connectRefused/,
      );
      assertEquals((await explore(name, ["fine.mjs", "--plan", plan])).code, 0);
    });

    it(`gives the same result without threads and with two on ${name}, for several kinds`, async () => {
      const seeds = async (workers: string): Promise<string[]> => {
        const { output } = await explore(name, [
          "scenario.mjs",
          "--runs",
          "400",
          "--kinds",
          "3",
          "--workers",
          workers,
        ]);
        return output.match(/^seed \d+|^\d+ runs/gm) ?? [];
      };
      const alone = await seeds("0");
      assertEquals(alone[0], "400 runs");
      assertEquals(await seeds("2"), alone);
    });

    it(`runs a scenario in TypeScript on ${name}, or reports why not`, async () => {
      const { code, output } = await explore(name, [
        "scenario.ts",
        "--seed",
        "73",
      ]);
      const strips = name !== "node" ||
        (process.features as { typescript?: unknown }).typescript;
      assertEquals(code, strips ? 1 : 2);
      assertMatch(
        output,
        strips ? /only 3 answers/ : /Node 20\S* does not run TypeScript: take Node 22\.18 or later, Deno or/,
      );
    });

    it(`treats an unhandled rejection as a failure of its run on ${name}`, async () => {
      const { code, output } = await explore(name, [
        "held.mjs",
        "--runs",
        "200",
      ]);
      assertEquals(code, 1, output);
      assertMatch(output, /Error: nobody awaits this/);
    });
  }

  for (const name of RUNTIMES) {
    it(`is a function with the same threads, and the same result, on ${name}`, async () => {
      const { code, output } = await run(findRuntime(name).path, [...START[name], "threads.mjs"], {
        cwd: project,
        env: cleanEnvironment(),
        timeoutMs: 300_000,
      });
      assertEquals(code, 0, output);
      assertMatch(output, /^73 TypeError: Cannot explore in threads: cannot load file:.*missing\.mjs/m);
    });
  }

  it("stops after a number of seconds", async () => {
    const began = performance.now();
    const { code, output } = await explore("node", [
      "fine.mjs",
      "--runs",
      "1000000000",
      "--seconds",
      "1",
      "--workers",
      "1",
    ]);
    assertEquals(code, 0);
    assertMatch(output, /^\d+ runs in .*: nothing found$/m);
    assert(performance.now() - began < 120_000);
  });

  it("has a plan that is a test case for node --test", async () => {
    await explore("node", [
      "scenario.mjs",
      "--seed",
      "73",
      "--save",
      "plan.json",
    ]);
    assert(existsSync(join(project, "plan.json")));
    const { code, output } = await run(findRuntime("node").path, [
      "--test",
      "plan.test.mjs",
    ], {
      cwd: project,
      env: cleanEnvironment(),
      timeoutMs: 300_000,
    });
    assertEquals(code, 1);
    assertMatch(output, /two refusals[^]*only 3 answers/);
  });

  const wrong: [args: string[], message: RegExp][] = [
    [[], /^trivent explore: no file is given$/m],
    [["nowhere.mjs"], /^trivent explore: there is no file nowhere\.mjs$/m],
    [
      ["fine.mjs", "more.mjs"],
      /one file is explored at a time: received fine\.mjs more\.mjs/,
    ],
    [
      ["fine.mjs", "--runs", "0"],
      /--runs is not a whole number, 1 or more: received 0/,
    ],
    [["fine.mjs", "--seed", "x"], /--seed is not a whole number: received x/],
    [
      ["fine.mjs", "--seconds", "soon"],
      /--seconds is not a number, 0 or more: received soon/,
    ],
    [
      ["fine.mjs", "--workers", "1.5"],
      /--workers is not a whole number, 0 or more: received 1\.5/,
    ],
    [
      ["fine.mjs", "--rums", "3"],
      /Unknown option '--rums'[^]*usage: trivent explore FILE/,
    ],
    [
      ["nothing.mjs"],
      /nothing\.mjs has no scenario: its default export is not a function: received undefined/,
    ],
    [["wrong.mjs"], /Cannot explore: unknown option faults\.rain/],
    [
      ["wrong.mjs", "--workers", "2"],
      /Cannot explore: unknown option faults\.rain/,
    ],
    [
      ["fine.mjs", "--plan", "nowhere.json"],
      /cannot read the plan nowhere\.json/,
    ],
    [["fine.mjs", "--plan", "plan.txt"], /cannot read the plan plan\.txt/],
  ];
  it("refuses wrong arguments with a message and exit code 2", async () => {
    for (const [args, message] of wrong) {
      const { code, output } = await explore("node", args);
      assertEquals(code, 2, `${args.join(" ")}\n${output}`);
      assertMatch(output, message);
      assert(!/\n +at /.test(output), output);
    }
    const { code, output } = await run(findRuntime("node").path, [
      join(project, "node_modules", "trivent", "dist", "cli", "trivent.js"),
      "expand",
    ], { cwd: project, env: cleanEnvironment(), timeoutMs: 300_000 });
    assertEquals(code, 2);
    assertMatch(output, /^trivent: there is no command "expand"$/m);
  });
});
