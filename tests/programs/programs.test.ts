// The start and end of the programs: arguments, the port, signals, exit codes; and echo_listener
// and http_client with other programs as clients and servers.

import { createHash, randomBytes } from "node:crypto";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";
import { after, before, describe, it } from "node:test";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { start } from "../tools/processes.mjs";
import { exampleCommand, findRuntime, plainEnvironment, ROOT, RUNTIMES } from "../tools/runtimes.mjs";
import { Client, feed, oneLine, quiet, type RunningServer, runProgram, startServer } from "./workshop.ts";

const SERVERS = ["rot13_bufferevent", "rot13_events", "echo_listener"];

/** Listens on any port of 127.0.0.1. */
function listen(server: Server): Promise<number> {
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => void server.close(() => resolve()));
}

/**
 * Checks that the time between two calls of `mark` in the body is short enough. On a busy machine
 * anything can take long once, so it tries three times.
 */
function promptly(limitMs: number, body: (mark: () => void) => Promise<void>): () => Promise<void> {
  return async () => {
    const took: number[] = [];
    while (took.length < 3) {
      const marks: number[] = [];
      await body(() => void marks.push(performance.now()));
      const [begun = 0, ended = Infinity] = marks;
      took.push(ended - begun);
      if (ended - begun < limitMs) return;
    }
    assert(false, `it took ${took.map((ms) => ms.toFixed(0)).join(", ")} ms`);
  };
}

for (const runtime of RUNTIMES) {
  for (const name of SERVERS) {
    describe(`${name} on ${runtime}`, () => {
      for (const signal of ["SIGTERM", "SIGINT"]) {
        it(
          `stops at ${signal} with exit code 0, whatever the state of its clients`,
          promptly(5000, async (stopping) => {
            const server = await startServer(runtime, name);
            const idle = await Client.open(server.port);
            const partial = await Client.open(server.port);
            await partial.send("half a l");
            const stalled = await Client.open(server.port);
            stalled.socket.pause();
            for (let i = 0; i < 12; i++) stalled.socket.write(Buffer.alloc(1 << 20, "abcdefg\n"));
            const answered = await Client.open(server.port);
            await answered.send("Hello\n");
            await answered.untilReceived(6);
            await quiet(200);
            stopping();
            assertEquals(await server.stop(signal), null);
            stopping();
            assertEquals(server.printed(), "");
            // An idle client sees an orderly end, not a reset.
            await idle.untilEnd();
            await answered.untilEnd();
            for (const client of [partial, stalled]) client.reset();
          }),
        );
      }

      it(
        "stops at once if it has no clients",
        promptly(1500, async (stopping) => {
          const server = await startServer(runtime, name);
          stopping();
          assertEquals(await server.stop(), null);
          stopping();
        }),
      );

      it("prints one line if the port is in use, and exits with 1; the other goes on", async () => {
        const server = await startServer(runtime, name);
        const second = await runProgram(runtime, name, [String(server.port)]);
        assertEquals(second.code, 1);
        assertEquals(second.stdout.toString(), "");
        assertEquals(
          oneLine(second),
          `Cannot listen on 127.0.0.1:${server.port}: the address is in use (EADDRINUSE)`,
        );
        const client = await Client.open(server.port);
        client.end("abc\n");
        await client.untilEnd();
        assertEquals(client.received, 4);
        assertEquals(await server.stop(), null);
      });

      it("can be started again on its port", async () => {
        const first = await startServer(runtime, name);
        const client = await Client.open(first.port);
        await client.send("abc\n");
        await client.untilReceived(4);
        assertEquals(await first.stop(), null);
        const ready = new RegExp(`^listening on 127\\.0\\.0\\.1:${first.port}$`, "m");
        const { file, args } = exampleCommand(runtime, name, [
          String(first.port),
        ]);
        const second = await start(file, args, { cwd: ROOT, env: plainEnvironment(), ready });
        assertEquals(await second.stop(), null);
      });

      it("refuses wrong arguments in one line, with exit code 2", async () => {
        for (const args of [["abc"], ["65536"], ["-1"], ["1.5"], [""], ["0", "0"]]) {
          const wrong = await runProgram(runtime, name, args);
          assertEquals(wrong.code, 2);
          assertEquals(wrong.stdout.toString(), "");
          assertMatch(
            oneLine(wrong),
            new RegExp(`^Cannot .*; usage: ${name} \\[port\\]( \\[--max-line BYTES\\])?$`, "i"),
          );
        }
      });
    });
  }

  if (runtime === "deno") {
    describe("the programs on deno without permissions", () => {
      const without = (name: string, ...args: string[]): ReturnType<typeof feed> => {
        const program = [`${ROOT}/examples/${name}.ts`, ...args];
        return feed(findRuntime("deno").path, ["run", "--quiet", "--no-check", "--no-prompt", ...program]);
      };
      it("print one line about the missing permission, with exit code 1", async () => {
        for (const name of SERVERS) {
          const refused = await without(name, "0");
          assertEquals(refused.code, 1);
          assertMatch(
            oneLine(refused),
            /^Cannot listen on 127\.0\.0\.1:0: permission denied: .*--allow-net.* \(EACCES\)$/,
          );
        }
        const refused = await without("http_client", "127.0.0.1", "80");
        assertEquals(refused.code, 1);
        assertMatch(
          oneLine(refused),
          /^Cannot connect to 127\.0\.0\.1:80: permission denied: .*--allow-net.* \(EACCES\)$/,
        );
      });
    });
  }

  describe(`echo_listener on ${runtime} with socat and nc`, () => {
    let server: RunningServer;
    before(async () => {
      server = await startServer(runtime, "echo_listener");
    });
    after(async () => {
      assertEquals(await server.stop(), null);
    });

    const sum = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
    for (const size of [0, 1, 65536, 20_000_000]) {
      it(`gives ${size} bytes back`, { skip: needs("nc -N", "socat") }, async () => {
        const bytes = randomBytes(size);
        const socat = ["-t", "50", "-", `TCP:127.0.0.1:${server.port}`];
        for (const [file, args] of [["socat", socat], ["nc", ["-N", "127.0.0.1", `${server.port}`]]] as const) {
          const { code, stdout } = await feed(file, args, bytes);
          assertEquals(code, 0);
          assertEquals(stdout.length, size);
          assertEquals(sum(stdout), sum(bytes));
        }
      });
    }
  });

  describe(`http_client on ${runtime}`, () => {
    const big = randomBytes(5_000_000);
    const requests: {
      method: string | undefined;
      url: string | undefined;
      host: string | undefined;
      version: string;
    }[] = [];
    const http = createHttpServer((request, response) => {
      const { method, url, headers: { host }, httpVersion: version } = request;
      requests.push({ method, url, host, version });
      if (url === "/big") response.end(big);
      else if (url === "/slow") {
        response.write("first ");
        setTimeout(() => response.end("second\n"), 300);
      } else if (url === "/cut") {
        response.write("a part");
        // A reset may overtake bytes that the client has not read.
        setTimeout(() => request.socket.resetAndDestroy(), 700);
      } else if (url === "/none") request.socket.destroy();
      else response.end(`this is ${url}\n`);
    });
    let port: string;
    before(async () => {
      port = String(await listen(http));
    });
    after(() => close(http));

    const bodyOf = (reply: Buffer): Buffer => reply.subarray(reply.indexOf("\r\n\r\n") + 4);

    it("prints the same as curl", { skip: needs("curl") }, async () => {
      for (const path of ["/", "/a/b?c=d", "/big", "/slow"]) {
        const ours = await runProgram(runtime, "http_client", ["127.0.0.1", port, path]);
        assertEquals(ours.stderr, "");
        assertEquals(ours.code, 0);
        assertMatch(ours.stdout.toString("latin1"), /^HTTP\/1\.1 200 OK\r\n/);
        const curl = await feed("curl", ["--silent", "--http1.0", `http://127.0.0.1:${port}${path}`]);
        assertEquals(curl.code, 0);
        assert(bodyOf(ours.stdout).equals(curl.stdout), `the bodies of ${path} differ`);
      }
    });

    it("sends a request according to HTTP/1.0", async () => {
      requests.length = 0;
      assertEquals((await runProgram(runtime, "http_client", ["localhost", port])).code, 0);
      assertEquals(requests, [{ method: "GET", url: "/", host: "localhost", version: "1.0" }]);
    });

    it("resolves the name of a host", async () => {
      const reply = await runProgram(runtime, "http_client", ["localhost", port, "/named"]);
      assertEquals(reply.stderr, "");
      assertEquals(reply.code, 0);
      assertEquals(bodyOf(reply.stdout).toString(), "this is /named\n");
    });

    it("prints the part of a reply that has arrived, and reports that the connection was reset", async () => {
      const reply = await runProgram(runtime, "http_client", ["127.0.0.1", port, "/cut"]);
      assertEquals(reply.code, 1);
      assertMatch(
        oneLine(reply),
        /^Cannot keep the connection with 127\.0\.0\.1:\d+: connection reset .*\(ECONNRESET\)$/,
      );
      assert(reply.stdout.includes("a part"));
    });

    it("prints nothing without a reply", async () => {
      const reply = await runProgram(runtime, "http_client", ["127.0.0.1", port, "/none"]);
      assertEquals(reply.stdout.toString(), "");
      assertEquals(reply.code, 0);
    });

    it("prints one line about why it cannot connect", async () => {
      // A port without a listener, since its server has ended.
      const gone = createServer();
      const free = String(await listen(gone));
      await close(gone);
      const refused = await runProgram(runtime, "http_client", ["127.0.0.1", free]);
      assertEquals(refused.code, 1);
      assertEquals(oneLine(refused), `Cannot connect to 127.0.0.1:${free}: connection refused (ECONNREFUSED)`);

      const unknown = await runProgram(runtime, "http_client", ["no-such-host.invalid", "80"]);
      assertEquals(unknown.code, 1);
      // Without a name server the system cannot know that a name does not exist.
      assertMatch(oneLine(unknown), /^Cannot look up no-such-host\.invalid: .* \((ENOTFOUND|EAI_AGAIN)\)$/);
    });

    it("gives up on a host that does not answer", async () => {
      // An address of TEST-NET-1, which is not routed. The system may report that at once;
      // otherwise the timeout passes.
      const unreachable = await runProgram(runtime, "http_client", ["192.0.2.1", "80"]);
      assertEquals(unreachable.code, 1);
      assertMatch(
        oneLine(unreachable),
        /^Cannot connect.* \((ENETUNREACH|EHOSTUNREACH|ETIMEDOUT|ECONNREFUSED)\)$|no answer within/,
      );
    });

    it("refuses wrong arguments in one line, with exit code 2", async () => {
      for (
        const args of [[], ["h", "abc"], ["h", "0"], ["h", "80", "path"], ["h", "80", "/a b"], ["h", "80", "/", "more"]]
      ) {
        const wrong = await runProgram(runtime, "http_client", args);
        assertEquals(wrong.code, 2);
        assertMatch(oneLine(wrong), /^Cannot .*; usage: http_client host \[port\] \[path\]$/);
      }
    });
  });

  describe(`npm run example on ${runtime}`, () => {
    it("runs a server that answers nc and stops at SIGTERM", { skip: needs("nc -N") }, async () => {
      const args = ["run", "-s", "example", "--", runtime, "rot13_bufferevent", "0"];
      const ready = /^listening on 127\.0\.0\.1:(\d+)$/m;
      const env = Object.fromEntries(Object.entries(plainEnvironment()).filter(([key]) => !/^npm_/i.test(key)));
      const server = await start("npm", args, { cwd: ROOT, env, ready, timeoutMs: 60_000 });
      const { stdout } = await feed("nc", ["-N", "127.0.0.1", server.match[1] as string], "Hello\n");
      assertEquals(stdout.toString(), "Uryyb\n");
      await server.stop();
    });
  });
}
