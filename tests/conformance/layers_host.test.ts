/** Closing, layers, pairs and pipes on whichever of Node, Deno and Bun runs this. */

import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { detectRuntime } from "../../mod.ts";
import { makeCertificates } from "./certificates.ts";
import { layerLaws, type Stranger } from "./layer_laws.ts";
import type { PollScene } from "./poll_scene.ts";

const directory = mkdtempSync(join(tmpdir(), "trivent-"));
after(() => rmSync(directory, { recursive: true }));

/** A socket of `node:net`, which has a RST on all hosts. */
function stranger(_scene: PollScene, port: number): Promise<Stranger> {
  const socket = connect({ host: "127.0.0.1", port });
  socket.on("error", () => {});
  return new Promise((resolve) => {
    socket.on("connect", () => {
      resolve({
        write: (bytes) => void socket.write(bytes),
        read: () => void socket.resume(),
        reset: () => void socket.resetAndDestroy(),
      });
    });
  });
}

const runtime = detectRuntime();
const subject = { runtime, tls: makeCertificates(directory), stranger };

layerLaws(runtime.name, () => subject);
