/** The PROXY protocol behind HAProxy, on whichever of Node, Deno and Bun runs this. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { assertEquals, assertMatch } from "@std/assert";
import {
  connect,
  type InetAddress,
  PP2_TYPE_ALPN,
  PP2_TYPE_AUTHORITY,
  PP2_TYPE_CRC32C,
  PP2_TYPE_SSL,
  PP2_TYPE_UNIQUE_ID,
  type ProxyHeader,
  type ProxyTlv,
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
const ipv6 = needs("::1");
const noCertificates = made === undefined ? "openssl is not installed" : noTls(host);
after(() => rmSync(directory, { recursive: true }));

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

function textOf(tlvs: readonly ProxyTlv[], wanted: number): string | undefined {
  const value = tlvs.find(({ type }) => type === wanted)?.value;
  return value && new TextDecoder().decode(value);
}

describe(`behind HAProxy on ${host.name}`, { skip: needs("haproxy") || noCertificates }, () => {
  const ports: Record<string, number> = {};
  const greeters: Greeter[] = [];
  let proxy: Program;
  let plain: Greeter;
  let secure: Greeter;
  let checked: Greeter;
  let onPath: Greeter;

  before(async () => {
    const trusted = ["127.0.0.0/8", "::1"];
    plain = await new Greeter().start(host, { proxyProtocol: { trusted } });
    secure = await new Greeter().start(host, {
      proxyProtocol: { trusted },
      tls: { cert, key, alpnProtocols: ["greet/1"] },
    });
    checked = await new Greeter().start(host, { proxyProtocol: "required" });
    const path = join(directory, "server.sock");
    // Only HAProxy's own user can connect to it, so no address needs to be trusted.
    onPath = await new Greeter().start(host, {
      hostname: undefined,
      port: undefined,
      path,
      proxyProtocol: { trusted: [] },
    });
    greeters.push(plain, secure, checked, onPath);
    const names = ["v1", "v2", "tlv", "tls1", "tls2", "checked", "offload", "path"];
    for (const name of names) ports[name] = await freePort();
    writeFileSync(join(directory, "offload.pem"), `${cert}\n${key}`);
    const part = (name: string, bind: string, server: string): string =>
      `listen ${name}\n  bind 127.0.0.1:${ports[name]}${bind}\n  server s 127.0.0.1:${server}\n`;
    /** The same service on IPv6 and on a unix socket. */
    const other = (name: string): string =>
      `${ipv6 ? "" : `\n  bind [::1]:${ports[name]}`}\n  bind unix@${join(directory, `${name}.sock`)}`;
    const config = join(directory, "haproxy.cfg");
    writeFileSync(
      config,
      "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n" +
        "  unique-id-format %ci:%cp\n" +
        part("v1", other("v1"), `${plain.port} send-proxy`) +
        part("v2", other("v2"), `${plain.port} send-proxy-v2`) +
        part("tlv", "", `${plain.port} send-proxy-v2 proxy-v2-options crc32c,unique-id`) +
        part("tls1", "", `${secure.port} send-proxy`) +
        part("tls2", "", `${secure.port} send-proxy-v2`) +
        part(
          "offload",
          ` ssl crt ${join(directory, "offload.pem")} alpn greet/1`,
          `${plain.port} send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,authority,crc32c,unique-id`,
        ) +
        part("checked", "", `${checked.port} send-proxy-v2 check inter 100ms fall 100`) +
        `listen path\n  bind 127.0.0.1:${ports.path}\n  server s unix@${path} send-proxy-v2\n`,
    );
    proxy = new Program("haproxy", ["-f", config, "-db"]);
    for (const name of names) {
      await until(() => proxy.ended || !proxy.output.includes("ALERT"), () => proxy.output);
      for (let tries = 0;; tries++) {
        try {
          (await plainClient(ports[name] as number)).destroy();
          break;
        } catch (error) {
          if (proxy.ended || tries > 2000) throw new Error(proxy.output, { cause: error });
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
    it(`gets the client's address from a header of version ${version}`, async () => {
      const { greeting, local } = await greet(await dial(name));
      assertEquals(greeting, `${local} plain`);
      const { source, destination, ...others } = last(plain);
      assertEquals(others, { version, command: "PROXY", tlvs: [] });
      assertEquals(destination, { hostname: "127.0.0.1", port: ports[name], family: "IPv4" } as InetAddress);
      assertEquals((source as InetAddress).hostname, "127.0.0.1");
    });
  }

  for (const [name, version] of [["v1", 1], ["v2", 2]] as const) {
    it(`gets a client's IPv6 address from a header of version ${version}`, { skip: ipv6 }, async () => {
      const { greeting, local } = await greet(await connect({ runtime: host, hostname: "::1", port: ports[name] }));
      assertEquals(greeting, `${local} plain`);
      const { source, destination, ...others } = last(plain);
      assertEquals(others, { version, command: "PROXY", tlvs: [] });
      assertEquals(destination, { hostname: "::1", port: ports[name], family: "IPv6" } as InetAddress);
      assertEquals((source as InetAddress).hostname, "::1");
    });

    it(`serves a client of a unix socket of the proxy, with a header of version ${version}`, async () => {
      const client = await connect({ runtime: host, path: join(directory, `${name}.sock`) });
      const lines = client.lines({ text: true });
      // HAProxy sends no address of such a client, so the client has the proxy's address.
      assertMatch((await lines.next()).value ?? "", /^127\.0\.0\.1 \d+ plain$/);
      await client.close();
      const { source, destination, ...others } = last(plain);
      assertEquals([source, destination], [null, null]);
      assertEquals(others.version, version);
    });
  }

  it("trusts a proxy on a unix socket", async () => {
    const { greeting, local } = await greet(await dial("path"));
    assertEquals(greeting, `${local} plain`);
    assertEquals(last(onPath).command, "PROXY");
    assertEquals(onPath.server.rejected, 0);
  });

  it("checks its CRC-32C, and gives the unique id", async () => {
    const { greeting, local } = await greet(await dial("tlv"));
    assertEquals(greeting, `${local} plain`);
    assertEquals(last(plain).tlvs.map(({ type }) => type).sort(), [PP2_TYPE_CRC32C, PP2_TYPE_UNIQUE_ID]);
    assertEquals(textOf(last(plain).tlvs, PP2_TYPE_UNIQUE_ID), local.replace(" ", ":"));
  });

  it("gives the authority, the protocol and the TLS version between client and proxy", async () => {
    const { greeting, local } = await greet(
      await dial("offload", { serverName: "localhost", ca, alpnProtocols: ["greet/1"] }),
    );
    assertEquals(greeting, `${local} plain`);
    const { tlvs } = last(plain);
    assertEquals(textOf(tlvs, PP2_TYPE_AUTHORITY), "localhost");
    assertEquals(textOf(tlvs, PP2_TYPE_ALPN), "greet/1");
    assertEquals(textOf(tlvs, PP2_TYPE_UNIQUE_ID), local.replace(" ", ":"));
    const tls = tlvs.find(({ type }) => type === PP2_TYPE_SSL)?.value ?? new Uint8Array();
    // TLS without a client certificate; its TLVs begin with the version (0x21).
    assertEquals([tls[0], tls[5], tls[7]], [1, 0x21, 7]);
    assertEquals(new TextDecoder().decode(tls.subarray(8, 15)), "TLSv1.3");
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

  it("refuses a client that does not use the proxy", async () => {
    const client = await plainClient(plain.port);
    client.write("hello\n");
    await until(() => plain.server.rejected === 1, () => `${plain.server.rejected} were refused`);
    assertEquals(plain.reasons, ["proxyProtocol"]);
    client.destroy();
  });
});
