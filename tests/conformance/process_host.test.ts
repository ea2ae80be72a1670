/** What holds a process, and what does not: on whichever of Node, Deno and Bun runs this. */

import { spawn } from "node:child_process";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { detectRuntime } from "../../mod.ts";
import { noTls } from "./tls_peers.ts";

const LIMIT_MS = 40_000;
const host = detectRuntime();
const { name } = host;
const adapter =
  pathToFileURL(join(process.cwd(), name === "node" ? "dist/runtimes/node.js" : `runtimes/${name}.ts`)).href;

/** A peer that never finishes, and answers "speak" after a while. */
let server: Server;
const connections: Socket[] = [];
let heard = "";

function port(): number {
  return (server.address() as { port: number }).port;
}

/** Runs one situation of fixtures/leave.mjs to its end. @returns What it has printed, and how long it took */
function leave(situation: string, permissions: readonly string[] = ["-A"]): Promise<{ printed: string; ms: number }> {
  const script = join("tests", "conformance", "fixtures", "leave.mjs");
  const options = name === "deno" ? ["run", ...permissions, "--no-check"] : [];
  const begin = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...options, script, adapter, situation, String(port())], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let printed = "";
    const late = setTimeout(() => {
      child.kill("SIGKILL");
      reject(new Error(`${situation}: the process does not end; it printed ${JSON.stringify(printed)}`));
    }, LIMIT_MS);
    child.stdout.setEncoding("utf8");
    child.stdout.on("data", (text: string) => printed += text);
    child.on("error", reject);
    child.on("close", (code) => {
      clearTimeout(late);
      if (code === 0) resolve({ printed, ms: performance.now() - begin });
      else reject(new Error(`${situation}: exit code ${code}; it printed ${JSON.stringify(printed)}`));
    });
  });
}

describe(`${name}: a process`, () => {
  before(async () => {
    server = createServer({ allowHalfOpen: true }, (socket) => {
      connections.push(socket);
      socket.on("error", () => {});
      socket.on("data", (chunk) => {
        heard += chunk;
        if (String(chunk) === "speak") setTimeout(() => socket.write("spoken"), 300);
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  after(() => {
    for (const socket of connections) socket.destroy();
    server.close();
  });

  it("ends although an unref'd listener and an unref'd connection are open", async () => {
    assertEquals((await leave("unref")).printed, "");
  });
  it("ends although a connection is open that was unref'd while it connected", async () => {
    assertEquals((await leave("early")).printed, "waited\n");
  });
  it(
    "ends although a connection is open that was unref'd before its TLS handshake",
    { skip: noTls(host) },
    async () => {
      assertEquals((await leave("handshake")).printed, "waited\n");
    },
  );
  it("ends when its connections are closed, whether or not the peer finishes, and loses nothing", async () => {
    heard = "";
    assertEquals((await leave("closed")).printed, "");
    const deadline = performance.now() + LIMIT_MS;
    while (heard !== "last words" && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assertEquals(heard, "last words");
  });
  it("ends when a connection is closed that had finished long ago", async () => {
    assertEquals((await leave("finished")).printed, "");
  });
  it("ends although a timer in the background and a signal handler wait", async () => {
    assertEquals((await leave("background")).printed, "");
  });
  it("ends although events wait that were unref'd: a timer and a signal, beside a listener that was", async () => {
    assertEquals((await leave("unheld")).printed, "");
  });
  it("is held by a timer that was ref'd again, until that is unref'd", async () => {
    assertEquals((await leave("reheld")).printed, "tick\n");
  });
  it("is held by a connection that waits, and by a timer", async () => {
    const { printed, ms } = await leave("held");
    assertEquals(printed, "spoken\nand a timer\n");
    assert(ms >= 300);
  });
  it(
    "is told with EACCES what Deno does not permit, and which flag is missing",
    { skip: name !== "deno" },
    async () => {
      // The fixture is loaded by a path, for which it must be read.
      const { printed } = await leave("denied", ["--no-prompt", `--allow-read=${process.cwd()}`]);
      const lines = printed.trim().split("\n");
      assertEquals(lines.map((line) => line.split(" ")[0]), ["EACCES", "EACCES", "EACCES", "EACCES", "EACCES", "0"]);
      assertMatch(lines[0]!, /^EACCES Cannot listen on 127\.0\.0\.1:0: permission denied: .*--allow-net/);
      assertMatch(lines[1]!, /--allow-(read|write|net)/);
      assertMatch(lines[2]!, /Cannot connect to 127\.0\.0\.1:\d+: permission denied: .*--allow-net/);
      assertMatch(lines[3]!, /--allow-net/);
      assertMatch(lines[4]!, /--allow-read/);
    },
  );
  it("ends at SIGTERM when a server that stops on signals has closed, and its grace is over", async () => {
    assertEquals((await leave("signalled")).printed, "1 there\ncut ECANCELED\n");
  });
  it("is held by a listener until it is closed", async () => {
    assertEquals((await leave("listening")).printed, "accepted\n");
  });
});
