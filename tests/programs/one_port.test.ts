// TLS and plain text on one port, with openssl and nc, alone and behind a PROXY header.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { assertEquals, assertMatch } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { plainEnvironment, RUNTIMES } from "../tools/runtimes.mjs";
import {
  Client,
  eventually,
  feed,
  makeCertificate,
  openSockets,
  startServer,
  stopWhenClosed,
  withoutTls,
} from "./workshop.ts";

const V1 = "PROXY TCP4 192.0.2.1 192.0.2.2 4000 25\r\n";
const missing = needs("openssl", "nc", "nc -N");
const directory = mkdtempSync(join(tmpdir(), "trivent-one-port-"));
if (!missing) makeCertificate(directory);
const CERTIFICATE = ["--cert", join(directory, "leaf.pem"), "--key", join(directory, "leaf.key")];
after(() => rmSync(directory, { recursive: true }));

/** `openssl s_client`, which sends a line, waits for an answer and leaves. */
async function openssl(port: number, ...args: string[]): Promise<string> {
  const all = ["s_client", "-connect", `127.0.0.1:${port}`, "-CAfile", join(directory, "ca.pem")];
  const child = spawn("openssl", [...all, "-verify_return_error", "-quiet", "-no_ign_eof", ...args], {
    env: plainEnvironment(),
    stdio: "pipe",
  });
  let said = "";
  child.stdout.on("data", (chunk) => said += chunk);
  child.stdin.write("hello\n");
  try {
    await eventually("an answer", () => said.endsWith("\n"));
  } finally {
    child.kill();
  }
  return said;
}

/**
 * A port that forwards its connections, with a header and the client's first bytes in one piece.
 */
async function withHeader(port: number, header: string): Promise<{ port: number; close(): void }> {
  const relay = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
    near.once("data", (chunk: Buffer) => {
      far.write(Buffer.concat([Buffer.from(header, "latin1"), chunk]));
      near.pipe(far);
    });
    far.pipe(near);
    near.on("error", () => far.destroy());
    far.on("error", () => near.destroy());
  });
  await new Promise<void>((resolve) => void relay.listen(0, "127.0.0.1", resolve));
  return { port: (relay.address() as { port: number }).port, close: () => void relay.close() };
}

for (const runtime of RUNTIMES) {
  describe(`one_port on ${runtime}`, { skip: missing || withoutTls(runtime) }, () => {
    it("serves nc and openssl s_client on the same port, and ends other clients", async () => {
      const server = await startServer(runtime, "one_port", CERTIFICATE);
      const sockets = openSockets(server.pid);
      for (let i = 0; i < 2; i++) {
        const { stdout } = await feed("nc", ["-N", "127.0.0.1", `${server.port}`], "hello\nyou\n");
        assertEquals(stdout.toString(), "plain from 127.0.0.1: hello\nplain from 127.0.0.1: you\n");
        assertEquals(await openssl(server.port, "-tls1_2"), "TLSv1.2 from 127.0.0.1: hello\n");
        assertEquals(await openssl(server.port, "-tls1_3"), "TLSv1.3 from 127.0.0.1: hello\n");
      }
      for (const garbage of ["\x16\x03\x01\x00\x05hello", "x".repeat(100_000)]) {
        const client = await Client.open(server.port);
        await client.send(garbage);
        await client.until("the end", () => client.ended || client.closed);
        client.reset();
      }
      await stopWhenClosed(server, sockets);
      assertEquals(server.printed(), "");
    });

    it("serves both behind a PROXY header, in one piece with the first bytes, and refuses clients without one", async () => {
      const server = await startServer(runtime, "one_port", [...CERTIFICATE, "--proxy", "127.0.0.1"]);
      const sockets = openSockets(server.pid);
      const relay = await withHeader(server.port, V1);
      assertEquals(await openssl(relay.port), "TLSv1.3 from 192.0.2.1: hello\n");
      const { stdout } = await feed("nc", ["-N", "127.0.0.1", `${relay.port}`], "hello\n");
      assertEquals(stdout.toString(), "plain from 192.0.2.1: hello\n");
      const split = await Client.open(server.port);
      for (const byte of `${V1}hello\n`) await split.send(byte);
      await split.until("an answer", () => split.bytes.includes("\n"));
      assertMatch(split.bytes.toString(), /^plain from 192\.0\.2\.1: hello\n$/);
      split.end();
      const plain = await Client.open(server.port);
      await plain.send("hello\n");
      await plain.until("the end", () => plain.ended || plain.closed);
      assertEquals(plain.received, 0);
      relay.close();
      await stopWhenClosed(server, sockets);
    });
  });
}
