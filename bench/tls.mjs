/**
 * Echo over TLS, and handshakes: `npm run bench -- tls [node] [deno] [bun] [--quick]`.
 *
 * Messages of 64 B and 16 KiB, one in flight on each of 50 connections; and 500 full handshakes, 16 at a time, each with a
 * message of 64 B. The cost is the server's CPU time of a message or handshake, against the TLS of the same runtime by hand.
 */

import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { BUILD } from "./shared/compile.mjs";
import { row } from "./shared/goals.mjs";
import { buildPrograms, ours, reference } from "./shared/programs.mjs";
import { buildLoad, chosenRuntimes, comparison, key, measureAll } from "./shared/servers.mjs";

const NEEDS = "it needs a C compiler with OpenSSL, and openssl (Debian: apt-get install gcc libssl-dev openssl)";

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const runtimes = chosenRuntimes(args);
  const time = quick ? { warmupMs: 200, measureMs: 100 } : { warmupMs: 60, measureMs: 220 };
  const plan = quick ? { starts: 1, rounds: 1, jitMs: 0 } : { starts: 2, rounds: 3, jitMs: 400 };
  const workloads = [
    { label: "TLS echo, 64 B", how: { ...time, bytes: 64, connections: 50, kind: "echo" } },
    { label: "TLS echo, 16 KiB", how: { ...time, bytes: 16 << 10, connections: 50, kind: "echo" } },
    {
      label: "TLS, 500 handshakes",
      how: { ...time, bytes: 64, connections: 16, count: quick ? 40 : 500, kind: "handshake" },
      // The warm-up is 100 handshakes in each round.
      jitMs: 0,
    },
  ];
  const [load, files] = [buildLoad("tls"), certificate()];
  if (load === undefined || files === undefined) {
    return { rows: runtimes.map((name) => row("tls", name, { skipped: NEEDS })) };
  }

  await buildPrograms(["tls_server"]);
  const contestants = runtimes.flatMap((name) => [
    { name: `${name} by hand`, command: reference(name, `tls_${name}.mjs`, files) },
    { name: `${name} trivent`, command: ours(name, "tls_server", files) },
  ]);
  const samples = await measureAll(contestants, workloads, plan, load);
  const rows = runtimes.flatMap((runtime) =>
    workloads.map(({ label }) => {
      const [mine, theirs] = ["trivent", "by hand"].map((name) => samples.get(key(`${runtime} ${name}`, label)));
      return row("tls", runtime, { workload: label, ...comparison(mine, theirs) });
    })
  );
  return { rows };
}

/** The files of a certificate and its key, made for this run. */
function certificate() {
  mkdirSync(BUILD, { recursive: true });
  const [cert, key] = ["cert.pem", "key.pem"].map((name) => join(BUILD, name));
  const words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
  const { status } = spawnSync("openssl", [...words, "-subj", "/CN=localhost", "-keyout", key, "-out", cert], {
    stdio: "ignore",
  });
  return status === 0 ? [cert, key] : undefined;
}
