/** The PROXY protocol behind HAProxy, and TLS that begins with bytes that were read before, on whichever host runs this. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect as netConnect, createServer, type Socket as NetSocket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  connect,
  detectRuntime,
  encodeProxyHeader,
  EV_READ,
  type InetAddress,
  PP2_TYPE_ALPN,
  PP2_TYPE_AUTHORITY,
  PP2_TYPE_CRC32C,
  PP2_TYPE_SSL,
  PP2_TYPE_UNIQUE_ID,
  type ProxyHeader,
  serve,
  type ServeOptions,
  type Server,
  type SocketBufferEvent,
} from "../../mod.ts";
import { needs } from "../tools/needs.ts";
import { makeCertificates } from "./certificates.ts";
import { noTls, plainClient, Program, until } from "./tls_peers.ts";

const host = detectRuntime();
const directory = mkdtempSync(join(tmpdir(), "trivent-proxy-"));
const made = makeCertificates(directory);
const { ca, cert, key } = made ?? { ca: "", cert: "", key: "" };
const noCertificates = made === undefined ? "openssl is not installed" : noTls(host);
after(() => rmSync(directory, { recursive: true }));

async function assertNothingOpen(): Promise<void> {
  await until(() => host.openHandles === 0, () => `${host.openHandles} handles are open`);
}

/** A server that says to each client who it is, and answers its lines. */
class Greeter {
  server!: Server;
  readonly headers: (ProxyHeader | null)[] = [];
  readonly reasons: string[] = [];

  async start(options: ServeOptions): Promise<this> {
    this.server = await serve({ hostname: "127.0.0.1", port: 0, ...options }, {
      open: (bev) => {
        this.headers.push(bev.proxy);
        const { hostname, port } = bev.remoteAddress as InetAddress;
        bev.write(`${hostname} ${port} ${bev.tls?.protocol ?? "plain"}\n`);
      },
      line: (bev, line) => void bev.write(`${new TextDecoder().decode(line).toUpperCase()}\n`),
      reject: (_address, reason) => void this.reasons.push(reason),
      error: (error) => void this.reasons.push(String(error)),
    });
    return this;
  }

  get port(): number {
    return this.server.port as number;
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

/** What a client says and hears: the greeting, and the answer to `hello`. */
async function greet(bev: SocketBufferEvent): Promise<{ greeting: string; local: string }> {
  const lines = bev.lines({ text: true });
  const { value: greeting = "" } = await lines.next();
  bev.write("hello\n");
  assertEquals((await lines.next()).value, "HELLO");
  const { hostname, port } = bev.localAddress as InetAddress;
  await bev.close();
  return { greeting, local: `${hostname} ${port}` };
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
    plain = await new Greeter().start({ proxyProtocol: { trusted } });
    secure = await new Greeter().start({
      proxyProtocol: { trusted },
      tls: { cert, key, alpnProtocols: ["greet/1"] },
    });
    checked = await new Greeter().start({ proxyProtocol: "required" });
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
    await assertNothingOpen();
  });

  const dial = (name: string, tls?: object): Promise<SocketBufferEvent> =>
    connect({ hostname: "127.0.0.1", port: ports[name], ...(tls === undefined ? {} : { tls }) });
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

/** Connects to a port of TLS, and sends bytes of its own in front of those of TLS, in the same write. */
function openssl(port: number, first: Uint8Array, cut: number): { port: Promise<number>; close(): void } {
  const sockets: NetSocket[] = [];
  const relay = createServer((near) => {
    const far = netConnect({ port, host: "127.0.0.1", noDelay: true });
    sockets.push(near, far);
    let begun = false;
    near.on("data", (chunk: Uint8Array) => {
      if (begun) return void far.write(chunk);
      begun = true;
      const all = new Uint8Array(first.length + chunk.length);
      all.set(first);
      all.set(chunk, first.length);
      far.write(all.subarray(0, first.length + cut));
      if (cut < chunk.length) setTimeout(() => far.write(all.subarray(first.length + cut)), 20);
    });
    far.on("data", (chunk: Uint8Array) => void near.write(chunk));
    near.on("end", () => void far.end()).on("error", () => far.destroy());
    far.on("end", () => void near.end()).on("error", () => near.destroy());
  });
  const listening = new Promise<number>((resolve) => {
    relay.listen(0, "127.0.0.1", () => resolve((relay.address() as { port: number }).port));
  });
  return {
    port: listening,
    close: () => {
      for (const socket of sockets) socket.destroy();
      relay.close();
    },
  };
}

describe(`TLS that begins with bytes that were read before, on ${host.name}`, { skip: noCertificates }, () => {
  const header = encodeProxyHeader({ version: 2, command: "LOCAL", source: null, destination: null, tlvs: [] });

  for (const cut of [0, 1, 5, 100, 10_000]) {
    it(`takes the header and ${cut} bytes of the ClientHello in one piece, from openssl`, async () => {
      const greeter = await new Greeter().start({ proxyProtocol: "required", tls: { cert, key } });
      const relay = openssl(greeter.port, header, cut);
      const args = ["-CAfile", join(directory, "test-ca.pem"), "-verify_return_error", "-quiet", "-no_ign_eof"];
      const peer = new Program("openssl", ["s_client", "-connect", `127.0.0.1:${await relay.port}`, ...args]);
      await peer.prints("TLSv1.3");
      peer.write("hello\n");
      await peer.prints("HELLO");
      peer.end();
      await peer.over();
      relay.close();
      await greeter.server.close();
      await assertNothingOpen();
    });
  }

  it("tells both on one port by the first byte, with startTls({ unread: true })", async () => {
    const tls = { cert, key, unread: true };
    const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
      open: (bev) => bev.setCallbacks({ read: first, event: (bev) => bev.free() }),
    });
    const welcome = (bev: SocketBufferEvent): void => {
      bev.write(`${bev.tls?.protocol ?? "plain"}\n`);
      bev.setCallbacks({
        read: (bev) => bev.output.addBuffer(bev.input),
        event: (bev) => void bev.close(),
      });
      bev.trigger(EV_READ);
    };
    function first(bev: SocketBufferEvent): void {
      if (bev.input.pullup(1)?.[0] !== 22) return welcome(bev);
      bev.startTls(tls);
      bev.setCallbacks({ event: (bev, _what, error) => error === undefined ? welcome(bev) : bev.free() });
    }
    const port = server.port as number;
    for (let i = 0; i < 3; i++) {
      const secure = await connect({ hostname: "127.0.0.1", port, tls: { serverName: "localhost", ca } });
      // More than any buffer on the way holds, both ways.
      const sent = new Uint8Array(3_000_000).map((_, at) => at % 251);
      secure.write("hello\n");
      const lines = secure.lines({ text: true });
      assertEquals([(await lines.next()).value, (await lines.next()).value], ["TLSv1.3", "hello"]);
      await lines.return();
      secure.write(sent);
      let got = 0;
      for await (const chunk of secure) {
        for (const byte of chunk) if (byte !== got++ % 251) throw new Error(`byte ${got} is ${byte}`);
        if (got === sent.length) break;
      }
      assertEquals(got, sent.length);
      await secure.close();
    }
    const plain = await connect({ hostname: "127.0.0.1", port });
    plain.write("hello\n");
    const lines = plain.lines({ text: true });
    assertEquals([(await lines.next()).value, (await lines.next()).value], ["plain", "hello"]);
    await plain.close();
    await server.close();
    await assertNothingOpen();
  });

  it("refuses garbage in a handshake, and a client that goes in the middle of it", async () => {
    const greeter = await new Greeter().start({ proxyProtocol: "required", tls: { cert, key } });
    for (const rest of ["\x16\x03\x01garbage".repeat(20), "\x16", ""]) {
      const client = await plainClient(greeter.port);
      let over = false;
      client.on("close", () => over = true);
      client.write(header);
      if (rest !== "") client.write(rest);
      if (rest.length < 2) client.end();
      client.resume();
      await until(() => over, () => `still open after ${JSON.stringify(rest)}`);
    }
    await until(() => greeter.server.connections === 0, () => `${greeter.server.connections} are open`);
    assertEquals(greeter.headers, []);
    await greeter.server.close();
    await assertNothingOpen();
  });

  it("refuses a certificate and a key that do not belong together before it listens", async () => {
    let code = "";
    try {
      await serve({ hostname: "127.0.0.1", port: 0, proxyProtocol: "required", tls: { cert, key: "none" } }, {});
    } catch (error) {
      code = (error as { code: string }).code;
    }
    assertMatch(code, /ERR_TLS_OPTIONS/);
    await assertNothingOpen();
  });
});
