/** The runtimes that the repository tests: the one that runs the tests, the simulator, and a network of Duplex streams. */

import { pathToFileURL } from "node:url";
import { type DuplexNetwork, duplexNetwork } from "../../bridges/duplex/network.ts";
import { detectRuntime } from "../../mod.ts";
import { simRuntime } from "../../runtimes/sim.ts";
import type { Deviation, Subject } from "./mod.ts";
import { noise } from "./subject.ts";

const DEVIATIONS: Readonly<Record<string, readonly Deviation[]>> = {
  // When a write fails, Node closes the socket and drops bytes that it has not read.
  node: ["last-words-lost"],
  // It cannot abort an attempt to connect; and oven-sh/bun#37093.
  bun: ["attempt-stays", "unreachable-is-refused"],
};

const runtime = detectRuntime();

/** The name of this runtime. */
export const hostName: string = runtime.name;

/** The adapter of this runtime, for other processes of it. */
const module = pathToFileURL(hostName === "node" ? "dist/runtimes/node.js" : `runtimes/${hostName}.ts`).href;

/** This host: Node, Deno or Bun. */
export function hostSubject(): Subject {
  // A process on a busy machine takes long to start.
  return { runtime, module, processTimeoutMs: 60_000, deviations: DEVIATIONS[hostName] };
}

let duplex: DuplexNetwork | undefined;

/** A network of Duplex streams in this process. On Node the laws of processes are skipped: the module is TypeScript. */
export function duplexSubject(): Subject {
  return {
    runtime: duplex ??= duplexNetwork(runtime),
    ownNetwork: true,
    module: hostName === "node" ? undefined : pathToFileURL("tests/conformance/fixtures/duplex.ts").href,
  };
}

const file = { path: "/file", bytes: noise(100_000, 1) };
/** The simulator's own kind of certificates. */
const tls = {
  ca: "a CA",
  cert: "localhost, 127.0.0.1 signed by a CA",
  key: "a key",
  other: { cert: "one.example signed by a CA", key: "another key" },
};
let seed = 0;
let paths = 0;

/** A new simulator for each test. */
export function simSubject(): Subject {
  const sim = simRuntime({ seed: seed++, maxSteps: 5_000_000 });
  sim.files.set(file.path, file.bytes);
  return {
    runtime: sim,
    run: (promise) => sim.run(promise),
    raise: (signal) => sim.raise(signal),
    file,
    unixPath: () => `/run/socket-${paths++}`,
    tls,
  };
}

/** More than any test of streams takes, in virtual milliseconds. */
const LIMIT_MS = 100_000;

/**
 * The same, for streams of the runtime that runs the tests. They use its macrotasks and threads,
 * which the simulator does not control.
 */
export function streamSimSubject(): Subject {
  const sim = simRuntime({ seed: seed++ });
  return {
    runtime: sim,
    async run(promise) {
      let settled = false;
      const settle = (): void => void (settled = true);
      promise.then(settle, settle);
      for (let ms = 0; ms < LIMIT_MS && !settled; ms++) {
        await sim.advance(1);
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
      if (!settled) throw new Error("it hangs");
      return await promise;
    },
    tls,
  };
}
