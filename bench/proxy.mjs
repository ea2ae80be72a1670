/**
 * A proxy by `pipe()`: `npm run bench -- proxy [node] [deno] [bun] [--quick]`.
 *
 * The load speaks to an echo server in C through the proxy: messages of 64 B and 16 KiB, one in flight on each connection,
 * and of 1 MiB, which flow both ways at the same time. The proxy has CPU 0, the load and the echo server have CPU 1. The
 * cost is the proxy's CPU time of a message, against proxies by hand on the same runtime, and HAProxy in TCP mode.
 */

import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { BUILD, compile } from "./shared/compile.mjs";
import { row } from "./shared/goals.mjs";
import { buildPrograms, ours, reference } from "./shared/programs.mjs";
import {
  buildLoad,
  chosenRuntimes,
  comparison,
  freePort,
  key,
  measureAll,
  silent,
  startServer,
} from "./shared/servers.mjs";

const WORKLOADS = [
  { label: "64 B ping-pong", bytes: 64, connections: 50 },
  { label: "16 KiB", bytes: 16 << 10, connections: 50 },
  { label: "bulk both ways", bytes: 1 << 20, connections: 8 },
];
const NEEDS_C = "the server behind the proxy needs a C compiler";
const NEEDS_HAPROXY = "HAProxy is not installed";

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const runtimes = chosenRuntimes(args);
  const time = quick ? { warmupMs: 10, measureMs: 50 } : { warmupMs: 60, measureMs: 220 };
  const plan = quick ? { starts: 1, rounds: 1, jitMs: 0 } : { starts: 2, rounds: 3, jitMs: 400 };
  const workload = (label) => `proxy by \`pipe()\`, ${label}`;
  const binary = compile("epoll_echo");
  if (binary === undefined) {
    return { rows: runtimes.map((name) => row("proxy", name, { skipped: NEEDS_C })) };
  }

  await buildPrograms(["proxy_server"]);
  const echo = await startServer([binary, "0"], { cpu: 1 });
  try {
    const haproxy = await haproxyTo(echo.port);
    const contestants = [
      ...runtimes.flatMap((name) => [
        { name: `${name} by hand`, command: reference(name, `proxy_${name}.mjs`, [echo.port]) },
        { name: `${name} trivent`, command: ours(name, "proxy_server", [echo.port]) },
      ]),
      ...(haproxy === undefined ? [] : [{ name: "haproxy", command: haproxy, quiet: true }]),
    ];
    const workloads = WORKLOADS.map(({ label, bytes, connections }) => ({
      label,
      how: { ...time, bytes, connections, kind: "echo" },
    }));
    const samples = await measureAll(contestants, workloads, plan, buildLoad());
    const rows = runtimes.flatMap((runtime) =>
      WORKLOADS.flatMap(({ label }) => {
        const [mine, byHand] = ["trivent", "by hand"].map((name) => samples.get(key(`${runtime} ${name}`, label)));
        const limit = samples.get(key(`${runtime} haproxy`, label));
        return [
          row("proxy", runtime, { workload: workload(label), ...comparison(mine, byHand) }),
          row("proxy-haproxy", runtime, {
            workload: workload(label),
            ...(limit === undefined ? { skipped: NEEDS_HAPROXY } : comparison(mine, limit)),
          }),
        ];
      })
    );
    return { rows };
  } finally {
    await echo.stop();
  }
}

async function haproxyTo(there) {
  if (spawnSync("haproxy", ["-v"]).status !== 0) return undefined;
  const port = await freePort();
  mkdirSync(BUILD, { recursive: true });
  const file = join(BUILD, "haproxy.cfg");
  writeFileSync(
    file,
    `global
  nbthread 1
  maxconn 2000
defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen proxy
  bind 127.0.0.1:${port}
  server echo 127.0.0.1:${there}
`,
  );
  return silent(port, ["haproxy", "-db", "-f", file]);
}
