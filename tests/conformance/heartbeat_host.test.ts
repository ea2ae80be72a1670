/** `heartbeat()` with a process that is stopped, on whichever of Node, Deno and Bun runs this. */

import process from "node:process";
import { describe, it } from "node:test";
import { assertFindsSilence } from "./heartbeat_laws.ts";
import { PeerProcess } from "./peer_process.ts";
import { pollScene } from "./poll_scene.ts";
import { complete } from "./subject.ts";
import { hostName, hostSubject } from "./subjects.ts";

describe(`${hostName}: heartbeat()`, { skip: process.platform === "win32" && "Windows has no SIGSTOP" }, () => {
  it("keeps a peer that answers, and detects within timeoutMs one that was stopped by SIGSTOP", () =>
    pollScene(complete(hostSubject()), async (scene) => {
      const peer = await PeerProcess.start(0);
      try {
        await assertFindsSilence(scene, peer.port, () => peer.signal("SIGSTOP"));
      } finally {
        await peer.kill();
      }
    }));
});
