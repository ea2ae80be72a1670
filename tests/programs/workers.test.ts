// Processes that share a port, and their supervisor: no client is refused while a new version is rolled over the old one.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { exampleCommand, plainEnvironment, ROOT, type RuntimeName, RUNTIMES } from "../tools/runtimes.mjs";
import { ask, Client, eventually, isAlive, PATIENCE_MS, quiet, runProgram } from "./workshop.ts";

const WORKERS = 2;
const ROLLS = 3;
const CLIENTS = 10;
const PAUSE_MS = 5;

interface Supervised {
  pid: number;
  port: number;
  metricsPort: number;
  printed(): string;
  ended: Promise<number | null>;
}

const supervisors: Supervised[] = [];

function command(runtime: RuntimeName): { file: string; args: string[] } {
  return exampleCommand(runtime, "workers", ["0", "--workers", String(WORKERS), "--metrics", "0"]);
}

/** Starts the supervisor. Deno shares one socket among its workers only if it was given that socket. */
async function supervise(
  runtime: RuntimeName,
  isGiven: boolean,
  { file, args } = command(runtime),
): Promise<Supervised> {
  const own = isGiven
    ? await new Promise<ReturnType<typeof createServer>>((resolve) => {
      const server = createServer();
      server.listen(0, "127.0.0.1", () => resolve(server));
    })
    : undefined;
  const fd = (own as unknown as { _handle: { fd: number } } | undefined)?._handle.fd;
  const env = { ...plainEnvironment(), ...(fd === undefined ? {} : { LISTEN_FDS: "1" }) };
  const stdio = ["ignore" as const, "pipe" as const, "pipe" as const, ...(fd === undefined ? [] : [fd])];
  const child = spawn(file, args, { cwd: ROOT, env, stdio });
  own?.close();
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => printed += chunk);
  const ended = new Promise<number | null>((resolve) => child.on("exit", (code) => resolve(code)));
  const portOf = (what: string): number =>
    Number(new RegExp(`^${what} on 127\\.0\\.0\\.1:(\\d+)$`, "m").exec(printed)?.[1]);
  await eventually(`it listens: ${printed}`, () => portOf("listening") > 0 && portOf("metrics") > 0);
  const supervised = {
    pid: child.pid as number,
    port: portOf("listening"),
    metricsPort: portOf("metrics"),
    printed: () => printed.replace(/^(listening|metrics) on .*\n/gm, ""),
    ended,
  };
  supervisors.push(supervised);
  return supervised;
}

async function figures(port: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/metrics`);
  assertEquals(response.status, 200);
  return await response.text();
}

/** The workers that currently write figures. */
async function workersOf({ metricsPort }: Supervised): Promise<number[]> {
  const text = await figures(metricsPort);
  return [...text.matchAll(/^trivent_connections_accepted_total\{worker="(\d+)"/gm)].map(([, pid]) => Number(pid));
}

/** Waits until the expected number of workers write figures, and none of `old`. */
async function untilReplaced(supervised: Supervised, old: number[], count: number = WORKERS): Promise<number[]> {
  for (const until = Date.now() + PATIENCE_MS;; await quiet(50)) {
    const workers = await workersOf(supervised);
    if (workers.length === count && !workers.some((pid) => old.includes(pid))) return workers;
    assert(Date.now() < until, `there are ${workers.length} workers: ${workers}; before: ${old}`);
  }
}

async function stop(supervised: Supervised): Promise<void> {
  const workers = await workersOf(supervised);
  process.kill(supervised.pid, "SIGTERM");
  assertEquals(await supervised.ended, 0, supervised.printed());
  for (const pid of workers) assert(!isAlive(pid), `worker ${pid} is still there`);
  supervisors.splice(supervisors.indexOf(supervised), 1);
}

for (const runtime of RUNTIMES as RuntimeName[]) {
  describe(`workers on ${runtime}`, () => {
    after(() => {
      for (const { pid } of supervisors.splice(0)) if (isAlive(pid)) process.kill(pid, "SIGKILL");
    });

    it("roll a new version over the old one, and refuse no client meanwhile", async () => {
      const supervised = await supervise(runtime, runtime === "deno");
      const failures: string[] = [];
      const pids = new Set<number>();
      let done = false;
      const client = async (): Promise<void> => {
        while (!done) {
          try {
            pids.add(await ask(supervised.port));
          } catch (error) {
            failures.push(String(error));
          }
          await quiet(PAUSE_MS);
        }
      };
      const clients = Promise.all(Array.from({ length: CLIENTS }, client));
      try {
        for (let i = 0; i < ROLLS; i++) {
          const old = await workersOf(supervised);
          process.kill(supervised.pid, "SIGHUP");
          await eventually("the old workers have ended", () => !old.some(isAlive));
        }
      } finally {
        done = true;
        await clients;
      }
      assertEquals(failures, []);
      assert(pids.size > ROLLS, `${pids.size} workers have answered`);
      assertEquals(supervised.printed(), "");
      await stop(supervised);
    });

    it("keep their number after several rolls, even if a client stays or a roll is requested during another", async () => {
      const supervised = await supervise(runtime, runtime === "deno");
      const first = await workersOf(supervised);
      const client = await Client.open(supervised.port);
      await client.send("I stay\n");
      await client.until("the answer", () => client.bytes.toString().endsWith(": I stay\n"));
      const held = parseInt(client.bytes.toString());
      process.kill(supervised.pid, "SIGHUP");
      const other = first.filter((pid) => pid !== held);
      await eventually("the worker without a client has ended", () => !other.some(isAlive));
      const second = (await workersOf(supervised)).filter((pid) => !first.includes(pid));
      for (let i = 0; i < 3; i++) {
        process.kill(supervised.pid, "SIGHUP");
        await quiet(50);
      }
      await untilReplaced(supervised, [...first, ...second]);
      client.reset();
      assertEquals(supervised.printed(), "");
      await stop(supervised);
    });

    it("stay if the new version does not begin to listen", async () => {
      mkdirSync(join(ROOT, "build"), { recursive: true });
      const folder = mkdtempSync(join(ROOT, "build", "version-"));
      try {
        const { file, args } = command(runtime);
        const at = args.findIndex((arg) => /workers\.[jt]s$/.test(arg));
        const program = join(folder, "workers.mjs");
        const good = `import ${JSON.stringify(pathToFileURL(args[at] as string).href)};\n`;
        writeFileSync(program, good);
        const supervised = await supervise(runtime, false, { file, args: args.with(at, program) });
        const old = await workersOf(supervised);
        writeFileSync(program, "globalThis.process.exit(3);\n");
        process.kill(supervised.pid, "SIGHUP");
        await eventually("it is told", () => supervised.printed().endsWith("\n"));
        for (let i = 0; i < 10; i++) assert(old.includes(await ask(supervised.port)));
        assertEquals(await workersOf(supervised), old);
        writeFileSync(program, good);
        process.kill(supervised.pid, "SIGHUP");
        await untilReplaced(supervised, old);
        assertMatch(
          supervised.printed(),
          /^Cannot roll: worker \d+ has ended with exit code 3 before it listened; the old workers go on\n$/,
        );
        await stop(supervised);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });

    it("are restarted when they die, and have their figures in one place", async () => {
      const supervised = await supervise(runtime, false);
      for (let i = 0; i < 20; i++) await ask(supervised.port);
      const text = await figures(supervised.metricsPort);
      const accepted = [
        ...text.matchAll(/^trivent_connections_accepted_total\{worker="\d+",server="[^"]+"\} (\d+)$/gm),
      ];
      assertEquals([accepted.length, accepted.reduce((sum, [, n]) => sum + Number(n), 0)], [WORKERS, 20]);
      assertEquals(text.match(/^# TYPE trivent_connections_accepted_total counter$/gm)?.length, 1);
      const [victim = 0] = await workersOf(supervised);
      process.kill(victim, "SIGKILL");
      await eventually("it is told", () => supervised.printed() !== "");
      assertMatch(
        supervised.printed(),
        new RegExp(`^worker ${victim} has ended with SIGKILL: starting another one\n$`),
      );
      await untilReplaced(supervised, [victim]);
      for (let i = 0; i < 20; i++) await ask(supervised.port);
      await stop(supervised);
    });

    it("end with their supervisor, even if it is killed", { skip: needs("/proc") }, async () => {
      const supervised = await supervise(runtime, runtime === "deno");
      const workers = await workersOf(supervised);
      process.kill(supervised.pid, "SIGKILL");
      await supervised.ended;
      supervisors.splice(0);
      await eventually("the workers have ended", () => !workers.some(isAlive));
    });

    it("refuse wrong arguments in one line", async () => {
      for (
        const [args, words] of [
          [["0", "--workers", "0"], /Cannot start 0 workers/],
          [["x"], /Cannot take "x" for a port/],
          [["--metrics", "70000"], /Cannot take "70000" for a port/],
        ] as const
      ) {
        const ended = await runProgram(runtime, "workers", args);
        assertEquals([ended.code, ended.stdout.length], [2, 0], ended.stderr);
        assertMatch(ended.stderr, words);
      }
    });
  });
}
