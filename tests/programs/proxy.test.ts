// The proxy between other programs: redis-benchmark and a Redis server, curl and an HTTPS server;
// and its limits.

import { spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { start } from "../tools/processes.mjs";
import { plainEnvironment, RUNTIMES } from "../tools/runtimes.mjs";
import {
  Client,
  eventually,
  feed,
  makeCertificate,
  quiet,
  type RunningServer,
  startServer,
  withoutTls,
} from "./workshop.ts";

const MIB = 1 << 20;

function portOf(server: { address(): unknown }): number {
  return (server.address() as AddressInfo).port;
}

const servers: Server[] = [];
const accepted: Socket[] = [];

function listen<S extends Server>(server: S): Promise<S> {
  servers.push(server);
  server.on("connection", (socket: Socket) => accepted.push(socket));
  return new Promise((resolve) => void server.listen(0, "127.0.0.1", () => resolve(server)));
}

/** A free port. */
async function freePort(): Promise<number> {
  const server = await listen(createServer());
  const port = portOf(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

const withoutRedis = needs("redis-server", "redis-benchmark", "redis-cli");
const withoutCurl = needs("curl", "openssl");

for (const runtime of RUNTIMES) {
  describe(`proxy on ${runtime}`, () => {
    let directory: string;
    before(() => {
      directory = mkdtempSync(join(tmpdir(), "trivent-proxy-"));
    });
    after(() => {
      rmSync(directory, { recursive: true });
      // A failed test must not prevent the end of the file.
      Client.resetAll();
      for (const socket of accepted.splice(0)) socket.destroy();
      for (const server of servers.splice(0)) server.close();
    });

    /**
     * Runs `use` with a proxy to a port, which must stop without an error. @returns The output of
     * the proxy
     */
    async function proxied(
      port: number,
      args: readonly string[],
      use: (proxy: RunningServer) => Promise<void>,
    ): Promise<string> {
      const proxy = await startServer(runtime, "proxy", [`127.0.0.1:${port}`, ...args]);
      let outcome: string | null = "not stopped";
      try {
        await use(proxy);
      } finally {
        outcome = await proxy.stop();
      }
      assertEquals(outcome, null);
      return proxy.printed();
    }

    it(
      "carries redis-benchmark to a Redis server, pipelined and not, and 8 MiB in one value",
      { skip: withoutRedis },
      async () => {
        const redisPort = await freePort();
        const redis = await start("redis-server", [
          ...[
            "--port",
            String(redisPort),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            directory,
          ],
        ], { ready: /Ready to accept connections/, env: plainEnvironment() });
        try {
          const printed = await proxied(redisPort, [], async ({ port }) => {
            const at = ["-h", "127.0.0.1", "-p", String(port)];
            for (const pipelined of ["1", "16"]) {
              const tests = "ping,set,get,incr,lpush,lrange_100,mset";
              const benchmark = ["-n", "3000", "-c", "50", "-d", "200", "-P", pipelined, "-t", tests, "--csv"];
              const { code, stdout, stderr } = await feed("redis-benchmark", [...at, ...benchmark]);
              assertEquals([code, stderr.includes("rror")], [0, false], stderr);
              const names = stdout.toString().split("\n").slice(1, -1).map((line) => line.split(",")[0]);
              // PING is measured in two ways, and LRANGE fills its list first.
              assert(names.length >= 8, stdout.toString());
            }
            const value = randomBytes(8 * MIB);
            const set = await feed("redis-cli", [...at, "-x", "SET", "big"], value);
            assertEquals([set.code, set.stdout.toString()], [0, "OK\n"]);
            const got = await feed("redis-cli", [...at, "--raw", "GET", "big"]);
            assertEquals(sha256(got.stdout.subarray(0, -1)), sha256(value));
            const info = (await feed("redis-cli", [...at, "INFO", "commandstats"])).stdout.toString();
            // redis-benchmark rounds up to whole pipelines.
            assertMatch(info, /cmdstat_mset:calls=60\d\d,.*failed_calls=0/);
          });
          // redis-benchmark leaves as soon as it has counted enough, even with unread replies.
          assertOnlyGone(printed);
        } finally {
          await redis.stop("SIGTERM");
        }
      },
    );

    it("carries 20 MiB each way between curl and an HTTPS server, unchanged", { skip: withoutCurl }, async () => {
      const certificate = makeCertificate(directory);
      const download = randomBytes(20 * MIB);
      const server = await listen(createHttpsServer(certificate, (request, response) => {
        if (request.method === "GET") return void response.end(download);
        const hash = createHash("sha256");
        request.on("data", (chunk: Uint8Array) => hash.update(chunk)).on("end", () => response.end(hash.digest("hex")));
      }));
      try {
        await proxied(portOf(server), [], async ({ port }) => {
          const curl = [
            "-sS",
            "--fail",
            "--cacert",
            join(directory, "ca.pem"),
            "--resolve",
            `localhost:${port}:127.0.0.1`,
          ];
          const url = `https://localhost:${port}/`;
          const down = await feed("curl", [...curl, url]);
          assertEquals([down.code, down.stderr, sha256(down.stdout)], [0, "", sha256(download)]);
          const up = await feed("curl", [...curl, "--data-binary", "@-", url], download);
          assertEquals([up.code, up.stderr, up.stdout.toString()], [0, "", sha256(download)]);
          const many = await Promise.all(Array.from({ length: 10 }, () => feed("curl", [...curl, url])));
          for (const each of many) assertEquals([each.code, sha256(each.stdout)], [0, sha256(download)]);
        });
      } finally {
        server.closeAllConnections();
        server.close();
      }
    });

    it("speaks TLS with either side, or both: curl gets and sends 20 MiB", {
      skip: withoutCurl || withoutTls(runtime),
    }, async () => {
      const certificate = makeCertificate(directory);
      const at = (name: string): string => join(directory, name);
      const ours = ["--cert", at("leaf.pem"), "--key", at("leaf.key")];
      const theirs = ["--tls", "yes", "--ca", at("ca.pem")];
      const body = randomBytes(20 * MIB);
      const answer: RequestListener = (request, response) => {
        if (request.method === "GET") return void response.end(body);
        const hash = createHash("sha256");
        request.on("data", (chunk: Uint8Array) => hash.update(chunk)).on("end", () => response.end(hash.digest("hex")));
      };
      const servers = {
        http: await listen(createHttpServer(answer)),
        https: await listen(createHttpsServer(certificate, answer)),
      };
      try {
        for (
          const [scheme, upstream, args] of [
            ["https", servers.http, ours],
            ["http", servers.https, theirs],
            ["https", servers.https, [...ours, ...theirs]],
          ] as const
        ) {
          // By name: the certificate is for it, and on some systems it has addresses of both
          // families.
          const printed = await proxied(portOf(upstream), args, async ({ port }) => {
            const curl = ["-sS", "--fail", "--cacert", at("ca.pem"), "--resolve", `localhost:${port}:127.0.0.1`];
            const url = `${scheme}://localhost:${port}/`;
            const down = await feed("curl", [...curl, url]);
            assertEquals([down.code, down.stderr, sha256(down.stdout)], [0, "", sha256(body)]);
            const up = await feed("curl", [...curl, "--data-binary", "@-", url], body);
            assertEquals([up.code, up.stderr, up.stdout.toString()], [0, "", sha256(body)]);
          });
          // curl has left when we finish our direction of TLS.
          assertOnlyGone(printed);
        }
        // A server whose certificate is of an unknown authority.
        const printed = await proxied(portOf(servers.https), ["--tls", "yes"], async ({ port }) => {
          const refused = await feed("curl", ["-sS", `http://127.0.0.1:${port}/`]);
          assert(refused.code !== 0 && refused.stdout.length === 0);
        });
        assertMatch(printed, /^[^\n]*certificate[^\n]*\n$/i);
      } finally {
        for (const server of Object.values(servers)) {
          server.closeAllConnections();
          server.close();
        }
      }
    });

    it("passes an end of file on, and the other direction goes on", async () => {
      const upstream = await listen(createServer({ allowHalfOpen: true }, (socket) => {
        let all = "";
        socket.on("data", (chunk) => all += chunk.toString()).on("end", () => socket.end(`you said ${all}`));
      }));
      await proxied(portOf(upstream), [], async ({ port }) => {
        const client = await Client.open(port);
        client.end("hello");
        await client.untilEnd();
        assertEquals(client.bytes.toString(), "you said hello");
      });
      upstream.close();
    });

    it("slows down a sender whose receiver does not read", async () => {
      let resume = (): void => {};
      let received = 0;
      const upstream = await listen(createServer((socket) => {
        socket.pause();
        resume = () => void socket.resume();
        socket.on("data", (chunk) => received += chunk.length).on("end", () => socket.end());
      }));
      await proxied(portOf(upstream), [], async ({ port }) => {
        const client = await Client.open(port);
        const pieces = 64;
        let taken = 0;
        for (let i = 0; i < pieces; i++) client.socket.write(Buffer.alloc(MIB, i), () => taken++);
        let last = -1;
        while (taken !== last) {
          last = taken;
          await quiet(300);
        }
        assert(taken < pieces, "all was taken, though nobody reads");
        resume();
        client.end();
        await client.untilEnd();
        assertEquals(received, pieces * MIB);
      });
      upstream.close();
    });

    it("keeps to --rate", async () => {
      const upstream = await listen(createServer((socket) => void socket.end(Buffer.alloc(MIB, "x"))));
      await proxied(portOf(upstream), ["--rate", String(MIB)], async ({ port, printed }) => {
        const begin = performance.now();
        const clients = await Promise.all([Client.open(port), Client.open(port)]);
        for (const client of clients) client.end();
        for (const client of clients) {
          await client.untilEnd();
          assertEquals([client.received, client.error?.message, printed()], [MIB, undefined, ""]);
        }
        // Two MiB at one MiB a second; a tenth may leave at once. It can take longer, but not less.
        assert(performance.now() - begin > 1500, `${performance.now() - begin} ms`);
      });
      upstream.close();
    });

    it("serves at most --max clients at a time: others wait, and are served later", async () => {
      const upstream = await listen(createServer((socket) => {
        socket.write("hello");
        socket.on("error", () => {});
      }));
      await proxied(portOf(upstream), ["--max", "2"], async ({ port }) => {
        const clients = await Promise.all([0, 1, 2].map(() => Client.open(port)));
        const served = (): Client[] => clients.filter(({ received }) => received === 5);
        await eventually("two are served", () => served().length === 2);
        await quiet(100);
        assertEquals(served().length, 2);
        served()[0]?.socket.destroy();
        await eventually("the third is served", () => served().length === 3);
        for (const { socket } of clients) socket.destroy();
      });
      upstream.close();
    });

    it(
      "at SIGTERM lets connections finish and accepts no others; after --grace it resets them",
      { skip: needs("nc") },
      async () => {
        const upstream = await listen(createServer({ allowHalfOpen: true }, (socket) => {
          socket.on("data", (chunk) => socket.write(chunk)).on("end", () => socket.end()).on("error", () => {});
        }));
        for (const finishes of [true, false]) {
          const proxy = await startServer(runtime, "proxy", [
            `127.0.0.1:${portOf(upstream)}`,
            ...["--grace", finishes ? "20" : "0"],
          ]);
          const client = await Client.open(proxy.port);
          await client.send("one ");
          await client.untilReceived(4);
          const stopped = proxy.stop("SIGTERM");
          if (finishes) {
            await eventually("no other client is accepted", () => refused(proxy.port));
            await client.send("two");
            await client.untilReceived(7);
            client.end();
            await client.untilEnd();
            assertEquals(client.bytes.toString(), "one two");
          } else {
            await client.until("it is cut", () => client.closed || client.ended);
            client.socket.destroy();
          }
          assertEquals(await stopped, null);
        }
        upstream.close();
      },
    );

    it("ends a client whose server does not exist, prints the reason, and serves the next", async () => {
      const printed = await proxied(await freePort(), [], async ({ port }) => {
        for (let i = 0; i < 2; i++) {
          // It may be reset before it knows that it is connected.
          const client = await Client.open(port).catch((error: { code?: string }) => {
            if (error.code !== "ECONNRESET") throw error;
            return null;
          });
          await client?.until("the end", () => client.ended || client.closed);
          client?.socket.destroy();
        }
      });
      const told = printed.trimEnd().split("\n");
      assertEquals(told.length, 2);
      for (const line of told) assertMatch(line, /ECONNREFUSED|refused/);
    });
  });
}

/** Checks that only peers that left early were reported. */
function assertOnlyGone(printed: string): void {
  for (const line of printed.split("\n").filter((each) => each !== "")) {
    assertMatch(line, /ECONNRESET|EPIPE|^Cannot end the pipe/);
  }
}

/** Whether nobody listens on a port. */
function refused(port: number): boolean {
  return spawnSync("nc", ["-z", "127.0.0.1", String(port)]).status !== 0;
}
