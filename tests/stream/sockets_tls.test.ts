// socketsConnect() with TLS on the runtime that runs this: from the beginning, with `openssl
// s_server` at the other end, and after startTls(), with our own server.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { BEV_EVENT_CONNECTED, detectRuntime, EVBUFFER_EOL_LF, serve, SocketError, socketsConnect } from "../../mod.ts";
import { makeCertificates } from "../conformance/certificates.ts";

const directory = mkdtempSync(join(tmpdir(), "trivent-sockets-"));
const made = makeCertificates(directory);
const runtime = detectRuntime();
const skip = made === undefined
  ? "openssl is not installed"
  : !runtime.capabilities.startTlsClient || !runtime.capabilities.startTlsServer
  ? `${runtime.name} does not support it`
  : false;
const { ca = "", cert = "", key = "" } = made ?? {};

after(() => rmSync(directory, { recursive: true, force: true }));

/** `openssl s_server`, which answers each line with its letters in reverse. */
async function opensslServer(): Promise<{ port: number; stop: () => Promise<void> }> {
  const files = ["-cert", join(directory, "test.pem"), "-key", join(directory, "test.key")];
  const child = spawn("openssl", ["s_server", "-accept", "127.0.0.1:0", ...files, "-rev", "-alpn", "reverse,h2"], {
    stdio: ["pipe", "pipe", "ignore"],
  });
  const ended = new Promise<void>((resolve) => child.on("close", () => resolve()));
  const port = await new Promise<number>((resolve, reject) => {
    let text = "";
    child.stdout.on("data", (chunk: Uint8Array) => {
      text += new TextDecoder().decode(chunk);
      const match = /^ACCEPT .*:(\d+)$/m.exec(text);
      if (match !== null) resolve(Number(match[1]));
    });
    child.on("error", reject);
    ended.then(() => reject(new Error(`openssl has ended: ${text}`)));
  });
  return {
    port,
    async stop() {
      child.kill();
      await ended;
    },
  };
}

/** A server that changes to TLS on request, and returns the bytes that it got afterwards. */
async function startTlsServer(): Promise<{ port: number; stop: () => Promise<void> }> {
  const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
    open: (bev) => void bev.write("220 ready\n"),
    read(bev) {
      for (let line; (line = bev.input.readln(EVBUFFER_EOL_LF)) !== null;) {
        const text = new TextDecoder().decode(line);
        if (text === "STARTTLS") {
          bev.write("220 go ahead\n");
          bev.startTls({ cert, key });
        } else bev.write(`${bev.tls === undefined ? "clear" : "secret"} ${text}\n`);
      }
    },
    event: (bev, what) => {
      if (what !== BEV_EVENT_CONNECTED) bev.free();
    },
  });
  const { port } = server.address as { port: number };
  return { port, stop: () => server.close({ graceMs: 0 }) };
}

/** Reads until a line is complete. */
async function readLine(reader: { read(): Promise<{ value?: Uint8Array | undefined }> }): Promise<string> {
  let text = "";
  while (!text.endsWith("\n")) {
    const { value } = await reader.read();
    assert(value !== undefined, `the end came after ${JSON.stringify(text)}`);
    text += new TextDecoder().decode(value);
  }
  return text.trimEnd();
}

describe("socketsConnect() with TLS", { skip }, () => {
  it("talks to openssl s_server, with a name and a protocol", async () => {
    const server = await opensslServer();
    const socket = socketsConnect({ hostname: "127.0.0.1", port: server.port }, {
      secureTransport: "on",
      sni: "localhost",
      alpn: ["nothing", "reverse"],
      tls: { ca },
    });
    const info = await socket.opened;
    assertEquals([info.remoteAddress, info.alpn], [`127.0.0.1:${server.port}`, "reverse"]);
    assertEquals([socket.secureTransport, socket.upgraded], ["on", false]);
    await socket.writable.getWriter().write("stressed\n");
    assertEquals(await readLine(socket.readable.getReader()), "desserts");
    assertThrows(() => socket.startTls(), SocketError);
    await socket.close();
    await server.stop();
  });

  it("does not open to a server with an unknown authority, and rejects closed too", async () => {
    const server = await opensslServer();
    const socket = socketsConnect(`127.0.0.1:${server.port}`, { secureTransport: "on" });
    const error = await assertRejects(() => socket.opened, SocketError) as SocketError;
    assertEquals(error.code, "ERR_TLS_CERT");
    assertEquals((await assertRejects(() => socket.closed, SocketError) as SocketError).code, "ERR_TLS_CERT");
    await server.stop();
  });

  it("changes to TLS with startTls(), and the first socket cannot be used afterwards", async () => {
    const server = await startTlsServer();
    const plain = socketsConnect(`localhost:${server.port}`, { secureTransport: "starttls", tls: { ca } });
    const writer = plain.writable.getWriter();
    writer.closed.catch(() => {});
    const reader = plain.readable.getReader();
    assertEquals(await readLine(reader), "220 ready");
    await writer.write("hello\n");
    assertEquals(await readLine(reader), "clear hello");
    await writer.write("STARTTLS\n");
    assertEquals(await readLine(reader), "220 go ahead");

    const secure = plain.startTls();
    await plain.closed;
    assertEquals([plain.upgraded, secure.upgraded, secure.secureTransport], [true, false, "on"]);
    assertEquals((await reader.read()).done, true);
    await assertRejects(() => writer.write("too late"));
    assertThrows(() => plain.startTls(), SocketError);
    assertThrows(() => secure.startTls(), SocketError);

    await secure.opened;
    await secure.writable.getWriter().write("hello\n");
    assertEquals(await readLine(secure.readable.getReader()), "secret hello");
    await secure.close();
    await server.stop();
  });

  it("verifies the name that startTls() or connect() gets, under any of its option names", async () => {
    const server = await startTlsServer();
    const names = ["serverName", "expectedServerHostname", "servername"] as const;
    for (const name of names) {
      for (const [value, code] of [["localhost", undefined], ["other.example", "ERR_TLS_CERT"]] as const) {
        const plain = socketsConnect({ hostname: "127.0.0.1", port: String(server.port) }, {
          secureTransport: "starttls",
          tls: { ca },
        });
        const reader = plain.readable.getReader();
        assertEquals(await readLine(reader), "220 ready");
        await plain.writable.getWriter().write("STARTTLS\n");
        assertEquals(await readLine(reader), "220 go ahead");
        let state = "open";
        plain.closed.then(() => assertEquals(state, "upgraded"));
        const secure = plain.startTls({ [name]: value });
        secure.writable.getWriter().ready.then(() => state = "upgraded");
        const outcome = await secure.opened.then(() => undefined, (error: SocketError) => error.code);
        assertEquals(outcome, code, `${name} ${value}`);
        await plain.closed;
        await secure.close().catch(() => {});
      }
    }
    await server.stop();
  });

  it("delivers over TLS the chunks of resolved writes before abort(), and all bytes before close()", async () => {
    const bytes = new Uint8Array(1_000_000).fill(7);
    let received = 0;
    const server = await serve({ hostname: "127.0.0.1", port: 0, tls: { cert, key } }, {
      async open(bev) {
        const writer = bev.writable.getWriter();
        await writer.write(bytes);
        for await (const chunk of bev) {
          received += chunk.length;
          if (received === 5) await writer.abort(new Error("enough"));
        }
      },
    });
    const { port } = server.address as { port: number };
    const socket = socketsConnect({ hostname: "localhost", port }, { secureTransport: "on", tls: { ca } });
    const reader = socket.readable.getReader();
    let got = 0;
    await socket.writable.getWriter().write("hello");
    for (;;) {
      const { value } = await reader.read();
      if (value === undefined) break;
      got += value.length;
    }
    await socket.closed;
    assertEquals([got, received], [bytes.length, 5]);

    const early = socketsConnect({ hostname: "localhost", port }, { secureTransport: "on", tls: { ca } });
    await early.writable.getWriter().write("hello");
    await early.close();
    for (let i = 0; i < 4000 && received < 10; i++) await new Promise((resolve) => setTimeout(resolve, 10));
    assertEquals(received, 10);
    await server.close({ graceMs: 0 });
  });

  it("rejects opened of the new socket if the handshake fails", async () => {
    const server = await startTlsServer();
    const plain = socketsConnect(`localhost:${server.port}`, { secureTransport: "starttls" });
    const reader = plain.readable.getReader();
    assertEquals(await readLine(reader), "220 ready");
    await plain.writable.getWriter().write("STARTTLS\n");
    assertEquals(await readLine(reader), "220 go ahead");
    const secure = plain.startTls();
    assertEquals((await assertRejects(() => secure.opened, SocketError) as SocketError).code, "ERR_TLS_CERT");
    await server.stop();
  });

  it("does not open while bytes without TLS have not been read", async () => {
    const server = await startTlsServer();
    const tls = { ca, handshakeTimeoutMs: 1000 };
    const plain = socketsConnect(`localhost:${server.port}`, { secureTransport: "starttls", tls });
    await plain.opened;
    // The greeting has usually arrived by then. Bytes that come later are not a handshake either.
    await new Promise((resolve) => setTimeout(resolve, 50));
    const secure = plain.startTls();
    const { code } = await assertRejects(() => secure.opened, SocketError) as SocketError;
    assert(["ERR_TLS_PLAINTEXT", "ERR_TLS_HANDSHAKE", "ETIMEDOUT"].includes(String(code)), code);
    await secure.closed.catch(() => {});
    await server.stop();
  });
});
