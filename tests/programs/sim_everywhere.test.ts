// The simulator gives the same run everywhere: on the three runtimes, in a context without a runtime's timers and tasks, and in
// those that have only some of them, as a browser has.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { createContext, runInContext } from "node:vm";
import { MessageChannel } from "node:worker_threads";
import { assert, assertEquals } from "@std/assert";
import { build } from "esbuild";
import { run } from "../tools/processes.mjs";
import { findRuntime, plainEnvironment, ROOT, RUNTIMES } from "../tools/runtimes.mjs";

const SEEDS = 500;

/**
 * An echo of lines with clients that come and go over a network with faults. It uses no name of a
 * runtime.
 */
const PROGRAM = `
import { explore, replay, simRuntime } from "./runtimes/sim.ts";
import { connect, serve } from "./core/mod.ts";

const faults = {
  jitterMs: 3, segmentCut: 0.2, connectionReset: 0.01, connectRefused: 0.05, connectLost: 0.02, datagramLost: 0.1,
};

async function play(seed) {
  const sim = simRuntime({ seed, faults });
  const options = { hostname: "10.0.0.1", port: 80 };
  const server = await sim.run(serve({ ...options, runtime: sim }, {
    async line(bev, line) {
      await undefined;
      bev.write(line);
      bev.write("\\n");
    },
    error() {},
  }));
  const host = sim.host("client");
  host.shortWrites = 0.3;
  for (let i = 0; i < 3; i++) {
    connect({ ...options, runtime: host }, {
      open(bev) {
        for (let lines = Math.floor(sim.random() * 30); lines > 0; lines--) {
          bev.write("x".repeat(Math.floor(sim.random() * 2000)) + "\\n");
        }
      },
      error() {},
    }).catch(() => {});
    await sim.advance(10 * sim.random());
  }
  const link = sim.link(sim, host);
  link.partition();
  await sim.advance(20);
  link.heal();
  await sim.advance(50);
  await sim.run(server.close({ graceMs: 20 }));
  return sim.hash;
}

export async function hashes(count) {
  const all = [];
  for (let seed = 0; seed < count; seed++) all.push(await play(seed));
  return all.join("\\n");
}

/** Clients that ask three times each, and forgive one that is refused or reset. */
async function forgiving(sim) {
  const server = await serve({ hostname: "10.0.0.1", port: 80, runtime: sim }, { line: (bev) => void bev.write("yes\\n") });
  let failed = 0;
  for (let i = 0; i < 4; i++) {
    try {
      const client = await connect({ hostname: "10.0.0.1", port: 80, runtime: sim.host("client") }, {});
      const lines = client.lines({ text: true });
      for (let question = 0; question < 3; question++) {
        client.write("question\\n");
        if ((await lines.next()).value !== "yes") throw new Error("no answer");
      }
      await client.close();
    } catch {
      failed++;
    }
  }
  await server.close();
  if (failed > 1) throw new Error("failed " + failed);
}

/** What exploring finds, all of it but the stack. */
export async function found() {
  const faults = { jitterMs: 3, segmentCut: 0.2, connectionReset: 0.02, connectRefused: 0.05, pause: 0.2, hold: 0.2 };
  const { runs, seed, error, trace, plan, failures } = await explore(forgiving, { runs: 300, faults });
  return JSON.stringify({ runs, seed, error: error.message, trace, plan, hash: failures[0].hash });
}

/** How a plan fails. */
export function fails(plan) {
  return replay(forgiving, JSON.parse(plan)).then(() => "does not", (error) => error.message);
}

/** What went over the wire, as a number. */
export async function wire() {
  const sim = simRuntime({ seed: 2, capture: true, faults });
  const driven = sim.run(forgiving(sim)).catch(() => {});
  await driven;
  return sim.capture().reduce((sum, byte) => (Math.imul(sum, 31) + byte) | 0, 0);
}
`;

let folder = "";
before(async () => {
  folder = mkdtempSync(join(tmpdir(), "trivent-sim-"));
  for (const format of ["esm", "iife"] as const) {
    const bundled = await build({
      stdin: { contents: PROGRAM, resolveDir: ROOT, loader: "ts" },
      bundle: true,
      format,
      platform: "neutral",
      globalName: "simulation",
      write: false,
    });
    writeFileSync(join(folder, format === "esm" ? "main.mjs" : "main.js"), bundled.outputFiles?.[0]?.text ?? "");
  }
  writeFileSync(
    join(folder, "run.mjs"),
    `import { hashes } from "./main.mjs";\nconsole.log(await hashes(${SEEDS}));\n`,
  );
  writeFileSync(
    join(folder, "explore.mjs"),
    `import { fails, found, wire } from "./main.mjs";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
console.log(await found());
console.log(await wire());
// The plan is the one that the first runtime has found.
const file = new URL("plan.json", import.meta.url);
if (!existsSync(file)) writeFileSync(file, JSON.stringify(JSON.parse(await found()).plan));
console.log(await fails(readFileSync(file, "utf8")));
`,
  );
});
after(() => rmSync(folder, { recursive: true, force: true }));

async function hashesOn(name: "node" | "deno" | "bun", program = "run.mjs"): Promise<string[]> {
  const { path } = findRuntime(name);
  const args = name === "deno" ? ["run", "--quiet", "--no-check", "-A", program] : [program];
  const result = await run(path, args, { cwd: folder, env: plainEnvironment(), timeoutMs: 300_000 });
  assertEquals(result.code, 0, result.output);
  return result.output.trim().split("\n");
}

describe("one seed", () => {
  it("gives the same hash on every runtime, for each of 500 seeds", async () => {
    const all: string[][] = [];
    for (const name of RUNTIMES) all.push(await hashesOn(name));
    for (const hashes of all) assertEquals(hashes, all[0]);
    assertEquals(new Set(all[0]).size, SEEDS);
  });

  it("gives the same hash without any timer or task of a runtime, and with only some of them", async () => {
    const code = readFileSync(join(folder, "main.js"), "utf8");
    const results: string[] = [];
    const channels: MessageChannel[] = [];
    class Channel extends MessageChannel {
      constructor() {
        super();
        channels.push(this);
      }
    }
    const globalsOfRuntimes = [
      {},
      // A browser.
      { MessageChannel: Channel },
      // A runtime without a function that runs pending promise reactions.
      { setImmediate },
      // A runtime whose function seems to do that, but does not.
      { setImmediate, process: { _tickCallback: () => {} } },
      { setImmediate, process },
    ];
    for (const globals of globalsOfRuntimes) {
      const context = createContext({ ...globals, TextEncoder, TextDecoder, AbortController });
      runInContext(code, context);
      results.push(await runInContext("simulation.hashes(20)", context) as string);
    }
    assertEquals(channels.length, 1);
    for (const { port1 } of channels) port1.close();
    const [here] = RUNTIMES;
    assert(here !== undefined);
    const expected = (await hashesOn(here)).slice(0, 20).join("\n");
    assertEquals(results, globalsOfRuntimes.map(() => expected));
  });

  it("is explored with the same result on every runtime, and in a context without a runtime", async () => {
    const all: string[][] = [];
    for (const name of RUNTIMES) all.push(await hashesOn(name, "explore.mjs"));
    const [[found = "", wire = "", failure] = []] = all;
    for (const lines of all) assertEquals(lines, all[0]);
    const { error, plan } = JSON.parse(found) as { error: string; plan: { faults: { kind: string }[] } };
    assertEquals([error, failure], ["failed 2", "failed 2"]);
    assertEquals(plan.faults.length, 2, found);
    for (const { kind } of plan.faults) assert(kind === "connectRefused" || kind === "connectionReset", found);

    const context = createContext({ TextEncoder, TextDecoder, AbortController });
    runInContext(readFileSync(join(folder, "main.js"), "utf8"), context);
    const call = (text: string): Promise<unknown> => runInContext(`simulation.${text}`, context) as Promise<unknown>;
    assertEquals(await call("found()"), found);
    assertEquals(String(await call("wire()")), wire);
    assertEquals(await call(`fails(${JSON.stringify(JSON.stringify(plan))})`), "failed 2");
  });
});
