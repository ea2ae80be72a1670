/** Connecting through proxies that we did not write: microsocks and tinyproxy. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect, detectRuntime, type EventError, serve, type Server } from "../../mod.ts";
import { needs } from "../tools/needs.ts";
import { makeCertificates } from "./certificates.ts";
import { noTls, plainClient, Program, until } from "./tls_peers.ts";

const host = detectRuntime();
const directory = mkdtempSync(join(tmpdir(), "trivent-proxies-"));
after(() => rmSync(directory, { recursive: true }));
const made = noTls(host) === false ? makeCertificates(directory) : undefined;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

/** Starts a proxy on a free port. */
async function proxied(command: string, args: (port: number) => string[]): Promise<{ program: Program; port: number }> {
  const port = await freePort();
  const program = new Program(command, args(port));
  for (let tries = 0;; tries++) {
    try {
      (await plainClient(port)).destroy();
      return { program, port };
    } catch (error) {
      if (program.ended || tries > 2000) throw new Error(program.output, { cause: error });
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

const echo = (hostname: string, tls = false): Promise<Server> =>
  serve({ hostname, port: 0, ...(tls ? { tls: { cert: made!.cert, key: made!.key } } : {}) }, {
    read: (bev) => bev.output.addBuffer(bev.input),
  });

/** The answer of a server to a text. */
async function says(server: Server, hostname: string, via: string, tls?: object): Promise<string> {
  const client = await connect({ hostname, port: server.port, via, ...(tls === undefined ? {} : { tls }) });
  client.write("hello\n");
  const { value = "" } = await client.lines({ text: true }).next();
  await client.close();
  return value;
}

async function refuses(port: number, via: string): Promise<string> {
  const error = await assertRejects(() => connect({ hostname: "127.0.0.1", port, via })) as EventError;
  assertEquals(error.code, "EV_PROXY_REFUSED", error.message);
  return error.message;
}

async function assertNothingOpen(): Promise<void> {
  await until(() => host.openHandles === 0, () => `${host.openHandles} handles are open`);
}

describe(`microsocks in front of ${host.name}`, { skip: needs("microsocks") }, () => {
  it("carries names, IPv4 and TLS, and reports that nobody listens", async () => {
    const { program, port } = await proxied("microsocks", (port) => ["-i", "127.0.0.1", "-p", `${port}`]);
    const via = `socks5://127.0.0.1:${port}`;
    const server = await echo("127.0.0.1");
    assertEquals([await says(server, "localhost", via), await says(server, "127.0.0.1", via)], ["hello", "hello"]);
    if (made !== undefined) {
      const secure = await echo("127.0.0.1", true);
      assertEquals(await says(secure, "localhost", via, { ca: made.ca }), "hello");
      await secure.close();
    }
    const refusal = await refuses(await freePort(), via);
    assert(/connection refused \(0x05\)|general failure \(0x01\)/.test(refusal), refusal);
    await server.close();
    await program.kill();
    await assertNothingOpen();
  });

  it("carries IPv6", { skip: needs("::1") }, async () => {
    const { program, port } = await proxied("microsocks", (port) => ["-i", "127.0.0.1", "-p", `${port}`]);
    const server = await echo("::1");
    assertEquals(await says(server, "::1", `socks5://127.0.0.1:${port}`), "hello");
    await server.close();
    await program.kill();
    await assertNothingOpen();
  });

  it("refuses clients without the right user and password", async () => {
    const login = ["-u", "user", "-P", "p@ss"];
    const { program, port } = await proxied("microsocks", (port) => ["-i", "127.0.0.1", "-p", `${port}`, ...login]);
    const server = await echo("127.0.0.1");
    assertEquals(await says(server, "localhost", `socks5://user:p%40ss@127.0.0.1:${port}`), "hello");
    assert((await refuses(server.port!, `socks5://user:wrong@127.0.0.1:${port}`)).includes("user or password"));
    assert(
      (await refuses(server.port!, `socks5://127.0.0.1:${port}`)).includes("requires a user and a password (0xff)"),
    );
    await server.close();
    await program.kill();
    await assertNothingOpen();
  });
});

describe(`tinyproxy in front of ${host.name}`, { skip: needs("tinyproxy") }, () => {
  const config = (port: number, more = ""): string[] => {
    const file = join(directory, `tinyproxy-${port}.conf`);
    writeFileSync(file, `Port ${port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 20\nDisableViaHeader Yes\n${more}`);
    return ["-d", "-c", file];
  };

  it("carries names, addresses and TLS by CONNECT", async () => {
    const { program, port } = await proxied("tinyproxy", (port) => config(port));
    const via = `http://127.0.0.1:${port}`;
    const server = await echo("127.0.0.1");
    assertEquals([await says(server, "localhost", via), await says(server, "127.0.0.1", via)], ["hello", "hello"]);
    if (made !== undefined) {
      const secure = await echo("127.0.0.1", true);
      assertEquals(await says(secure, "localhost", via, { ca: made.ca }), "hello");
      await secure.close();
    }
    assert(/refuses: 50\d /.test(await refuses(await freePort(), via)));
    await server.close();
    await program.kill();
    await assertNothingOpen();
  });

  it("carries IPv6", { skip: needs("::1") }, async () => {
    const { program, port } = await proxied("tinyproxy", (port) => config(port));
    const server = await echo("::1");
    assertEquals(await says(server, "::1", `http://127.0.0.1:${port}`), "hello");
    await server.close();
    await program.kill();
    await assertNothingOpen();
  });

  it("refuses clients without the right user and password, and other ports", async () => {
    const server = await echo("127.0.0.1");
    const more = `BasicAuth user secret\nConnectPort ${server.port}\n`;
    const { program, port } = await proxied("tinyproxy", (port) => config(port, more));
    assertEquals(await says(server, "localhost", `http://user:secret@127.0.0.1:${port}`), "hello");
    assert((await refuses(server.port!, `http://user:wrong@127.0.0.1:${port}`)).includes("refuses: 40"));
    assert((await refuses(server.port!, `http://127.0.0.1:${port}`)).includes("refuses: 407"));
    assert((await refuses(await freePort(), `http://user:secret@127.0.0.1:${port}`)).includes("refuses: 403"));
    await server.close();
    await program.kill();
    await assertNothingOpen();
  });
});
