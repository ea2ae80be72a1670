/** The laws of the seam on the simulator, which runs them on virtual time. */

import { simRuntime } from "../../runtimes/sim.ts";
import { conformance } from "./laws.ts";
import { noise, type Subject } from "./scene.ts";

const file = { path: "/file", bytes: noise(100_000, 1) };
let seed = 0;
let paths = 0;

function subject(): Subject {
  const sim = simRuntime({ seed: seed++ });
  sim.files.set(file.path, file.bytes);
  return {
    runtime: sim,
    run: (promise) => sim.run(promise),
    raise: (signal) => sim.raise(signal),
    file,
    unixPath: () => `/run/socket-${paths++}`,
    // The simulator's own kind.
    tls: { ca: "a CA", cert: "localhost, 127.0.0.1 signed by a CA", key: "a key" },
  };
}

conformance("sim", subject);
