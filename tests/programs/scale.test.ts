// Ten thousand connections at once to a real server on each runtime: all are served, an idle one costs little, and none
// is left behind.

import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { start } from "../tools/processes.mjs";
import { exampleCommand, plainEnvironment, ROOT, RUNTIMES } from "../tools/runtimes.mjs";
import { openSockets, PATIENCE_MS, residentMiB, untilClosed } from "./workshop.ts";

const CONNECTIONS = 10_000;
/** The files that each end needs beside its connections. */
const OTHER_FILES = 300;
/** The number of attempts at a time: fewer than the backlog. */
const AT_A_TIME = 100;
/** The memory of an idle connection in the server, in KiB. */
const MAX_HELD_KIB = 48;

/** The number of files that a process may open; 0 if it is unknown. */
function fileLimit(): number {
  try {
    return Number(/^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "latin1"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** Connects; the clients have several addresses, so that there are ports for all. */
function open(port: number, index: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", localAddress: `127.0.0.${2 + index % 4}` });
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.off("error", reject);
      socket.on("error", () => {});
      resolve(socket);
    });
  });
}

/** Runs a function for each socket, some at a time. */
async function inWaves<T>(count: number, work: (index: number) => Promise<T>): Promise<T[]> {
  const done: T[] = [];
  for (let at = 0; at < count; at += AT_A_TIME) {
    const wave = Array.from({ length: Math.min(AT_A_TIME, count - at) }, (_, i) => work(at + i));
    done.push(...await Promise.all(wave));
  }
  return done;
}

/** Sends a separate line, and waits for the whole answer. */
function exchange(socket: Socket, line: string, expected: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const timer = setTimeout(() => reject(new Error(`no answer to ${line}: ${answer}`)), PATIENCE_MS);
    const take = (chunk: Buffer): void => {
      answer += chunk.toString("latin1");
      if (answer.length < expected.length) return;
      clearTimeout(timer);
      socket.off("data", take);
      if (answer === expected) resolve();
      else reject(new Error(`${answer} for ${expected}`));
    };
    socket.on("data", take);
    socket.write(line, "latin1");
  });
}

const enough = fileLimit() >= CONNECTIONS + OTHER_FILES;
const few = `${CONNECTIONS} connections need a limit of ${
  CONNECTIONS + OTHER_FILES
} open files (ulimit -n), it is ${fileLimit()}`;
const skip = needs("/proc", "127.0.0.2", "ulimit") || (!enough && few);

for (const runtime of RUNTIMES) {
  it(`${CONNECTIONS.toLocaleString("en")} connections to rot13_bufferevent on ${runtime}`, { skip }, async () => {
    const { file, args } = exampleCommand(runtime, "rot13_bufferevent", ["0"]);
    // Not every runtime uses the limit that it could have.
    const raised = ["-c", `ulimit -n ${CONNECTIONS + OTHER_FILES} && exec "$@"`, "sh", file, ...args];
    const ready = /^listening on 127\.0\.0\.1:(\d+)\n/m;
    const server = await start("sh", raised, { cwd: ROOT, env: plainEnvironment(), ready });
    const port = Number(server.match[1]);
    // The runtime's memory for its first connections does not belong to the others.
    const first = await inWaves(AT_A_TIME, (index) => open(port, index));
    await Promise.all(first.map((socket) => exchange(socket, "Hello\n", "Uryyb\n")));
    const socketsBefore = openSockets(server.pid) - first.length;
    const residentBefore = residentMiB(server.pid);

    const more = await inWaves(CONNECTIONS - first.length, (index) => open(port, index));
    const sockets = [...first, ...more];
    await inWaves(1, () => exchange(sockets[CONNECTIONS - 1] as Socket, "Uryyb\n", "Hello\n"));
    assertEquals(openSockets(server.pid), socketsBefore + CONNECTIONS);
    const heldKiB = (residentMiB(server.pid) - residentBefore) * 1024 / more.length;
    assert(heldKiB < MAX_HELD_KIB, `an idle connection holds ${heldKiB.toFixed(1)} KiB`);

    // One client goes on among all the others, and then each sends its own line.
    for (let i = 0; i < 200; i++) await exchange(sockets[i * 37] as Socket, "n\n", "a\n");
    await inWaves(CONNECTIONS, (index) => exchange(sockets[index] as Socket, `no ${index}\n`, `ab ${index}\n`));

    for (const socket of sockets) socket.resetAndDestroy();
    await untilClosed(server.pid, socketsBefore);
    assertEquals(await server.stop(), null);
  });
}
