// The server for the protocol of Redis, with Redis's own clients, and with one that breaks the
// protocol.

import { after, before, describe, it } from "node:test";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { RUNTIMES } from "../tools/runtimes.mjs";
import { Client, feed, type RunningServer, startServer } from "./workshop.ts";

const COMMANDS = ["PING_INLINE", "PING_MBULK", "SET", "GET", "INCR"];

for (const runtime of RUNTIMES) {
  describe(`resp_server on ${runtime}`, () => {
    let server: RunningServer;
    let at: string[];
    before(async () => {
      server = await startServer(runtime, "resp_server");
      at = ["-h", "127.0.0.1", "-p", `${server.port}`];
    });
    after(async () => {
      assertEquals(await server.stop(), null);
      assertEquals(server.printed(), "");
    });

    it("runs redis-benchmark, pipelined and not", { skip: needs("redis-benchmark") }, async () => {
      for (const pipelined of ["1", "16"]) {
        const benchmark = ["-n", "3000", "-c", "50", "-d", "200", "-P", pipelined, "-t", "ping,set,get,incr", "--csv"];
        const { code, stdout, stderr } = await feed("redis-benchmark", [...at, ...benchmark]);
        assertEquals(code, 0, stderr);
        const rows = stdout.toString().trim().split("\n").slice(1).map((line) =>
          line.split(",")[0]?.replaceAll('"', "")
        );
        assertEquals(rows, COMMANDS);
      }
      const { stdout } = await feed("redis-cli", [...at, "GET", "counter:__rand_int__"]);
      // redis-benchmark leaves as soon as it has counted enough: it rounds up to whole pipelines.
      assert(Number(stdout.toString()) >= 6000, stdout.toString());
    });

    it("answers redis-cli, with a value of 700 KiB", { skip: needs("redis-cli") }, async () => {
      const value = "v".repeat(700 * 1024);
      const set = await feed("redis-cli", [...at, "-x", "SET", "big"], Buffer.from(value));
      assertEquals(set.stdout.toString(), "OK\n");
      assertEquals((await feed("redis-cli", [...at, "GET", "big"])).stdout.toString(), `${value}\n`);
      assertEquals((await feed("redis-cli", [...at, "DEL", "big", "none"])).stdout.toString(), "1\n");
      assertMatch((await feed("redis-cli", [...at, "DANCE"])).stdout.toString(), /^ERR unknown command 'DANCE'/);
    });

    it("ends a connection that breaks the protocol, and goes on serving the others", async () => {
      const deep = "*1\r\n".repeat(100);
      for (const bad of ["*99999\r\n", "$99999999\r\n", "*1\r\n$1\r\nabc\r\n", deep, "*-1\r\n", ":x\r\n"]) {
        const client = await Client.open(server.port);
        await client.send(bad);
        await client.untilEnd();
        assertEquals(client.bytes.toString(), "");
      }
      const client = await Client.open(server.port);
      await client.send("PING\r\n*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n:1\r\n");
      client.end();
      await client.untilEnd();
      assertEquals(client.bytes.toString(), "+PONG\r\n$2\r\nhi\r\n-ERR a command is an array of bulk strings\r\n");
    });
  });
}
