/** Closing, layers, pairs and pipes on the simulator. */

import { simRuntime } from "../../runtimes/sim.ts";
import { layerLaws, type Stranger } from "./layer_laws.ts";
import type { PollScene } from "./poll_scene.ts";

let seed = 0;

layerLaws("sim", () => {
  const sim = simRuntime({ seed: seed++, maxSteps: 5_000_000 });
  return {
    runtime: sim,
    run: (promise) => sim.run(promise),
    tls: { ca: "a CA", cert: "localhost, 127.0.0.1 signed by a CA", key: "a key" },
    stranger: (scene: PollScene, port: number): Promise<Stranger> => {
      const socket = scene.keep(scene.base.connect({ port }));
      let left = new Uint8Array();
      let reads = false;
      let over = false;
      const into = new Uint8Array(65_536);
      const act = (): void => {
        if (over) return;
        try {
          for (let n = left.length > 0 ? socket.send(left) : 0; n > 0; n = left.length > 0 ? socket.send(left) : 0) {
            left = left.subarray(n);
          }
          if (reads) { while (socket.recv(into) > 0); }
        } catch {
          return;
        }
        sim.setTimer(sim.now() + 1, act);
      };
      act();
      return Promise.resolve({
        write: (bytes) => void (left = bytes as typeof left),
        read: () => void (reads = true),
        reset: () => {
          over = true;
          socket.reset();
        },
      });
    },
  };
});
