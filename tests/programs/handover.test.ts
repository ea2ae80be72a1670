// A server that one version of a program hands over to the next: no client is refused, and all get
// an answer.

import { type ChildProcess, spawn } from "node:child_process";
import { type AddressInfo, createServer, type Server } from "node:net";
import { after, describe, it } from "node:test";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { exampleCommand, plainEnvironment, ROOT, type RuntimeName, RUNTIMES } from "../tools/runtimes.mjs";
import { ask as askServer, isAlive, PATIENCE_MS } from "./workshop.ts";

const CONNECTIONS = 2000;
const HANDOVERS = 10;
/** The number of clients at a time. */
const CLIENTS = 10;
/** The pause of a client between two connections, so that they last as long as the hand-overs. */
const PAUSE_MS = 10;

/** Every process that has answered, so that none is left behind. */
const pids = new Set<number>();

/** The output of a program and its successors, which inherit its output. */
interface Family {
  readonly child: ChildProcess;
  printed(): string;
}

function family(
  { file, args }: { file: string; args: readonly string[] },
  fd: number | undefined,
  moreEnvironment: Readonly<Record<string, string>> = {},
): Family {
  const env = { ...plainEnvironment(), ...moreEnvironment };
  const child = spawn(file, args, {
    cwd: ROOT,
    env,
    stdio: ["ignore", "pipe", "pipe", ...fd === undefined ? [] : [fd]],
  });
  if (child.pid !== undefined) pids.add(child.pid);
  let printed = "";
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => printed += chunk);
  return { child, printed: () => printed };
}

/** One client: connects, sends a question, and returns the process that has answered. */
async function ask(port: number): Promise<number> {
  const pid = await askServer(port);
  pids.add(pid);
  return pid;
}

/** Waits until a condition holds. */
async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!await holds()) {
    assert(performance.now() < deadline, `${what}: not within ${PATIENCE_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Asks a process to hand over, and returns its successor. */
async function handOver(pid: number, newest: () => number): Promise<number> {
  process.kill(pid, "SIGUSR2");
  await eventually(`${pid} is replaced`, () => newest() !== pid && !isAlive(pid));
  return newest();
}

/** Connects all the time while a server is handed over. Returns every failure. */
async function handOverUnderLoad(port: number, first: number): Promise<string[]> {
  const failures: string[] = [];
  let newest = first;
  let connections = 0;
  let done = false;
  const client = async (): Promise<void> => {
    while (!done || connections < CONNECTIONS) {
      connections++;
      try {
        const known = new Set(pids);
        const pid = await ask(port);
        if (!known.has(pid)) newest = pid;
      } catch (error) {
        failures.push(String(error));
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  };
  const clients = Promise.all(Array.from({ length: CLIENTS }, client));
  let pid = first;
  try {
    for (let i = 0; i < HANDOVERS; i++) pid = await handOver(pid, () => newest);
  } finally {
    done = true;
    await clients;
  }
  assert(connections >= CONNECTIONS);
  process.kill(pid, "SIGTERM");
  await eventually(`${pid} ends`, () => !isAlive(pid));
  return failures;
}

/** A listening socket of this process, for a child to inherit. */
async function opened(): Promise<{ server: Server; port: number; fd: number }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  return { server, port: (server.address() as AddressInfo).port, fd };
}

async function portOf({ printed }: Family): Promise<number> {
  await eventually("it listens", () => /^listening on 127\.0\.0\.1:\d+$/m.test(printed()));
  return Number(/:(\d+)$/m.exec(printed())?.[1]);
}

for (const runtime of RUNTIMES as RuntimeName[]) {
  describe(`handover on ${runtime}`, () => {
    after(() => {
      for (const pid of pids) if (isAlive(pid)) process.kill(pid, "SIGKILL");
      pids.clear();
    });

    it("loses no client of 2,000 during ten hand-overs of a socket that it was given", async () => {
      const { server, port, fd } = await opened();
      const started = family(exampleCommand(runtime, "handover", ["0"]), fd, { LISTEN_FDS: "1" });
      assertEquals(await portOf(started), port);
      server.close();
      assertEquals(await handOverUnderLoad(port, started.child.pid as number), []);
      assertMatch(started.printed(), new RegExp(`^(listening on 127\\.0\\.0\\.1:${port}\n){${HANDOVERS + 1}}$`));
    });

    it("hands over a socket that it has opened itself, or reports that the runtime cannot", async () => {
      const started = family(exampleCommand(runtime, "handover", ["0"]), undefined);
      const port = await portOf(started);
      const pid = await ask(port);
      if (runtime === "deno") {
        process.kill(pid, "SIGUSR2");
        await eventually("it says so", () => started.printed().includes("Cannot hand over: "));
        assertEquals(await ask(port), pid);
        process.kill(pid, "SIGTERM");
      } else {
        let newest = pid;
        process.kill(pid, "SIGUSR2");
        await eventually("another one answers", async () => (newest = await ask(port)) !== pid && !isAlive(pid));
        process.kill(newest, "SIGTERM");
        await eventually("it ends", () => !isAlive(newest));
      }
      await eventually("the port is free", () => ask(port).then(() => false, () => true));
    });

    it("is started by systemd-socket-activate with the first client", {
      skip: needs("systemd-socket-activate"),
    }, async () => {
      // The port must be known before, and 0 is refused.
      const { server, port } = await opened();
      await new Promise((resolve) => server.close(resolve));
      const { file, args } = exampleCommand(runtime, "handover", ["0"]);
      const activated = family({
        file: "systemd-socket-activate",
        args: ["-l", `127.0.0.1:${port}`, file, ...args],
      }, undefined);
      await eventually("systemd listens", () => activated.printed().includes("Listening on"));
      const first = await ask(port);
      assertEquals(first, activated.child.pid);
      let newest = first;
      process.kill(first, "SIGUSR2");
      await eventually("another one answers", async () => (newest = await ask(port)) !== first && !isAlive(first));
      process.kill(newest, "SIGTERM");
      await eventually("it ends", () => !isAlive(newest));
    });
  });
}
