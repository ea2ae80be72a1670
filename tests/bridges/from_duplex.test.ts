/**
 * `fromDuplex()` over third-party streams: an upgraded HTTP connection, channels of SSH, a
 * connecting socket; and `ssh2` over `toDuplex()`.
 */

import { Buffer } from "node:buffer";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import { connect as netConnect, createServer } from "node:net";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { after, describe, it } from "node:test";
import { promisify } from "node:util";
import { gunzipSync, gzipSync } from "node:zlib";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { type DuplexBufferEvent, fromDuplex, toDuplex } from "../../bridges/duplex.ts";
import {
  BEV_EVENT_CONNECTED,
  compressionFilter,
  connectNow,
  detectRuntime,
  EV_READ,
  EventBase,
  type EventError,
  lengthPrefixed,
  serve,
  SocketBufferEvent,
  TokenBucketConfig,
} from "../../mod.ts";
import { needs } from "../tools/needs.ts";
import {
  checksumOfFirst,
  dataOf,
  load,
  noPackages,
  nothingLeft,
  over,
  type Package,
  pause,
  sha,
  until,
  within,
} from "./others.ts";
import { folderFor } from "./services.ts";

const host = detectRuntime();

/** A base that runs until it is stopped. */
function running(): { base: EventBase; stop(): Promise<unknown> } {
  const base = new EventBase();
  const done = base.loop(4);
  return {
    base,
    stop() {
      base.loopBreak();
      return done;
    },
  };
}

describe(`fromDuplex() on ${host.name}`, () => {
  after(() => nothingLeft());

  it("gives a bufferevent that does not read before it is enabled, and reports the end", async () => {
    const { base, stop } = running();
    const stream = new PassThrough();
    const bev = fromDuplex(base, stream);
    assert(bev instanceof SocketBufferEvent);
    assertEquals([bev.enabled & EV_READ, bev.remoteAddress, bev.duplex === stream], [0, undefined, true]);
    bev.write("hello\n");
    await pause(20);
    assertEquals(bev.input.length, 0);
    const lines = bev.lines({ text: true });
    assertEquals(await lines.next(), { done: false, value: "hello" });
    bev.shutdown();
    assertEquals((await lines.next()).done, true);
    await bev.close();
    await until(() => stream.destroyed);
    assertEquals(stream.destroyed, true);
    await stop();
  });

  it("reads an upgraded HTTP connection by lines, with a rate limit, and answers through a stack of filters", async () => {
    const { base, stop } = running();
    const web = http.createServer();
    const bevs: DuplexBufferEvent[] = [];
    web.on("upgrade", async (request, socket, head) => {
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nUpgrade: ${request.headers.upgrade}\r\nConnection: Upgrade\r\n\r\n`,
      );
      if (head.length > 0) socket.unshift(head);
      const bev = fromDuplex(base, socket);
      bevs.push(bev);
      bev.setRateLimit(new TokenBucketConfig({ readRate: 4e6, readBurst: 4e6, writeRate: 4e6, writeBurst: 4e6 }));
      if (request.headers.upgrade === "lines") {
        for await (const line of bev.lines({ text: true })) bev.write(`${line.toUpperCase()}\n`);
        await bev.close();
      } else {
        const filter = compressionFilter(bev, "gzip");
        const codec = lengthPrefixed({ prefixBytes: 4, maxBytes: 1 << 24 });
        for await (const frame of filter.frames(codec)) filter.writeFrame(codec, frame.reverse());
        await filter.close();
      }
    });
    await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
    const { port } = web.address() as { port: number };
    async function upgraded(upgrade: string): Promise<DuplexBufferEvent> {
      const request = http.request({
        port,
        host: "127.0.0.1",
        headers: { connection: "upgrade", upgrade },
        agent: false,
      });
      request.end();
      const [, socket, head] = await within("the upgrade", once(request, "upgrade")) as [
        unknown,
        import("node:net").Socket,
        Uint8Array,
      ];
      if (head.length > 0) socket.unshift(head);
      return fromDuplex(base, socket);
    }
    const text = await upgraded("lines");
    text.write("one\ntwo\n");
    const lines = text.lines({ text: true });
    assertEquals([(await lines.next()).value, (await lines.next()).value], ["ONE", "TWO"]);
    text.shutdown();
    assertEquals((await lines.next()).done, true);
    await text.close();

    const bev = await upgraded("frames");
    const filter = compressionFilter(bev, "gzip");
    const codec = lengthPrefixed({ prefixBytes: 4, maxBytes: 1 << 24 });
    const frames = filter.frames(codec);
    const data = dataOf(1_000_000, 71);
    for (let i = 0; i < 4; i++) filter.writeFrame(codec, data);
    filter.shutdown();
    for (let i = 0; i < 4; i++) assertEquals(sha((await frames.next()).value!), sha(Uint8Array.from(data).reverse()));
    assertEquals((await frames.next()).done, true);
    await filter.close();
    await until(() => bevs.every((each) => each.duplex.destroyed));
    web.closeAllConnections();
    await new Promise((resolve) => web.close(resolve));
    await stop();
  });

  it("buffers little of an upgraded HTTP connection whose other end stalls, and reports once that it is reset", async () => {
    const { base, stop } = running();
    const web = http.createServer();
    const heard: string[] = [];
    let bev: DuplexBufferEvent | undefined;
    web.on("upgrade", (_request, socket) => {
      socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: bytes\r\nConnection: Upgrade\r\n\r\n");
      bev = fromDuplex(base, socket);
      bev.setCallbacks({ event: (_bev, _what, error) => void heard.push(error?.code ?? "no error") });
      bev.setWatermark(EV_READ, 0, 65_536);
      bev.enable(EV_READ);
    });
    await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
    const { port } = web.address() as { port: number };
    const request = http.request({
      port,
      host: "127.0.0.1",
      headers: { connection: "upgrade", upgrade: "bytes" },
      agent: false,
    });
    request.end();
    const [, socket] = await within("the upgrade", once(request, "upgrade")) as [unknown, import("node:net").Socket];
    socket.on("error", () => {}).pause();
    await until(() => bev !== undefined);
    const { duplex } = bev!;
    const data = dataOf(24_000_000, 151);
    // Neither end reads.
    socket.write(data);
    let taken = 0;
    const writing = (async () => {
      for (; taken < data.length; taken += 100_000) {
        if (!bev!.write(data.subarray(taken, taken + 100_000))) await bev!.drained();
      }
    })();
    await pause(400);
    const held = bev!.input.length + bev!.output.length + duplex.readableLength + duplex.writableLength;
    assert(held < 3_000_000, `${held} bytes are held`);
    assert(taken < 20_000_000, `${taken} bytes were taken`);
    const received = checksumOfFirst(socket, data.length);
    const chunks: Uint8Array[] = [];
    for (let count = 0; count < data.length;) {
      await until(() => bev!.input.length > 0);
      const chunk = bev!.input.toUint8Array();
      assert(chunk.length > 0, `only ${count} bytes have come`);
      chunks.push(chunk);
      bev!.input.drain(chunk.length);
      count += chunk.length;
    }
    await within("all is written", writing);
    assertEquals([sha(...chunks), await received, heard], [sha(data), sha(data), []]);
    socket.resetAndDestroy();
    await until(() => heard.length > 0);
    await pause(20);
    // Bun reports the reset of an upgraded connection as its end.
    assertEquals(heard, [host.name === "bun" ? "no error" : "ECONNRESET"]);
    bev!.free();
    web.closeAllConnections();
    await new Promise((resolve) => web.close(resolve));
    await stop();
  });

  it("works with a socket that is still connecting, and reports the code of its failure", async () => {
    const { base, stop } = running();
    const echo = createServer((socket) => void socket.pipe(socket));
    await new Promise<void>((resolve) => echo.listen(0, "127.0.0.1", resolve));
    const { port } = echo.address() as { port: number };
    const bev = fromDuplex(base, netConnect(port, "127.0.0.1"));
    const events: string[] = [];
    const heard = (_bev: unknown, what: number, error?: EventError): void => {
      events.push(what === BEV_EVENT_CONNECTED ? "connected" : error?.code ?? `${what}`);
    };
    bev.setCallbacks({ event: heard });
    bev.write("hello\n");
    await until(() => events.length > 0);
    assertEquals([events, bev.remoteAddress], [["connected"], { hostname: "127.0.0.1", port, family: "IPv4" }]);
    assertEquals((await bev.lines({ text: true }).next()).value, "hello");
    await bev.close();
    await new Promise((resolve) => echo.close(resolve));

    const nobody = fromDuplex(base, netConnect(port, "127.0.0.1"));
    const failed = new Promise<EventError | undefined>((resolve) =>
      nobody.setCallbacks({ event: (_bev, _what, error) => resolve(error) })
    );
    assertEquals((await within("the failure", failed))?.code, "ECONNREFUSED");
    nobody.free();
    await stop();
  });

  it("works in both directions: a bufferevent over a stream over a bufferevent", async () => {
    const { base, stop } = running();
    const server = await serve({ hostname: "127.0.0.1", port: 0 }, { read: (bev) => void bev.writeBuffer(bev.input) });
    const bev = fromDuplex(
      base,
      toDuplex(connectNow({ hostname: "127.0.0.1", port: server.port }), { allowHalfOpen: true }),
    );
    const data = dataOf(2_000_000, 81);
    bev.enable(EV_READ);
    await new Promise((resolve) => setTimeout(resolve, 20));
    const reading = (async () => {
      const chunks: Uint8Array[] = [];
      for await (const chunk of bev) chunks.push(chunk);
      return sha(...chunks);
    })();
    for (let i = 0; i < data.length; i += 50_000) {
      if (!bev.write(data.subarray(i, i + 50_000))) await bev.drained();
    }
    bev.shutdown();
    assertEquals(await reading, sha(data));
    await bev.close();
    await server.close();
    await stop();
  });

  it("refuses values that are not a stream or not a base", () => {
    const base = new EventBase();
    assertThrows(() => fromDuplex(base, {} as never), TypeError, "the stream is not a Duplex");
    assertThrows(() => fromDuplex({} as never, new PassThrough()), TypeError, "not an EventBase");
    base.free();
  });
});

describe(
  `ssh2 over toDuplex() with the client of OpenSSH on ${host.name}`,
  { skip: noPackages || needs("curl") },
  () => {
    const folder = folderFor("ssh");
    after(() => rmSync(folder, { recursive: true, force: true }));

    it("carries 20 MB each way, and a channel is read by lines()", async () => {
      const ssh2: Package = await load("ssh2");
      // With another kind of host key the key exchange fails on Deno.
      const key = ssh2.utils.generateKeyPairSync("rsa", { bits: 2048 });
      const user = ssh2.utils.generateKeyPairSync("rsa", { bits: 2048 });
      const identity = join(folder, "id");
      writeFileSync(identity, user.private);
      chmodSync(identity, 0o600);
      const { base, stop } = running();
      const data = dataOf(20_000_000, 91);
      const ssh = new ssh2.Server({ hostKeys: [key.private] }, (client: Package) => {
        client.on("error", () => {});
        client.on(
          "authentication",
          (context: Package) => context.method === "publickey" ? context.accept() : context.reject(),
        );
        client.on("session", (accept: () => Package) => {
          accept().on("exec", async (accept: () => Package, _reject: unknown, { command }: { command: string }) => {
            const channel = accept();
            if (command === "down") channel.end(data, () => channel.exit(0));
            else if (command === "up") {
              const chunks: Uint8Array[] = [];
              channel.on("data", (chunk: Uint8Array) => chunks.push(chunk));
              await over(channel);
              channel.write(sha(...chunks));
              channel.exit(0);
              channel.end();
            } else if (command === "unzip") {
              const bev = fromDuplex(base, channel);
              bev.setRateLimit(
                new TokenBucketConfig({ readRate: 2e6, readBurst: 2e6, writeRate: 2e6, writeBurst: 2e6 }),
              );
              const unzipped = compressionFilter(bev, "gzip");
              let length = 0;
              for await (const line of unzipped.lines()) length += line.length;
              unzipped.write(`${length} bytes\n`);
              channel.exit(0);
              await unzipped.close();
            } else {
              const bev = fromDuplex(base, channel);
              let answer = "";
              for await (const line of bev.lines({ text: true })) answer += `${line.toUpperCase()};`;
              bev.write(answer);
              channel.exit(7);
              await bev.close();
            }
          });
        });
      });
      const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
        open: (bev) => ssh.injectSocket(toDuplex(bev)),
      });
      const args = [
        ...[
          "-p",
          `${server.port}`,
          "-i",
          identity,
          "-o",
          "StrictHostKeyChecking=no",
          "-o",
          "UserKnownHostsFile=/dev/null",
        ],
        ...["-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-F", "none", "user@127.0.0.1"],
      ];
      const { stdout } = await promisify(execFile)("sh", ["-c", `ssh "$@" down | sha256sum`, "sh", ...args]);
      assertEquals(stdout.split(" ")[0], sha(data));
      async function feed(command: string, input: Uint8Array | string): Promise<{ output: string; code: number }> {
        const { output, code } = await feedBytes(command, input);
        return { output: output.toString(), code };
      }
      async function feedBytes(command: string, input: Uint8Array | string): Promise<{ output: Buffer; code: number }> {
        const child = spawn("ssh", [...args, command], { stdio: ["pipe", "pipe", "inherit"] });
        const output: Uint8Array[] = [];
        child.stdout.on("data", (chunk) => output.push(chunk));
        child.stdin.end(input);
        const [code] = await within("the end of ssh", once(child, "close")) as [number];
        return { output: Buffer.concat(output), code };
      }
      assertEquals(await feed("up", data), { output: sha(data), code: 0 });
      assertEquals(await feed("lines", "one\ntwo\nthree\n"), { output: "ONE;TWO;THREE;", code: 7 });
      // A channel under a filter and a rate limit. Random text hardly compresses, so that the limit
      // has an effect.
      const text = Buffer.from(data.subarray(0, 4_500_000)).toString("base64").replace(/.{76}/g, "$&\n");
      const zipped = gzipSync(`${text}\n`);
      const began = performance.now();
      const { output, code } = await feedBytes("unzip", zipped);
      const took = performance.now() - began;
      const expected = `${text.replaceAll("\n", "").length} bytes\n`;
      assertEquals([gunzipSync(output).toString(), code], [expected, 0]);
      const leastMs = (zipped.length - 2e6) / 2e6 * 1000 * 0.8;
      assert(took > leastMs, `it took ${took} ms, and at least ${leastMs} ms are due`);
      await until(() => server.connections === 0);
      assertEquals(server.connections, 0);
      await server.close();
      await stop();
      await nothingLeft();
    });
  },
);
