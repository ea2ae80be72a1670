/**
 * Third-party clients over `toDuplex()` of a connection that is still being made: databases, HTTP,
 * mail.
 */

import { Buffer } from "node:buffer";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { unlinkSync, writeFileSync } from "node:fs";
import http from "node:http";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { TLSSocket } from "node:tls";
import { after, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { assert, assertEquals } from "@std/assert";
import { type BufferEventDuplex, toDuplex } from "../../bridges/duplex.ts";
import { connectNow, detectRuntime, serve } from "../../mod.ts";
import { makeCertificates } from "../conformance/certificates.ts";
import { needs } from "../tools/needs.ts";
import { dataOf, load, noPackages, nothingLeft, type Package, pause, sha, until, within } from "./others.ts";
import { folderFor, freePort, noMariadb, type Service, startMariadb, startRedis } from "./services.ts";

const host = detectRuntime();
const made: BufferEventDuplex[] = [];

/** A stream that is still connecting. */
function streamTo(port: number): BufferEventDuplex {
  const stream = toDuplex(connectNow({ hostname: "127.0.0.1", port }));
  made.push(stream);
  return stream;
}

describe(`mysql2 on ${host.name}`, { skip: noPackages || noMariadb }, () => {
  let service: Service & { ca: string | undefined };
  let mysql: Package;

  before(async () => {
    mysql = await load("mysql2/promise");
    service = await startMariadb();
  });
  after(() => service?.stop());

  for (const tls of [false, true]) {
    it(`carries a blob and many rows ${tls ? "with TLS, which mysql2 starts itself" : "over connectNow()"}`, async () => {
      if (tls && service.ca === undefined) return;
      const client = await mysql.createConnection({
        stream: () => streamTo(service.port),
        user: "test",
        password: "secret",
        database: "test",
        ...(tls ? { ssl: { ca: service.ca, servername: "localhost" }, host: "localhost" } : {}),
      });
      const blob = dataOf(3_000_000, 21);
      await client.query("CREATE TEMPORARY TABLE blobs (data LONGBLOB)");
      await client.query("INSERT INTO blobs VALUES (?)", [blob]);
      const [[row]] = await client.query("SELECT data FROM blobs");
      assertEquals(sha(row.data), sha(blob));
      const [rows] = await client.query("SELECT seq, MD5(seq) AS md5 FROM seq_1_to_20000");
      assertEquals([rows.length, rows[19_999].seq], [20_000, 20_000]);
      if (tls) {
        const [[cipher]] = await client.query("SHOW STATUS LIKE 'Ssl_cipher'");
        assert(cipher.Value !== "", "no TLS");
      }
      await client.end();
      await nothingLeft();
    });
  }

  it("gets one error for a wrong password, and for a server that does not exist", async () => {
    const options = { user: "test", database: "test" };
    const wrong = await mysql.createConnection({ ...options, stream: () => streamTo(service.port), password: "wrong" })
      .catch((error: Error) => error);
    assertEquals(wrong.code, "ER_ACCESS_DENIED_ERROR");
    const port = await freePort();
    const nobody = await mysql.createConnection({ ...options, stream: () => streamTo(port), password: "" })
      .catch((error: Error) => error);
    assertEquals(nobody.code, "ECONNREFUSED");
    await nothingLeft();
  });
});

describe(`ioredis on ${host.name}`, { skip: noPackages || needs("redis-server") }, () => {
  let service: Service;

  before(async () => void (service = await startRedis()));
  after(() => service?.stop());

  it("carries 5 MB, pipelines 2000 commands, waits while the stream is paused, and connects again", async () => {
    const { Redis } = await load("ioredis");
    class Connector {
      #stream: BufferEventDuplex | undefined;
      check(): boolean {
        return true;
      }
      connect(): Promise<BufferEventDuplex> {
        this.#stream = streamTo(service.port);
        return Promise.resolve(this.#stream);
      }
      disconnect(): void {
        this.#stream?.end();
      }
    }
    const redis = new Redis({ Connector, password: "secret", lazyConnect: true, retryStrategy: () => 20 });
    const errors: Error[] = [];
    redis.on("error", (error: Error) => errors.push(error));
    await redis.connect();
    const value = dataOf(5_000_000, 31);
    await redis.set("big", Buffer.from(value));
    assertEquals(sha(await redis.getBuffer("big")), sha(value));
    const pipeline = redis.pipeline();
    for (let i = 0; i < 2000; i++) pipeline.incr("count");
    const answers = await pipeline.exec();
    assertEquals(answers.map(([, n]: [unknown, number]) => n), Array.from({ length: 2000 }, (_, i) => i + 1));
    const stream = made.at(-1)!;
    stream.pause();
    const values = Promise.all(Array.from({ length: 6 }, () => redis.getBuffer("big")));
    await pause(200);
    const waiting = stream.bufferEvent.input.length + stream.readableLength;
    assert(waiting < 500_000, `${waiting} bytes wait`);
    stream.resume();
    assertEquals(new Set((await values).map((each) => sha(each))), new Set([sha(value)]));
    stream.destroy();
    await within("ready again", new Promise((resolve) => redis.once("ready", resolve)));
    assertEquals(await redis.get("count"), "2000");
    await redis.quit();
    assertEquals(errors, []);
    await nothingLeft();
  });
});

describe(`undici on ${host.name}`, {
  skip: noPackages || (host.name === "bun" && "Bun has a stub in place of undici"),
}, () => {
  it("gets and posts over its connect function, on persistent connections", async () => {
    const { Agent, request } = await load("undici");
    const body = dataOf(3_000_000, 41);
    const web = http.createServer(async (request, response) => {
      const chunks: Uint8Array[] = [];
      for await (const chunk of request) chunks.push(chunk);
      response.setHeader("x-sha", sha(...chunks));
      response.end(body);
    });
    await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
    const { port } = web.address() as { port: number };
    let connections = 0;
    const dispatcher = new Agent({
      connections: 2,
      connect(_options: unknown, done: (error: Error | null, stream?: BufferEventDuplex) => void) {
        connections++;
        const stream = streamTo(port);
        stream.once("error", done);
        stream.once("connect", () => {
          stream.off("error", done);
          done(null, stream);
        });
      },
    });
    const shas = await Promise.all(Array.from({ length: 20 }, async (_, i) => {
      const answer = await request(`http://127.0.0.1:${port}/${i}`, { method: "POST", body, dispatcher });
      const bytes = new Uint8Array(await answer.body.arrayBuffer());
      return [answer.headers["x-sha"], sha(bytes)];
    }));
    assertEquals(new Set(shas.flat()), new Set([sha(body)]));
    assert(connections <= 2, `${connections} connections`);
    await dispatcher.close();
    web.closeAllConnections();
    await new Promise((resolve) => web.close(resolve));
    await nothingLeft();
  });
});

describe(`nodemailer on ${host.name}`, { skip: noPackages || needs("openssl") }, () => {
  /** Receives mails, without TLS and with STARTTLS. */
  function mailServer(
    tls: { cert: string; key: string },
  ): { server: ReturnType<typeof createServer>; mails: string[] } {
    const mails: string[] = [];
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.write("220 mail ESMTP\r\n");
      serveMail(socket, false);
    });
    function serveMail(socket: Socket | TLSSocket, isSecure: boolean): void {
      let text = "";
      let inData = false;
      const take = (chunk: Uint8Array): void => {
        text += new TextDecoder("latin1").decode(chunk);
        for (;;) {
          if (inData) {
            const end = text.indexOf("\r\n.\r\n");
            if (end < 0) return;
            mails.push(text.slice(0, end));
            text = text.slice(end + 5);
            inData = false;
            socket.write("250 taken\r\n");
            continue;
          }
          const end = text.indexOf("\r\n");
          if (end < 0) return;
          const line = text.slice(0, end);
          text = text.slice(end + 2);
          if (/^EHLO/i.test(line)) socket.write(isSecure ? "250 mail\r\n" : "250-mail\r\n250 STARTTLS\r\n");
          else if (/^STARTTLS/i.test(line)) {
            socket.off("data", take);
            socket.write("220 go\r\n");
            const secure = new TLSSocket(socket, { isServer: true, ...tls } as never);
            secure.on("error", () => {});
            serveMail(secure, true);
            return;
          } else if (/^DATA/i.test(line)) {
            inData = true;
            socket.write("354 go\r\n");
          } else if (/^QUIT/i.test(line)) socket.end("221 bye\r\n");
          else socket.write("250 ok\r\n");
        }
      };
      socket.on("data", take);
    }
    return { server, mails };
  }

  it("sends an attachment of 5 MB, plain and with STARTTLS", async () => {
    const folder = folderFor("mail");
    const made = makeCertificates(folder)!;
    const { server, mails } = mailServer(made);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    const { createTransport } = await load("nodemailer");
    const attachment = dataOf(5_000_000, 51);
    for (const requireTLS of [false, true]) {
      const transport = createTransport({
        host: "localhost",
        port,
        ignoreTLS: !requireTLS,
        requireTLS,
        tls: { ca: made.ca },
        getSocket(_options: unknown, done: (error: Error | null, socket: unknown) => void) {
          const stream = streamTo(port);
          stream.once("error", (error) => done(error, undefined));
          stream.once("connect", () => done(null, { connection: stream }));
        },
      });
      await transport.sendMail({
        from: "a@example.org",
        to: "b@example.org",
        subject: "bytes",
        text: "hello",
        attachments: [{ filename: "bytes", content: Buffer.from(attachment) }],
      });
      transport.close();
    }
    for (const mail of mails) {
      const [, base64 = ""] = /filename=bytes[^]*?\r\n\r\n([A-Za-z0-9+/=\r\n]+)/.exec(mail) ?? [];
      assertEquals(sha(Buffer.from(base64, "base64")), sha(attachment));
    }
    assertEquals(mails.length, 2);
    await new Promise((resolve) => server.close(resolve));
    await nothingLeft();
  });
});

describe(`aedes and mqtt on ${host.name}`, { skip: noPackages }, () => {
  it("carry messages over Trivent on both sides, and connect again", async () => {
    const [{ Aedes }, mqtt] = [await load("aedes"), await load("mqtt")];
    const broker = await Aedes.createBroker();
    const reasons: unknown[] = [];
    const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
      open: (bev) => void broker.handle(toDuplex(bev)),
      close: (_bev, reason) => void reasons.push(reason),
    });
    const own = new mqtt.MqttClient(() => streamTo(server.port!), {
      reconnectPeriod: 20,
      clientId: "own",
      clean: false,
    });
    const errors: Error[] = [];
    own.on("error", (error: Error) => errors.push(error));
    await within("the connection", once(own, "connect"));
    const got: Uint8Array[] = [];
    own.on("message", (_topic: string, payload: Uint8Array) => got.push(payload));
    await own.subscribeAsync("t/#", { qos: 1 });
    const big = dataOf(4_000_000, 61);
    await own.publishAsync("t/big", Buffer.from(big), { qos: 1 });
    for (let i = 0; i < 500; i++) own.publish(`t/${i}`, `message ${i}`, { qos: (i % 2) as 0 });
    await until(() => got.length >= 501);
    assertEquals([got.length, sha(got[0]!)], [501, sha(big)]);
    assertEquals(got.slice(1).map(String).sort(), Array.from({ length: 500 }, (_, i) => `message ${i}`).sort());
    // The broker's side is reset; mqtt makes a new stream by itself.
    for (const bev of server) bev.reset();
    await within("another connection", new Promise((resolve) => own.once("connect", resolve)));
    await own.publishAsync("t/again", "again", { qos: 1 });
    await until(() => got.some((payload) => String(payload) === "again"));
    await own.endAsync();
    await until(() => server.connections === 0);
    assertEquals(server.connections, 0);
    await new Promise<void>((resolve) => broker.close(resolve));
    await server.close();
    await nothingLeft();
    // mqtt also has its own error: it writes to the stream that it has ended.
    assert(errors.filter((error) => (error as { code?: string }).code === "ECONNRESET").length <= 1, `${errors}`);
  });
});

describe(`a process with a stream on ${host.name}`, () => {
  it("ends by itself, also while an unref()ed stream is open", async () => {
    const silent = createServer((socket) => void socket.on("error", () => {}).resume());
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const { port } = silent.address() as { port: number };
    const isNode = host.name === "node";
    const [main, bridge] = isNode ? ["dist/mod.js", "dist/bridges/duplex.js"] : ["mod.ts", "bridges/duplex.ts"];
    const program = (end: string): string =>
      `import { connectNow } from "./${main}"; import { toDuplex } from "./${bridge}";
       const stream = toDuplex(connectNow({ hostname: "127.0.0.1", port: ${port} }));
       stream.resume(); stream.setTimeout(60000);
       stream.on("connect", () => { stream.write("x"); ${end} });`;
    for (
      const end of ["stream.unref();", "stream.destroy();", "stream.setTimeout(0); stream.destroy(new Error('x'));"]
    ) {
      const text = `${program(end)} stream.on("error", () => {});`;
      const file = `stream_${process.pid}.${isNode ? "mjs" : "ts"}`;
      writeFileSync(file, text);
      try {
        const args = host.name === "deno" ? ["run", "--allow-all", "--no-config", "--no-check"] : [];
        const began = Date.now();
        await promisify(execFile)(process.execPath, [...args, file], { timeout: 55_000 });
        // The stream's timeout is 60 s, and must not hold the process.
        assert(Date.now() - began < 50_000, `${end} took ${Date.now() - began} ms`);
      } finally {
        unlinkSync(file);
      }
    }
    await new Promise((resolve) => silent.close(resolve));
  });
});

/**
 * Programs that end by themselves: they close everything that they have opened, and do not call
 * `exit`.
 */
const PROGRAMS: Readonly<Record<string, string>> = {
  "node:http on both sides": `
    const web = http.createServer((_request, response) => response.end("ok"));
    const server = await serve(anyPort, { open: (bev) => void web.emit("connection", toDuplex(bev)) });
    const request = http.request({ createConnection: () => streamTo(server.port), headers: { connection: "close" } });
    request.end();
    const [response] = await once(request, "response");
    response.resume();
    await once(response, "end");
    await server.close();`,
  "node:http2": `
    const web = http2.createServer((_request, response) => response.end("ok"));
    const server = await serve(anyPort, { open: (bev) => void web.emit("connection", toDuplex(bev)) });
    const client = http2.connect("http://127.0.0.1:" + server.port);
    const request = client.request();
    request.resume().end();
    await once(request, "end");
    client.close();
    await server.close({ graceMs: 2000 });`,
  "ws on both sides": `
    const { WebSocket, WebSocketServer } = require("ws");
    const web = http.createServer();
    new WebSocketServer({ server: web }).on("connection", (socket) => socket.send("ok"));
    const server = await serve(anyPort, { open: (bev) => void web.emit("connection", toDuplex(bev)) });
    const client = new WebSocket("ws://127.0.0.1:" + server.port, { createConnection: () => streamTo(server.port) });
    await once(client, "message");
    client.close();
    await once(client, "close");
    await server.close();`,
  "aedes and mqtt": `
    const { Aedes } = require("aedes");
    const { MqttClient } = require("mqtt");
    const broker = await Aedes.createBroker();
    const server = await serve(anyPort, { open: (bev) => void broker.handle(toDuplex(bev)) });
    const client = new MqttClient(() => streamTo(server.port), {});
    await once(client, "connect");
    await client.publishAsync("t", "ok", { qos: 1 });
    await client.endAsync();
    await new Promise((resolve) => broker.close(resolve));
    await server.close();`,
  "undici": `
    const { Agent, request } = require("undici");
    const web = http.createServer((_request, response) => response.end("ok"));
    const server = await serve(anyPort, { open: (bev) => void web.emit("connection", toDuplex(bev)) });
    const dispatcher = new Agent({
      connect(_options, done) {
        const stream = streamTo(server.port);
        stream.once("connect", () => done(null, stream));
      },
    });
    await (await request("http://127.0.0.1/", { dispatcher })).body.text();
    await dispatcher.close();
    await server.close();`,
};

describe(`a process with a library on ${host.name}`, { skip: noPackages }, () => {
  const isNode = host.name === "node";
  const [main, bridge] = isNode ? ["dist/mod.js", "dist/bridges/duplex.js"] : ["mod.ts", "bridges/duplex.ts"];
  for (const [name, code] of Object.entries(PROGRAMS)) {
    const skip = name === "undici" && host.name === "bun" && "Bun has a stub in place of undici";
    it(`ends by itself: ${name}`, { skip }, async () => {
      const file = join(process.cwd(), "tests", "bridges", `program_${process.pid}.${isNode ? "mjs" : "ts"}`);
      writeFileSync(
        file,
        `import { once } from "node:events";
         import http from "node:http";
         import http2 from "node:http2";
         import { createRequire } from "node:module";
         import { connectNow, serve } from "../../${main}";
         import { toDuplex } from "../../${bridge}";
         const require = createRequire(import.meta.url);
         const anyPort = { hostname: "127.0.0.1", port: 0 };
         const streamTo = (port) => toDuplex(connectNow({ hostname: "127.0.0.1", port }));
         ${code}
         console.log("closed all");`,
      );
      try {
        const args = host.name === "deno" ? ["run", "--quiet", "--allow-all", "--no-check"] : [];
        const { stdout } = await promisify(execFile)(process.execPath, [...args, file], { timeout: 55_000 });
        assertEquals(stdout, "closed all\n");
      } finally {
        unlinkSync(file);
      }
    });
  }
});
