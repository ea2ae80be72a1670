/**
 * A server with a process for each core: `workers [PORT] [--workers N] [--metrics PORT]`. Try it with `nc 127.0.0.1 9882`.
 *
 * The first process is the supervisor, which serves no clients. Its workers share the port. It restarts a worker that
 * has died, and it writes the figures of all workers on the second port: `curl http://127.0.0.1:9883/metrics`. At
 * SIGHUP it replaces the program by a new version: for each worker it starts a new one, and when that listens, it
 * stops the old one. If the new worker ends before it listens, the old workers go on. At SIGTERM all workers stop.
 *
 * All workers inherit one listening socket, as with systemd's socket activation (`LISTEN_FDS`). It is never closed, so no client is
 * refused while workers come and go. Deno does not report the descriptor of a socket that it has opened itself. There
 * each worker opens its own socket with SO_REUSEPORT, and clients that wait in the queue of a worker that stops are
 * reset. Under systemd (`systemd-socket-activate -l 127.0.0.1:9882 …`) the workers share one socket on Deno, too. But
 * when Deno starts a process, it makes an inherited socket blocking for all. If the new version then ends before it
 * listens, the old workers block.
 */

import { availableParallelism } from "node:os";
import { EventBase, EventError, prometheus, serve, type ServeOptions, stopOnSignals } from "trivent";
import { main, named, port, refuse } from "./_common.ts";
import { FIRST_FD, start, Supervisor, type Word, WORKER } from "./_supervisor.ts";

const { process } = globalThis;
const MAX_WORKERS = 256;
/** The time for clients to finish when a worker stops. */
const GRACE_MS = 5000;
/**
 * Set in the supervisor's environment if the process that opened the port has started it. Then it ends with that
 * process.
 */
const LAUNCHED = "WORKERS_LAUNCHED";
const isGiven = process.env.LISTEN_FDS === "1" && [undefined, String(process.pid)].includes(process.env.LISTEN_PID);

await main("workers [PORT] [--workers N] [--metrics PORT]", (args) => {
  if (process.env[WORKER] !== undefined) return work(process.env[WORKER]);
  const [where = "9882", ...more] = args[0]?.startsWith("--") ? ["9882", ...args] : args;
  const options = named(more, { "--workers": Math.min(availableParallelism(), MAX_WORKERS), "--metrics": 9883 });
  const count = options["--workers"];
  if (count < 1 || count > MAX_WORKERS) {
    refuse(`Cannot start ${count} workers: it is not a number from 1 to ${MAX_WORKERS}`);
  }
  const metricsPort = port(String(options["--metrics"]), 0);
  if (!isGiven) return open(port(where, 0), count, metricsPort);
  const supervisor = new Supervisor(null, count);
  if (process.env[LAUNCHED] !== undefined) process.stdin.on("end", () => void supervisor.stop()).resume().unref();
  return supervisor.run(metricsPort);
});

/** A worker: serves until its supervisor stops it or has ended. */
async function work(sharedPort: string): Promise<void> {
  const base = new EventBase();
  const place: ServeOptions = sharedPort === ""
    ? { fd: FIRST_FD }
    : { hostname: "127.0.0.1", port: Number(sharedPort), reusePort: true };
  const server = await serve({ ...place, base }, {
    line: (bev, line) => void bev.write(`${process.pid}: ${new TextDecoder().decode(line)}\n`),
    error: (error) => console.error(error instanceof EventError ? error.message : error),
  });
  stopOnSignals(server, { graceMs: GRACE_MS });
  process.stdin.on("data", () => say({ metrics: prometheus(server) }));
  process.stdin.on("end", () => void server.close({ graceMs: GRACE_MS }));
  say({ port: server.port ?? 0 });
  await base.dispatch();
  process.stdin.destroy();
}

function say(word: Word): void {
  process.stdout.write(`${JSON.stringify(word)}\n`);
}

/** Opens the port, and lets supervisor and workers share it. */
async function open(sharedPort: number, count: number, metricsPort: number): Promise<void> {
  const base = new EventBase();
  const server = await serve({ base, hostname: "127.0.0.1", port: sharedPort }, { open: (bev) => bev.reset() });
  if (server.fd === undefined) {
    const { port = 0 } = server;
    await server.close();
    return new Supervisor(port, count).run(metricsPort);
  }
  // A process that has opened a listening socket also accepts. So the supervisor is a process that has inherited it.
  const stdio = ["pipe" as const, "inherit" as const, "inherit" as const, server.fd];
  const supervisor = start(process.argv.slice(2), { LISTEN_FDS: "1", [LAUNCHED]: "1" }, stdio);
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, () => void supervisor.kill(name));
  await server.close({ graceMs: 0 });
  process.exitCode = await new Promise<number>((resolve) => supervisor.on("exit", (code) => resolve(code ?? 1)));
}
