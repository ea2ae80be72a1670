/**
 * The PROXY protocol: headers of both versions, without and before TLS, and TLS that begins with
 * bytes that were read before.
 */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  connect,
  encodeProxyHeader,
  EV_READ,
  EventError,
  type InetAddress,
  pipe,
  type ProxyHeader,
  type Runtime,
  select,
  serve,
  type ServeOptions,
  type Server,
  type Socket,
  type SocketBufferEvent,
} from "../../core/mod.ts";
import { assert, assertEquals } from "./assert.ts";
import { bytes, pattern, type PollScene, pollScene, sendAll } from "./poll_scene.ts";
import { isCut, receiveText, trust } from "./serve_scene.ts";
import { type FullSubject, temporaryFolder } from "./subject.ts";
import { describe, it } from "./suite.ts";
import { Program } from "./tls_peers.ts";

const LOCAL = { hostname: "127.0.0.1", port: 0 };
/** Invalid TLS: a whole record that fails at once, one that is too long, and an alert. */
const GARBAGE = ["\x16\x03\x01\0\x05hello", "\x16\x03\x01garbage".repeat(20), "\x15\x03\x01\0\x02\x02\x28"];
const CLIENT: InetAddress = { hostname: "192.0.2.9", port: 9_999, family: "IPv4" };

/** A server that tells each client its address, and answers its lines in capitals. */
export class Greeter {
  server!: Server;
  readonly headers: (ProxyHeader | null)[] = [];
  /** The reasons why clients were refused, and the errors. */
  readonly reasons: string[] = [];

  async start(runtime: Runtime, options: ServeOptions): Promise<this> {
    this.server = await serve({ runtime, ...LOCAL, ...options }, {
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

/** Talks as a client. Returns the greeting, and the answer to `hello`. */
export async function greet(bev: SocketBufferEvent): Promise<{ greeting: string; local: string }> {
  const lines = bev.lines({ text: true });
  const { value: greeting = "" } = await lines.next();
  bev.write("hello\n");
  assertEquals((await lines.next()).value, "HELLO");
  const { hostname, port } = bev.localAddress as InetAddress;
  await bev.close();
  return { greeting, local: `${hostname} ${port}` };
}

function header(version: 1 | 2, source: InetAddress | null = CLIENT): ProxyHeader {
  return { version, command: source === null ? "LOCAL" : "PROXY", source, destination: source, tlvs: [] };
}

/** Connects clients to a port, and sends `first` and the first `cut` bytes of the client in one piece. */
function relay(scene: PollScene, port: number, first: Uint8Array, cut: number): Promise<Server> {
  const { runtime } = scene;
  return serve({ runtime, ...LOCAL }, {
    async open(near) {
      const far = await connect({ runtime, hostname: "127.0.0.1", port });
      let begin: Uint8Array = new Uint8Array();
      for await (const chunk of near) {
        begin = chunk;
        break;
      }
      const piece = new Uint8Array(first.length + Math.min(cut, begin.length));
      piece.set(first);
      piece.set(begin.subarray(0, cut), first.length);
      far.write(piece);
      if (cut < begin.length) {
        await scene.sleep(20);
        far.write(begin.subarray(cut));
      }
      await pipe(near, far).catch(() => {});
    },
  });
}

/** A greeter that is closed at the end of the test. */
async function greets(scene: PollScene, options: ServeOptions): Promise<Greeter> {
  const greeter = await new Greeter().start(scene.runtime, options);
  scene.keep({ close: () => greeter.server.close({ graceMs: 0 }) });
  return greeter;
}

/** Connects a client, and sends as much as it can: it may be refused before. */
async function says(scene: PollScene, port: number, ...pieces: Uint8Array[]): Promise<Socket> {
  const client = scene.keep(scene.base.connect({ port }));
  try {
    await select({ write: [client] });
    for (const piece of pieces) await sendAll(client, piece);
  } catch (error) {
    if (!(error instanceof EventError)) throw error;
  }
  return client;
}

/** Tests one runtime. */
export function proxyProtocolLaws(name: string, makeSubject: () => FullSubject): void {
  const { runtime: { capabilities }, tls, ownNetwork, missing } = makeSubject();
  const noTls = tls === undefined
    ? "there are no certificates, or no TLS"
    : !capabilities.startTlsUnread && "capabilities.startTlsUnread is false";
  const pair = (): { cert: string; key: string } => ({ cert: tls!.cert, key: tls!.key });

  describe(`${name}: the PROXY protocol`, () => {
    for (const version of [1, 2] as const) {
      it(`gives the client's address in a header of version ${version}`, () =>
        pollScene(makeSubject(), async (scene) => {
          const { runtime } = scene;
          const greeter = await greets(scene, { proxyProtocol: "required" });
          const client = await connect({ runtime, ...LOCAL, port: greeter.port, proxyHeader: header(version) });
          assertEquals((await greet(client)).greeting, "192.0.2.9 9999 plain");
          assertEquals(greeter.headers, [header(version)]);
          await greeter.server.close();
        }));

      it(
        `begins TLS behind a header of version ${version}`,
        { skip: noTls },
        () =>
          pollScene(makeSubject(), async (scene) => {
            const { runtime } = scene;
            const greeter = await greets(scene, { proxyProtocol: "required", tls: pair() });
            const options = { runtime, ...LOCAL, port: greeter.port, proxyHeader: header(version), tls: trust(tls!) };
            assertEquals((await greet(await connect(options))).greeting, "192.0.2.9 9999 TLSv1.3");
            await greeter.server.close();
          }),
      );
    }

    it("refuses a client without a header, and one that is not trusted", () =>
      pollScene(makeSubject(), async (scene) => {
        const untrusted = { trusted: ["192.0.2.1"] };
        for (
          const [proxyProtocol, said] of [["required", bytes("hello\n")], [
            untrusted,
            encodeProxyHeader(header(1)),
          ]] as const
        ) {
          const greeter = await greets(scene, { proxyProtocol });
          const answer = await receiveText(await says(scene, greeter.port, said));
          assert(isCut(answer, capabilities.reset) || answer === "", answer);
          assertEquals([greeter.reasons, greeter.server.rejected], [["proxyProtocol"], 1]);
          await greeter.server.close();
        }
      }));
  });

  describe(`${name}: TLS that begins with bytes that were read before`, { skip: noTls }, () => {
    const first = encodeProxyHeader(header(2, null));

    for (const cut of [0, 1, 5, 100, 10_000]) {
      it(`accepts a PROXY header and ${cut} bytes of the ClientHello in one piece`, () =>
        pollScene(makeSubject(), async (scene) => {
          const greeter = await greets(scene, { proxyProtocol: "required", tls: pair() });
          const proxy = await relay(scene, greeter.port, first, cut);
          const { runtime } = scene;
          const client = await connect({ runtime, ...LOCAL, port: proxy.port, tls: trust(tls!) });
          assertEquals((await greet(client)).greeting.split(" ")[2], "TLSv1.3");
          if (!ownNetwork && missing("openssl") === false) {
            const ca = join(temporaryFolder("proxy"), "ca.pem");
            writeFileSync(ca, tls!.ca);
            const args = ["-CAfile", ca, "-verify_return_error", "-quiet", "-no_ign_eof"];
            const peer = new Program("openssl", ["s_client", "-connect", `127.0.0.1:${proxy.port}`, ...args]);
            await peer.prints("TLSv1.3");
            peer.write("hello\n");
            await peer.prints("HELLO");
            peer.end();
            await peer.over();
          }
          await proxy.close();
          await greeter.server.close();
        }));
    }

    it("distinguishes TLS from plain text on one port by the first byte, with startTls({ unread: true })", () =>
      pollScene(makeSubject(), async ({ runtime }) => {
        const server = await serve({ runtime, ...LOCAL }, {
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
          bev.startTls({ ...pair(), unread: true });
          bev.setCallbacks({ event: (bev, _what, error) => error === undefined ? welcome(bev) : bev.free() });
        }
        const to = { runtime, hostname: "127.0.0.1", port: server.port };
        // More than any buffer on the way holds, in both directions.
        const sent = pattern(3_000_000);
        for (let i = 0; i < 3; i++) {
          const secure = await connect({ ...to, tls: trust(tls!) });
          secure.write("hello\n");
          const lines = secure.lines({ text: true });
          assertEquals([(await lines.next()).value, (await lines.next()).value], ["TLSv1.3", "hello"]);
          await lines.return();
          secure.write(sent);
          let got = 0;
          for await (const chunk of secure) {
            for (const byte of chunk) if (byte !== sent[got++]) throw new Error(`byte ${got} is ${byte}`);
            if (got === sent.length) break;
          }
          await secure.close();
        }
        const plain = await connect(to);
        plain.write("hello\n");
        const lines = plain.lines({ text: true });
        assertEquals([(await lines.next()).value, (await lines.next()).value], ["plain", "hello"]);
        await plain.close();
        await server.close();
      }));

    it("fails with garbage that was read before startTls({ unread: true }), and serves the next client", () =>
      pollScene(makeSubject(), async (scene) => {
        const { runtime } = scene;
        const options = { ...pair(), unread: true };
        let closed = 0;
        const server = await serve({ runtime, ...LOCAL }, {
          read: (bev) => bev.tls === undefined ? bev.startTls(options) : bev.writeBuffer(bev.input),
          close: () => void closed++,
        });
        for (const [i, garbage] of GARBAGE.entries()) {
          const client = await says(scene, server.port as number, bytes(garbage), bytes(""));
          await scene.until(() => closed > i, () => `still open after ${JSON.stringify(garbage)}`);
          await receiveText(client);
        }
        const client = await connect({ runtime, hostname: "127.0.0.1", port: server.port, tls: trust(tls!) });
        client.write("hello\n");
        assertEquals((await client.lines({ text: true }).next()).value, "hello");
        await client.close();
        await server.close();
      }));

    it("refuses garbage in a handshake, and a client that leaves in the middle of it", () =>
      pollScene(makeSubject(), async (scene) => {
        const greeter = await greets(scene, { proxyProtocol: "required", tls: pair() });
        for (const rest of [...GARBAGE, "\x16", ""]) {
          const client = await says(scene, greeter.port, first, bytes(rest));
          if (rest.length < 2) client.shutdown();
          await receiveText(client);
        }
        await scene.until(() => greeter.server.connections === 0, () => `${greeter.server.connections} are open`);
        assertEquals(greeter.headers, []);
        await greeter.server.close();
      }));
  });
}
