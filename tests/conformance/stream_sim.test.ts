/** Web streams over the simulated network, on virtual time. */

import { simRuntime } from "../../runtimes/sim.ts";
import { streamLaws } from "./stream_laws.ts";

/** More than any test takes, in virtual milliseconds. */
const LIMIT = 100_000;

let seed = 0;

streamLaws("sim", () => {
  const sim = simRuntime({ seed: seed++ });
  return {
    runtime: sim,
    // Streams of the host's go on in its own macrotasks, and compression in its threads: the simulator knows of neither.
    async run(promise) {
      let settled = false;
      const settle = (): void => void (settled = true);
      promise.then(settle, settle);
      for (let ms = 0; ms < LIMIT && !settled; ms++) {
        await sim.advance(1);
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
      if (!settled) throw new Error("it hangs");
      return await promise;
    },
    raise() {},
    file: { path: "", bytes: new Uint8Array() },
    unixPath: () => "",
  };
});
