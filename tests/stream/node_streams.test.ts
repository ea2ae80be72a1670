// Programs for Node's streams over web streams of a bufferevent, on the runtime that runs this.

import http from "node:http";
import { Duplex } from "node:stream";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { detectRuntime, serve, type SocketBufferEvent } from "../../mod.ts";
import { needs } from "../tools/needs.ts";

const host = detectRuntime();

/** The methods that `http` needs of a socket besides those of a stream. */
function socketOf(bev: SocketBufferEvent): Duplex {
  const { readable, writable } = bev;
  const duplex = Duplex.fromWeb({ readable, writable } as never);
  const same = (): Duplex => duplex;
  return Object.assign(duplex, { setTimeout: same, setNoDelay: same, setKeepAlive: same });
}

function ask(options: http.RequestOptions, body: Uint8Array | string = ""): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = http.request(options, (answer) => {
      let text = "";
      answer.on("data", (chunk: Uint8Array) => text += new TextDecoder().decode(chunk));
      answer.on("end", () => resolve(text));
      answer.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}

describe(`node:http over Duplex.fromWeb() on ${host.name}`, { skip: needs("Duplex.fromWeb") }, () => {
  it("answers requests, one or several on a connection, and frees each connection", async () => {
    const web = http.createServer((request, response) => {
      let bytes = 0;
      request.on("data", (chunk: Uint8Array) => bytes += chunk.length);
      request.on("end", () => response.end(`${request.method} ${request.url} ${bytes}`));
    });
    let opened = 0;
    const closed: (string | undefined)[] = [];
    const server = await serve({ hostname: "127.0.0.1", port: 0, maxConnections: 2 }, {
      open(bev) {
        opened++;
        web.emit("connection", socketOf(bev));
      },
      close: (_bev, reason) => void closed.push(reason?.code),
    });
    const { port } = server.address as { port: number };
    // Deno's and Node's servers end such a connection by destroy(), which must not lose the answer.
    const headers = { connection: "close" };
    for (let i = 0; i < 5; i++) assertEquals(await ask({ port, path: `/${i}`, headers, agent: false }), `GET /${i} 0`);
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    for (let i = 0; i < 3; i++) {
      const answer = await ask({ port, path: `/${i}`, method: "POST", agent }, new Uint8Array(1_000_000));
      assertEquals(answer, `POST /${i} 1000000`);
    }
    agent.destroy();
    for (let i = 0; i < 4000 && closed.length < opened; i++) await new Promise((resolve) => setTimeout(resolve, 10));
    assert(opened >= 6);
    assertEquals([server.connections, closed.length], [0, opened]);
    await server.close({ graceMs: 5000 });
    // A destroyed connection waits for its client, for at most 5 s.
    for (let i = 0; i < 4000 && host.openHandles > 0; i++) await new Promise((resolve) => setTimeout(resolve, 10));
    assertEquals(host.openHandles, 0);
  });
});
