/** The laws of `serve()` and `connect()` on the simulator. */

import { simRuntime } from "../../runtimes/sim.ts";
import { serveLaws } from "./serve_laws.ts";

let seed = 0;

serveLaws("sim", () => {
  const sim = simRuntime({ seed: seed++ });
  const tls = { ca: "a CA", cert: "localhost, 127.0.0.1 signed by a CA", key: "a key" };
  return { runtime: sim, run: (promise) => sim.run(promise), tls };
});
