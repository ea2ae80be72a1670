/** The PROXY protocol behind HAProxy, on whichever of Node, Deno and Bun runs this. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import {
  connect,
  type InetAddress,
  PP2_TYPE_ALPN,
  PP2_TYPE_AUTHORITY,
  PP2_TYPE_CRC32C,
  PP2_TYPE_SSL,
  PP2_TYPE_UNIQUE_ID,
  type ProxyHeader,
  type SocketBufferEvent,
} from "../../core/mod.ts";
import { needs } from "../tools/needs.ts";
import { makeCertificates } from "./certificates.ts";
import { greet, Greeter } from "./proxy_protocol_laws.ts";
import { hostSubject } from "./subjects.ts";
import { noTls, plainClient, Program, until } from "./tls_peers.ts";

const { runtime: host } = hostSubject();
const directory = mkdtempSync(join(tmpdir(), "trivent-proxy-"));
const made = makeCertificates(directory);
const { ca, cert, key } = made ?? { ca: "", cert: "", key: "" };
const noCertificates = made === undefined ? "openssl is not installed" : noTls(host);
after(() => rmSync(directory, { recursive: true }));

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

describe(`behind HAProxy on ${host.name}`, { skip: needs("haproxy") || noCertificates }, () => {
  const ports: Record<string, number> = {};
  const greeters: Greeter[] = [];
  let proxy: Program;
  let plain: Greeter;
  let secure: Greeter;
  let checked: Greeter;

  before(async () => {
    const trusted = ["127.0.0.0/8", "::1"];
    plain = await new Greeter().start(host, { proxyProtocol: { trusted } });
    secure = await new Greeter().start(host, {
      proxyProtocol: { trusted },
      tls: { cert, key, alpnProtocols: ["greet/1"] },
    });
    checked = await new Greeter().start(host, { proxyProtocol: "required" });
    greeters.push(plain, secure, checked);
    const names = ["v1", "v2", "tlv", "tls1", "tls2", "checked", "offload"];
    for (const name of names) ports[name] = await freePort();
    writeFileSync(join(directory, "offload.pem"), `${cert}\n${key}`);
    const part = (name: string, bind: string, server: string): string =>
      `listen ${name}\n  bind 127.0.0.1:${ports[name]}${bind}\n  server s 127.0.0.1:${server}\n`;
    const config = join(directory, "haproxy.cfg");
    writeFileSync(
      config,
      "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n" +
        "  unique-id-format %{+X}o\\ %ci:%cp\n" +
        part("v1", "", `${plain.port} send-proxy`) +
        part("v2", "", `${plain.port} send-proxy-v2`) +
        part("tlv", "", `${plain.port} send-proxy-v2 proxy-v2-options crc32c,unique-id`) +
        part("tls1", "", `${secure.port} send-proxy`) +
        part("tls2", "", `${secure.port} send-proxy-v2`) +
        part(
          "offload",
          ` ssl crt ${join(directory, "offload.pem")} alpn greet/1`,
          `${plain.port} send-proxy-v2 proxy-v2-options ssl,authority,crc32c`,
        ) +
        part("checked", "", `${checked.port} send-proxy-v2 check inter 50ms`),
    );
    proxy = new Program("haproxy", ["-f", config, "-db"]);
    for (const name of names) {
      await until(() => proxy.ended || !proxy.output.includes("ALERT"), () => proxy.output);
      for (let tries = 0;; tries++) {
        try {
          (await plainClient(ports[name] as number)).destroy();
          break;
        } catch (error) {
          if (proxy.ended || tries > 200) throw new Error(proxy.output, { cause: error });
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      }
    }
  });

  after(async () => {
    await proxy.kill();
    await Promise.all(greeters.map(({ server }) => server.close()));
    await until(() => host.openHandles === 0, () => `${host.openHandles} handles are open`);
  });

  const dial = (name: string, tls?: object): Promise<SocketBufferEvent> =>
    connect({ runtime: host, hostname: "127.0.0.1", port: ports[name], ...(tls === undefined ? {} : { tls }) });
  const last = (greeter: Greeter): ProxyHeader => greeter.headers.at(-1) as ProxyHeader;

  for (const [name, version] of [["v1", 1], ["v2", 2]] as const) {
    it(`knows the client by a header of version ${version}`, async () => {
      const { greeting, local } = await greet(await dial(name));
      assertEquals(greeting, `${local} plain`);
      const { source, destination, ...others } = last(plain);
      assertEquals(others, { version, command: "PROXY", tlvs: [] });
      assertEquals(destination, { hostname: "127.0.0.1", port: ports[name], family: "IPv4" } as InetAddress);
      assertEquals((source as InetAddress).hostname, "127.0.0.1");
    });
  }

  it("checks its CRC-32C, and gives the unique id", async () => {
    const { greeting, local } = await greet(await dial("tlv"));
    assertEquals(greeting, `${local} plain`);
    assertEquals(last(plain).tlvs.map(({ type }) => type).sort(), [PP2_TYPE_CRC32C, PP2_TYPE_UNIQUE_ID]);
  });

  it("gives the authority, the protocol and what TLS was between client and proxy", async () => {
    const { greeting, local } = await greet(
      await dial("offload", { serverName: "localhost", ca, alpnProtocols: ["greet/1"] }),
    );
    assertEquals(greeting, `${local} plain`);
    const { tlvs } = last(plain);
    const textOf = (wanted: number): string =>
      new TextDecoder().decode(tlvs.find(({ type }) => type === wanted)?.value ?? new Uint8Array());
    assertEquals(textOf(PP2_TYPE_AUTHORITY), "localhost");
    if (tlvs.some(({ type }) => type === PP2_TYPE_ALPN)) assertEquals(textOf(PP2_TYPE_ALPN), "greet/1");
    assert(tlvs.some(({ type }) => type === PP2_TYPE_SSL));
  });

  for (const [name, version] of [["tls1", 1], ["tls2", 2]] as const) {
    it(`begins TLS that is passed through behind a header of version ${version}`, async () => {
      for (let i = 0; i < 5; i++) {
        const { greeting, local } = await greet(
          await dial(name, { serverName: "localhost", ca, alpnProtocols: ["greet/1"] }),
        );
        assertEquals(greeting, `${local} TLSv1.3`);
        assertEquals(last(secure).version, version);
      }
    });
  }

  it("serves its health checks, and counts none of them as refused", async () => {
    await until(() => checked.headers.some((header) => header?.command === "LOCAL"), () => proxy.output);
    const { greeting, local } = await greet(await dial("checked"));
    assertEquals(greeting, `${local} plain`);
    for (const greeter of greeters) assertEquals([greeter.server.rejected, greeter.reasons], [0, []]);
  });

  it("refuses a client that comes without it", async () => {
    const client = await plainClient(plain.port);
    client.write("hello\n");
    await until(() => plain.server.rejected === 1, () => `${plain.server.rejected} were refused`);
    assertEquals(plain.reasons, ["proxyProtocol"]);
    client.destroy();
  });
});
