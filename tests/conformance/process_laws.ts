/**
 * Law 8: objects that hold the process, and objects that do not. Each test starts a process of this
 * runtime.
 */

import { spawn } from "node:child_process";
import { createServer, type Server, type Socket } from "node:net";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { assert, assertEquals } from "./assert.ts";
import type { FullSubject } from "./subject.ts";
import { after, before, describe, it } from "./suite.ts";

/** How a process has ended. */
interface Left {
  readonly printed: string;
  readonly ms: number;
}

/** The arguments with which this runtime runs a script, as it runs a test. */
function hostArguments(): readonly string[] {
  return process.versions.deno === undefined ? [] : ["run", "-A", "--no-check", "--unstable-net"];
}

/** Runs one situation to its end. Rejects if the process does not end, or ends with an error. */
function leave(module: string, situation: string, port: number, limitMs: number): Promise<Left> {
  const script = new URL(import.meta.url.endsWith(".ts") ? "./situations.ts" : "./situations.js", import.meta.url);
  const begin = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(
      process.execPath,
      [...hostArguments(), fileURLToPath(script), module, situation, String(port)],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    let printed = "";
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill("SIGKILL");
    }, limitMs);
    child.stdout.setEncoding("utf8");
    child.stdout.on("data", (text: string) => printed += text);
    child.on("error", reject);
    child.on("close", (code) => {
      clearTimeout(timer);
      if (code === 0) resolve({ printed, ms: performance.now() - begin });
      else {
        const how = late ? "the process does not end" : `the process ends with code ${code}`;
        reject(new Error(`${situation}: ${how}; it printed ${JSON.stringify(printed)}`));
      }
    });
  });
}

/** Tests one runtime. */
export function processLaws(name: string, makeSubject: () => FullSubject): void {
  const { module = "", processTimeoutMs: limitMs, runtime, virtual, ownNetwork } = makeSubject();
  const { capabilities, lacks, endsWhenIdle = true } = runtime;
  const skip = module === ""
    ? "the subject names no module"
    : (virtual || !endsWhenIdle) && "the runtime does not hold a process";
  const skipPeer = skip || (ownNetwork && "no peer outside of the process can be reached");
  /** A peer that never finishes. It answers a request after a while. */
  let server: Server;
  const connections: Socket[] = [];
  let heard = "";
  const run = (situation: string): Promise<Left> =>
    leave(module, situation, (server.address() as { port: number }).port, limitMs);

  describe(`${name}: a process`, { skip }, () => {
    before(async () => {
      server = createServer({ allowHalfOpen: true }, (socket) => {
        connections.push(socket);
        socket.on("error", () => {});
        socket.on("data", (chunk) => {
          heard += chunk;
          if (String(chunk).endsWith("speak")) setTimeout(() => socket.write("spoken"), 300);
          if (!String(chunk).endsWith("finish")) return;
          socket.end();
          socket.pause();
          setTimeout(() => socket.resume(), 300);
        });
      });
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    });
    after(() => {
      for (const socket of connections) socket.destroy();
      server.close();
    });

    it("ends although an unref'd listener and an unref'd connection are open", { skip: skipPeer }, async () => {
      assertEquals((await run("unref")).printed, "");
    });
    it("ends although a connection is open that was unref'd while it connected", { skip: skipPeer }, async () => {
      assertEquals((await run("early")).printed, "waited\n");
    });
    it("is held by a connection that was ref'd again", { skip: skipPeer }, async () => {
      assertEquals((await run("ref")).printed, "spoken\n");
    });
    it("is held by a listener that was ref'd again", { skip: skipPeer }, async () => {
      assertEquals((await run("listenerRef")).printed, "still here\n");
    });
    it("ends although a connection is open that was unref'd before its TLS handshake", {
      skip: skipPeer || (!capabilities.tls && `TLS: ${lacks?.tls ?? "the runtime has none"}`),
    }, async () => {
      assertEquals((await run("handshake")).printed, "waited\n");
    });
    it("ends when its connections are closed, whether or not the peer finishes, and loses nothing", {
      skip: skipPeer,
    }, async () => {
      heard = "";
      assertEquals((await run("closed")).printed, "");
      const deadline = performance.now() + limitMs;
      while (heard !== "last words" && performance.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      assertEquals(heard, "last words");
    });
    it("ends when a connection is closed that had finished long ago", { skip: skipPeer }, async () => {
      assertEquals((await run("finished")).printed, "");
    });
    it("ends although a connection is open whose peer has finished, but sends all output before", {
      skip: skipPeer,
    }, async () => {
      heard = "";
      assertEquals((await run("peerFinished")).printed, "end\n");
      assertEquals(heard, "finish");
      heard = "";
      assertEquals((await run("owing")).printed, "end\nsent\n");
      const deadline = performance.now() + limitMs;
      while (heard.length < 8_000_006 && performance.now() < deadline) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      assertEquals(heard.length, 8_000_006);
    });
    it("ends although a timer in the background and a signal handler wait", async () => {
      assertEquals((await run("background")).printed, "");
    });
    it("is held by a timer that is not in the background", async () => {
      assertEquals((await run("timer")).printed, "tick\n");
    });
    it("ends although events wait that were unref'd: a timer and a signal, beside a listener that was", async () => {
      assertEquals((await run("unheld")).printed, "");
    });
    it("is held by a timer that was ref'd again, until that is unref'd", async () => {
      assertEquals((await run("reheld")).printed, "tick\n");
    });
    it("is held by a connection that waits, and by a timer", { skip: skipPeer }, async () => {
      const { printed, ms } = await run("held");
      assertEquals(printed, "spoken\nand a timer\n");
      assert(ms >= 300);
    });
    it("ends at SIGTERM when a server that stops on signals has closed, and its grace is over", {
      skip: skipPeer || !capabilities.signals,
    }, async () => {
      assertEquals((await run("signalled")).printed, "1 there\ncut ECANCELED\n");
    });
    it("is held by a listener until it is closed", { skip: skipPeer }, async () => {
      assertEquals((await run("listening")).printed, "accepted\n");
    });
  });
}
