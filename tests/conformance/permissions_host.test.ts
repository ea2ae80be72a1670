/** Processes without all permissions, on Deno and Node. */

import { spawn } from "node:child_process";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { pathToFileURL } from "node:url";
import { assertEquals, assertMatch } from "@std/assert";
import { detectRuntime } from "../../mod.ts";

const { name } = detectRuntime();
const library = pathToFileURL(join(process.cwd(), name === "node" ? "dist/mod.js" : "mod.ts")).href;

let server: Server;
let port: number;
let otherPort: number;
before(async () => {
  [server, otherPort] = [await listening(), 0];
  port = (server.address() as { port: number }).port;
  // A port that is free.
  const other = await listening();
  otherPort = (other.address() as { port: number }).port;
  await new Promise((resolve) => other.close(resolve));
});
after(() => server.close());

function listening(): Promise<Server> {
  return new Promise((resolve) => {
    const made = createServer((socket) => void socket.on("error", () => {}).resume());
    made.listen(0, "127.0.0.1", () => resolve(made));
  });
}

/** Makes calls in a process with these flags. @returns The result of each */
function permitted(flags: readonly string[], ...calls: string[]): Promise<Record<string, string>> {
  const script = join("tests", "conformance", "fixtures", "permitted.mjs");
  const args = [script, library, String(port), String(otherPort), ...calls];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...flags, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let [printed, complaints] = ["", ""];
    child.stdout.setEncoding("utf8").on("data", (text: string) => printed += text);
    child.stderr.setEncoding("utf8").on("data", (text: string) => complaints += text);
    child.on("error", reject);
    child.on("close", (code) => {
      if (code !== 0) return reject(new Error(`exit code ${code}: ${printed}${complaints}`));
      const lines = printed.trim().split("\n").map((line) => [/^\w+/.exec(line)?.[0], line.replace(/^\w+: /, "")]);
      resolve(Object.fromEntries(lines) as Record<string, string>);
    });
  });
}

describe("the permissions of Deno", { skip: name === "deno" ? false : "this is not Deno" }, () => {
  // The library is loaded by a path, so the process must be allowed to read it.
  const deno = (...flags: string[]): string[] => [
    ...["run", "--quiet", "--no-prompt", "--no-check", "--unstable-net", `--allow-read=${process.cwd()}`],
    ...flags,
  ];

  it("for a host by its name are enough to connect to it and to listen on it", async () => {
    const flags = deno(`--allow-net=localhost:${port},localhost:${otherPort}`);
    assertEquals(await permitted(flags, "name", "aborted", "offerName"), {
      name: "127.0.0.1",
      aborted: `ECANCELED Cannot connect to localhost:${port}: aborted`,
      offerName: "127.0.0.1",
      open: "0",
    });
    const denied = await permitted(flags, "number", "family", "offerNumber", "datagram");
    for (const call of ["number", "family", "offerNumber", "datagram"]) {
      assertMatch(denied[call]!, /^EACCES Cannot .*: permission denied: .*--allow-net/, call);
    }
    assertEquals(denied.open, "0");
  });

  it("for a numeric address are enough for it, and for no other address", async () => {
    const result = await permitted(
      deno("--allow-net=127.0.0.1"),
      ...["number", "offerNumber", "datagram", "name", "family", "offerName"],
    );
    assertEquals([result.number, result.offerNumber, result.datagram], ["127.0.0.1", "127.0.0.1", "undefined"]);
    for (const call of ["name", "family", "offerName"]) {
      // The message names the flag and its value.
      assertMatch(result[call]!, /^EACCES Cannot .*: permission denied: .*"localhost:\d+".*--allow-net/, call);
    }
    assertEquals(result.open, "0");
  });

  it("for a name and its address allow to ask for a family", async () => {
    const result = await permitted(deno("--allow-net=localhost,127.0.0.1"), "name", "family", "resolve", "offerName");
    assertEquals([result.name, result.family, result.resolve, result.offerName], Array(4).fill("127.0.0.1"));
  });

  it("that exclude a name or an address apply to both spellings", async () => {
    for (const denied of [`localhost:${port}`, "localhost", "127.0.0.1"]) {
      const result = await permitted(deno("--allow-net", `--deny-net=${denied}`), "name", "family", "offerNumber");
      for (const call of ["name", "family"]) {
        assertMatch(result[call]!, /^EACCES Cannot connect to .*: permission denied/, `${call} with ${denied}`);
      }
      assertEquals(result.open, "0");
    }
  });
});

describe("the permissions of Node", { skip: name === "node" ? false : "this is not Node" }, () => {
  const has = process.allowedNodeEnvironmentFlags?.has("--allow-net") === true;
  const without = "Node has a permission of the network from version 25 on";

  it("without that of the network make serve() and connect() fail with EACCES", { skip: !has && without }, async () => {
    const calls = ["offerNumber", "offerName", "number", "name", "datagram", "resolve"];
    const result = await permitted(["--permission", "--allow-fs-read=*"], ...calls);
    for (const call of calls) {
      assertMatch(result[call]!, /^EACCES Cannot .*: permission denied: .*--allow-net/, call);
    }
    assertEquals(result.open, "0");
  });

  it("with that of the network are enough", { skip: !has && without }, async () => {
    const result = await permitted(
      ["--permission", "--allow-net", "--allow-fs-read=*"],
      ...["offerNumber", "offerName", "number", "name"],
    );
    assertEquals(Object.values(result), [...Array(4).fill("127.0.0.1"), "0"]);
  });

  it("are checked before serve() listens, because a program cannot catch Node's later error", async () => {
    const result = await permitted([], "pretend", "offerNumber");
    assertEquals(
      result.offerNumber,
      `EACCES Cannot listen on 127.0.0.1:${otherPort}: permission denied: it takes the flag --allow-net (EACCES)`,
    );
  });
});

describe("without permissions", { skip: name === "bun" ? false : "it is tested above" }, () => {
  it("everything is allowed on Bun", async () => {
    const result = await permitted([], "name", "number", "family", "aborted", "offerName", "datagram");
    assertEquals(Object.entries(result).map(([call, text]) => `${call} ${text.split(" ")[0]}`), [
      ...["name 127.0.0.1", "number 127.0.0.1", "family 127.0.0.1", "aborted ECANCELED"],
      ...["offerName 127.0.0.1", "datagram undefined", "open 0"],
    ]);
  });
});
