/**
 * `node:http`, HTTP/2 and `ws` over `toDuplex()` of connections that `serve()` has accepted, with
 * third-party clients.
 */

import { execFile } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import { connect as netConnect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, describe, it } from "node:test";
import { promisify } from "node:util";
import { assert, assertEquals } from "@std/assert";
import { toDuplex } from "../../bridges/duplex.ts";
import { connectNow, detectRuntime, serve, type Server } from "../../mod.ts";
import { needs } from "../tools/needs.ts";
import { dataOf, load, noPackages, nothingLeft, over as ended, pause, sha, until, within } from "./others.ts";

const host = detectRuntime();
const folder = mkdtempSync(join(tmpdir(), "trivent-http-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** Runs curl. Returns what it has printed. */
async function curl(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)("curl", [
    "-sS",
    "--max-time",
    "60",
    ...args,
  ], { maxBuffer: 1 << 26 });
  return stdout;
}

/** Answers with the checksum of the body, or at /big with many bytes. */
const BIG = dataOf(20_000_000, 7);
function webServer(): http.Server {
  return http.createServer(async (request, response) => {
    if (request.url === "/big") return void response.end(BIG);
    const chunks: Uint8Array[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return void response.destroy();
    }
    response.end(`${request.method} ${request.url} ${sha(...chunks)}\n`);
  });
}

interface Over {
  server: Server;
  url: string;
  port: number;
  opened(): number;
  stop(): Promise<void>;
}

/** Serves with Trivent, and passes each connection to a server of Node. */
async function over(
  web: { emit(name: "connection", stream: unknown): unknown },
): Promise<Over> {
  let opened = 0;
  const reasons: unknown[] = [];
  const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
    open(bev) {
      opened++;
      web.emit("connection", toDuplex(bev));
    },
    close: (_bev, reason) => void reasons.push(reason),
  });
  return {
    server,
    url: `http://127.0.0.1:${server.port}`,
    port: server.port!,
    opened: () => opened,
    async stop() {
      await until(
        () => server.connections === 0 && reasons.length === opened,
      );
      assertEquals(
        [server.connections, reasons.length],
        [0, opened],
        "a connection is not freed",
      );
      await server.close();
      await nothingLeft();
    },
  };
}

/** Sends a text to a server and reads until it has finished. */
async function raw(
  port: number,
  text: string,
  half: boolean = false,
): Promise<string> {
  const socket = netConnect({ port, host: "127.0.0.1", allowHalfOpen: true });
  if (half) socket.end(text);
  else socket.write(text);
  let answer = "";
  socket.on("data", (chunk) => answer += chunk);
  await ended(socket);
  socket.destroy();
  return answer;
}

describe(
  `node:http over toDuplex() on ${host.name}`,
  { skip: needs("curl") },
  () => {
    it("keeps connections alive, pipelines, and closes on request", async () => {
      const web = webServer();
      const place = await over(web);
      // Deno's server does not keep a passed connection alive, with or without Trivent.
      const kept = host.name === "deno" ? 3 : 1;
      const empty = sha();
      const all = await curl(
        `${place.url}/1`,
        `${place.url}/2`,
        `${place.url}/3`,
      );
      assertEquals(all, [1, 2, 3].map((n) => `GET /${n} ${empty}\n`).join(""));
      assertEquals(place.opened(), kept);
      if (host.name !== "deno") {
        const request = (n: number, close = ""): string => `GET /${n} HTTP/1.1\r\nHost: a\r\n${close}\r\n`;
        const answer = await raw(
          place.port,
          request(1) + request(2) + request(3, "Connection: close\r\n"),
        );
        assertEquals([...answer.matchAll(/GET \/(\d)/g)].map(([, n]) => n), [
          "1",
          "2",
          "3",
        ]);
      }
      assertEquals(
        await curl("-H", "Connection: close", `${place.url}/x`),
        `GET /x ${empty}\n`,
      );
      await place.stop();
    });

    it("receives 50 MB in chunks and with Expect: 100-continue, and sends 20 MB", async () => {
      const place = await over(webServer());
      const body = dataOf(50_000_000, 3);
      const file = join(folder, "body");
      writeFileSync(file, body);
      const chunked = ["-T", file, "-H", "Transfer-Encoding: chunked"];
      assertEquals(
        await curl(...chunked, `${place.url}/chunks`),
        `PUT /chunks ${sha(body)}\n`,
      );
      const expecting = [
        "--expect100-timeout",
        "20",
        "-H",
        "Expect: 100-continue",
        "--data-binary",
        `@${file}`,
      ];
      assertEquals(
        await curl(...expecting, `${place.url}/expect`),
        `POST /expect ${sha(body)}\n`,
      );
      const { stdout } = await promisify(execFile)("sh", [
        "-c",
        `curl -sS ${place.url}/big | sha256sum`,
      ]);
      assertEquals(stdout.split(" ")[0], sha(BIG));
      await place.stop();
    });

    it(
      "holds little memory while a client stalls, and then sends the rest",
      { skip: needs("/proc") },
      async () => {
        const place = await over(webServer());
        await curl("-o", "/dev/null", `${place.url}/big`);
        const before = process.memoryUsage().rss;
        const clients = Array.from(
          { length: 10 },
          () => netConnect({ port: place.port, host: "127.0.0.1" }),
        );
        for (const client of clients) {
          client.pause();
          client.write(
            "GET /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
          );
        }
        await pause(500);
        const grown = (process.memoryUsage().rss - before) / 1e6;
        assert(grown < 60, `${grown} MB for 10 clients, of 200 MB in all`);
        const lengths = await Promise.all(clients.map(async (client) => {
          let length = 0;
          client.on("data", (chunk) => length += chunk.length).resume();
          await ended(client);
          return length;
        }));
        assert(
          lengths.every((length) => length > BIG.length && length < BIG.length + 1000),
          `${lengths}`,
        );
        await place.stop();
      },
    );

    it("answers wrong and slow clients with the reason, and survives one that leaves", async () => {
      const web = webServer();
      let failed = 0;
      web.on("clientError", (_error, socket) => {
        failed++;
        // Deno's and Bun's servers answer in another way.
        if (socket.writable) {
          socket.end("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        } else socket.destroy();
      });
      const place = await over(web);
      const answer = await raw(place.port, "NOT HTTP AT ALL\r\n\r\n");
      assert(answer.startsWith("HTTP/1.1 400") || host.name !== "node", answer);
      let asked = false;
      web.once("request", () => asked = true);
      const socket = netConnect({ port: place.port, host: "127.0.0.1" });
      socket.on("error", () => {});
      socket.write(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nhalf",
      );
      await until(() => asked);
      assert(asked);
      socket.resetAndDestroy();
      await place.stop();
      assert(failed > 0 || host.name !== "node");

      if (host.name !== "node") return;
      const bare = await over(webServer());
      assertEquals(
        (await raw(bare.port, "NOT HTTP AT ALL\r\n\r\n")).split("\r\n")[0],
        "HTTP/1.1 400 Bad Request",
      );
      await bare.stop();
      const slow = http.createServer({
        requestTimeout: 150,
        headersTimeout: 100,
        connectionsCheckingInterval: 50,
      });
      // Only a listening server checks its connections for timeouts.
      await new Promise<void>((resolve) => slow.listen(0, "127.0.0.1", resolve));
      const late = await over(slow);
      assertEquals(
        (await raw(late.port, "GET / HTT")).split("\r\n")[0],
        "HTTP/1.1 408 Request Timeout",
      );
      await late.stop();
      slow.close();
    });

    it("also works as a client of node:http: createConnection", async () => {
      const place = await over(webServer());
      const body = dataOf(2_000_000, 9);
      const request = http.request({
        method: "POST",
        path: "/out",
        createConnection: () =>
          toDuplex(
            connectNow({ hostname: "127.0.0.1", port: place.port }),
          ) as never,
        headers: { connection: "close" },
      });
      request.end(body);
      const [response] = await within("the answer", once(request, "response")) as [
        http.IncomingMessage,
      ];
      let text = "";
      for await (const chunk of response) text += chunk;
      assertEquals(text, `POST /out ${sha(body)}\n`);
      await place.stop();
    });
  },
);

describe(`ws over node:http over toDuplex() on ${host.name}`, {
  skip: noPackages,
}, () => {
  it("carries messages both ways, plain and compressed, and closes by its own handshake", async () => {
    const { WebSocketServer, WebSocket } = await load("ws");
    const web = http.createServer();
    const sockets = new WebSocketServer({
      server: web,
      perMessageDeflate: true,
      maxPayload: 64 << 20,
    });
    sockets.on("connection", (socket: typeof WebSocket) => {
      socket.on(
        "message",
        (data: Uint8Array, isBinary: boolean) => socket.send(data, { binary: isBinary }),
      );
    });
    const place = await over(web);
    const client = new WebSocket(`ws://127.0.0.1:${place.port}/`, {
      createConnection: () => toDuplex(connectNow({ hostname: "127.0.0.1", port: place.port })),
    });
    await within("the handshake", once(client, "open"));
    const big = dataOf(3_000_000, 5);
    const got: Uint8Array[] = [];
    client.on("message", (data: Uint8Array) => got.push(data));
    client.send(big);
    for (let i = 0; i < 200; i++) client.send(`message ${i}`);
    await until(() => got.length === 201);
    assertEquals([got.length, sha(got[0]!)], [201, sha(big)]);
    assertEquals(
      got.slice(1).map(String),
      Array.from({ length: 200 }, (_, i) => `message ${i}`),
    );
    client.close(1000, "done");
    const [code, reason] = await within("the close", once(client, "close"));
    assertEquals([code, String(reason)], [1000, "done"]);
    await place.stop();
    sockets.close();
  });
});

describe(
  `node:http2 over toDuplex() on ${host.name}`,
  { skip: needs("curl") },
  () => {
    it("carries parallel streams, 10 MB down and 5 MB up", async () => {
      const web = http2.createServer();
      web.on("request", async (request, response) => {
        const chunks: Uint8Array[] = [];
        for await (const chunk of request) chunks.push(chunk as Uint8Array);
        response.end(
          request.url === "/big" ? BIG.subarray(0, 10_000_000) : sha(...chunks),
        );
      });
      const place = await over(web as never);
      const body = dataOf(5_000_000, 4);
      const file = join(folder, "up");
      writeFileSync(file, body);
      const prior = "--http2-prior-knowledge";
      assertEquals(
        await curl(prior, "--data-binary", `@${file}`, `${place.url}/up`),
        sha(body),
      );
      const command = `curl -sS ${prior} ${place.url}/big | sha256sum`;
      const { stdout } = await promisify(execFile)("sh", ["-c", command]);
      assertEquals(stdout.split(" ")[0], sha(BIG.subarray(0, 10_000_000)));
      await place.stop();
      web.close();
    });
  },
);
