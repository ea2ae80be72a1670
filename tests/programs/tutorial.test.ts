// The programs of the tutorial, a small Redis, with Redis's own clients: chapter by chapter, on the three runtimes.

import { execFileSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { start } from "../tools/processes.mjs";
import { findRuntime, ROOT, type RuntimeName, RUNTIMES } from "../tools/runtimes.mjs";
import { Client, feed, PATIENCE_MS, quiet, type RunningServer, startCommand } from "./workshop.ts";

const FLAGS: Record<RuntimeName, string[]> = { node: [], deno: ["run", "--quiet", "--allow-all"], bun: ["run"] };

function chapter(runtime: RuntimeName, name: string, args: readonly string[] = ["0"]) {
  const file = join(ROOT, "examples", "tutorial", `${name}.mjs`);
  return { file: findRuntime(runtime).path, args: [...FLAGS[runtime], file, ...args] };
}

/** Runs a test with the server of a chapter. */
async function serving(
  runtime: RuntimeName,
  name: string,
  args: readonly string[],
  use: (server: RunningServer) => Promise<void>,
): Promise<void> {
  const server = await startCommand(chapter(runtime, name, args));
  try {
    await use(server);
  } finally {
    await server.stop();
  }
}

async function cli(server: RunningServer, ...command: string[]): Promise<string> {
  const { code, stdout, stderr } = await feed("redis-cli", ["-h", "127.0.0.1", "-p", `${server.port}`, ...command]);
  assertEquals(code, 0, stderr);
  return stdout.toString().trimEnd();
}

/** Starts a broker of NATS; with port 0 on a free port. */
async function startBroker(port = 0) {
  const broker = await start("nats-server", ["-a", "127.0.0.1", "-p", String(port || -1)], {
    ready: /Listening for client connections on 127\.0\.0\.1:(\d+)[^]*Server is ready/,
  });
  return { port: Number(broker.match[1]), stop: broker.stop };
}

/** Starts HAProxy with the configuration of chapter 8. */
async function startProxy(folder: string, machines: readonly number[]): Promise<RunningServer> {
  const port = await freePort();
  const file = join(folder, "haproxy.cfg");
  const text = readFileSync(join(ROOT, "examples", "tutorial", "haproxy.cfg"), "utf8");
  const ports = new Map([["6379", port], ["6400", machines[0]], ["6401", machines[1]]]);
  writeFileSync(file, text.replaceAll(/:(\d{4})$/gm, (_all, written: string) => `:${ports.get(written)}`));
  const { pid, output, stop } = await start("haproxy", ["-f", file, "-W", "-db"], {
    ready: /Loading success|New worker/,
  });
  return { port, pid, printed: output, stop };
}

function freePort(): Promise<number> {
  const server = createServer();
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

async function eventually(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const until = performance.now() + PATIENCE_MS; !await holds(); await quiet(50)) {
    assert(performance.now() < until, `${what}: not within ${PATIENCE_MS} ms`);
  }
}

for (const runtime of RUNTIMES) {
  describe(`the tutorial on ${runtime}`, () => {
    let folder: string;
    before(() => void (folder = mkdtempSync(join(tmpdir(), "trivent-tutorial-"))));
    after(() => rmSync(folder, { recursive: true, force: true }));

    it("1: answers lines", () =>
      serving(runtime, "1_lines", ["0"], async ({ port }) => {
        const client = await Client.open(port);
        await client.send("PING\nSET a one two\nGET a\nGET b\nDANCE\n");
        client.end();
        await client.untilEnd();
        assertEquals(client.bytes.toString(), "PONG\nOK\none two\n(nil)\nERR unknown command\n");
      }));

    it("2: answers redis-cli", { skip: needs("redis-cli") }, () =>
      serving(runtime, "2_resp", ["0"], async (server) => {
        assertEquals(await cli(server, "PING"), "PONG");
        assertEquals(await cli(server, "SET", "greeting", "hällo wörld"), "OK");
        assertEquals(await cli(server, "GET", "greeting"), "hällo wörld");
        assertMatch(await cli(server, "DANCE"), /^ERR unknown command/);
        const client = await Client.open(server.port);
        await client.send("*1\r\n$99999999\r\n");
        await client.untilEnd(); // it is ended, and the others are still served
        assertEquals(await cli(server, "PING"), "PONG");
      }));

    it(
      "3: lets keys expire",
      { skip: needs("redis-cli") },
      () =>
        serving(runtime, "3_expiry", ["0"], async (server) => {
          await cli(server, "SET", "a", "1");
          assertEquals(await cli(server, "TTL", "a"), "-1");
          assertEquals(await cli(server, "EXPIRE", "a", "100"), "1");
          assertMatch(await cli(server, "TTL", "a"), /^(99|100)$/);
          assertEquals(await cli(server, "EXPIRE", "a", "0"), "1");
          assertEquals(await cli(server, "GET", "a"), "");
          assertEquals(await cli(server, "TTL", "a"), "-2");
          assertEquals(await cli(server, "INCR", "n"), "1");
          assertEquals(await cli(server, "INCR", "n"), "2");
          assertEquals(await cli(server, "DEL", "n", "m"), "1");
        }),
    );

    it("4: serves redis-benchmark, and a client that reads nothing does not stop it", {
      skip: needs("redis-benchmark", "redis-cli"),
    }, () =>
      serving(runtime, "4_limits", ["0"], async (server) => {
        await cli(server, "SET", "big", "x".repeat(50_000));
        const slow = await Client.open(server.port);
        slow.socket.pause();
        await slow.send("*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n".repeat(1000)); // 50 MB of answers
        for (const pipelined of ["1", "16"]) {
          const args = [
            "-p",
            `${server.port}`,
            "-n",
            "2000",
            "-c",
            "20",
            "-P",
            pipelined,
            "-t",
            "ping,set,get,incr",
            "--csv",
          ];
          const { code, stdout, stderr } = await feed("redis-benchmark", ["-h", "127.0.0.1", ...args]);
          assertEquals(code, 0, stderr);
          assertEquals(stdout.toString().trim().split("\n").length, 6);
        }
        slow.socket.destroy();
      }));

    it(
      "5: speaks TLS, and takes a new certificate before its key",
      { skip: needs("redis-cli", "openssl") },
      async () => {
        const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
        const [newCert, newKey] = [join(folder, "new-cert.pem"), join(folder, "new-key.pem")];
        const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
        const ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
        const make = (cert: string, key: string) => {
          const args = ["req", "-x509", ...ec, "-nodes", "-days", "2", "-keyout", key, "-out", cert, ...subject];
          execFileSync("openssl", args, { stdio: "ignore" });
        };
        make(cert, key);
        make(newCert, newKey);
        const oldCert = join(folder, "old-cert.pem");
        copyFileSync(cert, oldCert);
        await serving(runtime, "5_tls", ["0", cert, key], async (server) => {
          const ping = (trusted: string) => cli(server, "--tls", "--cacert", trusted, "PING");
          assertEquals(await ping(oldCert), "PONG");
          copyFileSync(newCert, cert);
          await eventually("the pair is refused", () => Promise.resolve(/Error/.test(server.printed())));
          assertEquals(await ping(oldCert), "PONG");
          copyFileSync(newKey, key);
          await eventually("the pair is taken", () => Promise.resolve(server.printed().includes("has changed")));
          assertEquals(await ping(newCert), "PONG");
        });
      },
    );

    it("6: lets clients finish when it is stopped", async () => {
      const server = await startCommand(chapter(runtime, "6_stop"));
      const client = await Client.open(server.port);
      await client.send("PING\r\n");
      await client.untilReceived(7);
      const stopping = server.stop("SIGTERM");
      client.end();
      await client.untilEnd();
      assertEquals(await stopping, null);
    });

    it("7: finds the planted bug, and nothing in the corrected program", async () => {
      const bug = chapter(runtime, "7_explore", []);
      const found = await feed(bug.file, bug.args);
      assertMatch(found.stdout.toString(), /^seed \d+: Error: 10 visits were counted as 11\n\w+ at /, found.stderr);
      const mended = chapter(runtime, "7_explore", ["mended"]);
      const nothing = await feed(mended.file, mended.args);
      assertEquals(nothing.stdout.toString(), "2000 runs, and nothing has failed\n", nothing.stderr);
    });

    it(
      "8: shows figures",
      { skip: needs("redis-cli") },
      () =>
        serving(runtime, "8_figures", ["0", "0"], async (server) => {
          assertEquals(await cli(server, "PING"), "PONG");
          const [url = ""] = /http:\S+/.exec(server.printed()) ?? [];
          const text = await (await fetch(url)).text();
          assertMatch(text, /trivent_connections_accepted_total\{[^}]*\} 1/);
          assert(Number(/trivent_bytes_read_total\{[^}]*\} (\d+)/.exec(text)?.[1]) > 10, text);
        }),
    );

    it("8: keeps the keys of two machines equal, behind HAProxy, and while the broker is away", {
      skip: needs("redis-cli", "nats-server", "haproxy"),
    }, async () => {
      let broker = await startBroker();
      const started: { stop(signal?: string): Promise<string | null> }[] = [];
      const machine = async () => {
        const server = await startCommand(chapter(runtime, "8_machines", ["0", `127.0.0.1:${broker.port}`]));
        started.push(server);
        return server;
      };
      try {
        const first = await machine();
        await cli(first, "SET", "a", "1");
        await cli(first, "SET", "b", "two words");
        await cli(first, "EXPIRE", "b", "100");
        await cli(first, "SET", "c", "3");
        await cli(first, "DEL", "c");
        const second = await machine(); // it has the keys before it has clients
        assertEquals(await cli(second, "GET", "a"), "1");
        assertEquals(await cli(second, "GET", "b"), "two words");
        assertMatch(await cli(second, "TTL", "b"), /^(\d\d|100)$/);
        assertEquals(await cli(second, "GET", "c"), "");

        const front = await startProxy(folder, [first.port, second.port]);
        started.push(front);
        for (let i = 0; i < 4; i++) {
          assertEquals(await cli(front, "INCR", "a"), `${i + 2}`);
          await eventually("both have it", async () => {
            const both = [await cli(first, "GET", "a"), await cli(second, "GET", "a")];
            return both.every((value) => value === `${i + 2}`);
          });
        }

        // A change to each, and one to both, that the broker cannot carry.
        await broker.stop("SIGKILL");
        await cli(first, "SET", "x", "first");
        await cli(first, "DEL", "a");
        await cli(second, "SET", "y", "second");
        await cli(second, "SET", "x", "second");
        broker = await startBroker(broker.port);
        const keys = ["a", "b", "x", "y"];
        const of = (server: RunningServer) => Promise.all(keys.map((key) => cli(server, "GET", key)));
        await eventually("both have the same", async () => {
          const [one, two] = [await of(first), await of(second)];
          return one.join() === two.join() && one[0] === "" && one[3] === "second";
        });
        assertMatch((await of(first))[2] ?? "", /^(first|second)$/);
        for (const { stop } of started.splice(0).reverse()) assertEquals(await stop("SIGTERM"), null);
      } finally {
        for (const { stop } of started) await stop("SIGKILL");
        await broker.stop("SIGKILL");
      }
    });
  });
}
