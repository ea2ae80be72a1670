/** Polling and datagrams on the simulator, which runs the bodies on virtual time. */

import { simRuntime } from "../../runtimes/sim.ts";
import { datagramLaws } from "./datagram_laws.ts";
import { pollLaws } from "./poll_laws.ts";
import type { PollSubject } from "./poll_scene.ts";

let seed = 0;

function subject(): PollSubject {
  const sim = simRuntime({ seed: seed++, maxSteps: 1_000_000 });
  return { runtime: sim, run: (promise) => sim.run(promise) };
}

pollLaws("sim", subject);
datagramLaws("sim", subject);
