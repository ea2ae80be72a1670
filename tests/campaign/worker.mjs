/** A worker of the campaign: plays the seeds that it is given. */

import { parentPort, workerData } from "node:worker_threads";
import { playAlone } from "./shrink.mjs";

const campaign = await import(workerData.path);

parentPort.on("message", async ({ from, count }) => {
  const before = process.cpuUsage();
  const failures = [];
  for (let seed = from; seed < from + count; seed++) {
    const plan = campaign.planOf(seed);
    const { error } = await playAlone(campaign, plan);
    if (error !== null) failures.push({ seed, plan, message: error.message });
  }
  const { user, system } = process.cpuUsage(before);
  parentPort.postMessage({ played: count, failures, cpuSeconds: (user + system) / 1e6 });
});
