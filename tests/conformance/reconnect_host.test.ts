/** `reconnect()` with a server in another process that is killed, on whichever of Node, Deno and Bun runs this. */

import { describe, it } from "node:test";
import { PeerProcess } from "./peer_process.ts";
import { pollScene } from "./poll_scene.ts";
import { assertComesBack } from "./reconnect_laws.ts";
import { complete } from "./subject.ts";
import { hostName, hostSubject } from "./subjects.ts";

describe(`${hostName}: reconnect()`, () => {
  it("connects again within its back-off after the server's process was killed and started again", () =>
    pollScene(complete(hostSubject()), (scene) => assertComesBack(scene, (port) => PeerProcess.start(port))));
});
