/** Connecting through proxies: proxies that work, refuse, stall, lie or send too much. */

import { assert, assertEquals, assertRejects } from "./assert.ts";
import {
  connect,
  type ConnectOptions,
  type EventError,
  fixedLength,
  pipe,
  serve,
  type Server,
  type SocketBufferEvent,
  type TlsServeOptions,
} from "../../core/mod.ts";
import { type PollScene, pollScene } from "./poll_scene.ts";
import { trust } from "./serve_scene.ts";
import type { FullSubject } from "./subject.ts";
import { describe, it } from "./suite.ts";

/** The faults of a proxy. */
interface Habits {
  readonly login?: readonly [user: string, password: string];
  /** Answers this to the request, instead of success. */
  readonly answer?: Uint8Array | string;
  /** Sends each byte by itself. */
  readonly slow?: boolean;
  /** Sends more than its answer. */
  readonly more?: string;
  /** Does this when a client has connected. */
  readonly first?: (bev: SocketBufferEvent) => unknown;
}

/** A small proxy. It connects to one port, whatever the request. */
class Proxy {
  readonly asked: string[] = [];
  server!: Server;

  async start(scene: PollScene, scheme: "socks5" | "http", port: number, habits: Habits = {}): Promise<this> {
    const { runtime } = scene;
    this.server = await serve({ runtime, hostname: "127.0.0.1", port: 0, readWhileFull: true }, {
      open: async (bev) => {
        if (habits.first !== undefined) {
          await habits.first(bev);
          return;
        }
        const answer = scheme === "socks5" ? await this.#socks5(bev, habits) : await this.#http(bev, habits);
        if (answer === null) return;
        const bytes = typeof answer === "string" ? new TextEncoder().encode(answer) : answer;
        for (const piece of habits.slow ? Array.from(bytes, (byte) => Uint8Array.of(byte)) : [bytes]) {
          bev.write(piece);
          if (habits.slow) await new Promise<void>((resolve) => runtime.defer(resolve));
        }
        if (habits.more !== undefined) bev.write(habits.more);
        if (habits.answer !== undefined) return;
        const far = await connect({ runtime, hostname: "127.0.0.1", port });
        await pipe(bev, far).catch(() => {});
      },
      error: (error) => void this.asked.push(String(error)),
    });
    return this;
  }

  get at(): string {
    return `127.0.0.1:${this.server.port}`;
  }

  async #socks5(bev: SocketBufferEvent, { login, answer, slow }: Habits): Promise<Uint8Array | string | null> {
    const [version, count] = await take(bev, 2);
    const methods = await take(bev, count!);
    assertEquals(version, 5);
    if (login !== undefined) {
      if (!methods.includes(2)) {
        bev.write(Uint8Array.of(5, 255));
        return null;
      }
      bev.write(Uint8Array.of(5, 2));
      const [, length] = await take(bev, 2);
      const user = new TextDecoder().decode(await take(bev, length!));
      const password = new TextDecoder().decode(await take(bev, (await take(bev, 1))[0]!));
      const right = user === login[0] && password === login[1];
      bev.write(Uint8Array.of(1, right ? 0 : 7));
      if (!right) return null;
    } else bev.write(Uint8Array.of(5, 0));
    const [, command, , kind] = await take(bev, 4);
    assertEquals(command, 1);
    const address = kind === 1
      ? (await take(bev, 4)).join(".")
      : kind === 4
      ? [...await take(bev, 16)].map((byte) => byte.toString(16)).join(":")
      : new TextDecoder().decode(await take(bev, (await take(bev, 1))[0]!));
    const [high, low] = await take(bev, 2);
    this.asked.push(`${kind} ${address} ${high! * 256 + low!}`);
    const name = [3, 5, 104, 101, 108, 108, 111];
    return answer ?? Uint8Array.of(5, 0, 0, ...(slow ? name : [1, 0, 0, 0, 0]), 0, 0);
  }

  async #http(bev: SocketBufferEvent, { login, answer }: Habits): Promise<Uint8Array | string> {
    const lines: string[] = [];
    const view = bev.lines({ text: true });
    for (let line = (await view.next()).value; line !== undefined && line !== ""; line = (await view.next()).value) {
      lines.push(line);
    }
    await view.return();
    this.asked.push(lines[0]!);
    const wanted = login === undefined
      ? undefined
      : `Proxy-Authorization: Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(login.join(":"))))}`;
    if (wanted !== undefined && !lines.includes(wanted)) return "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n";
    return answer ?? "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 Connection established\r\nContent-Length: 9\r\n\r\n";
  }
}

async function take(bev: SocketBufferEvent, bytes: number): Promise<Uint8Array> {
  if (bytes === 0) return new Uint8Array();
  const view = bev.frames(fixedLength(bytes));
  const { value } = await view.next();
  await view.return();
  if (value === undefined) throw new Error("the client has finished");
  return value;
}

/** Tests one runtime. */
export function viaLaws(name: string, makeSubject: () => FullSubject): void {
  const { tls } = makeSubject();
  const noTls = tls === undefined && "there are no certificates, or no TLS";
  const echo = (scene: PollScene, tls?: TlsServeOptions): Promise<Server> =>
    serve({ runtime: scene.runtime, hostname: "127.0.0.1", port: 0, tls }, {
      read: (bev) => bev.output.addBuffer(bev.input),
    });
  const says = async (scene: PollScene, options: ConnectOptions, text = "hello\n"): Promise<string> => {
    const client = await connect({ runtime: scene.runtime, ...options });
    client.write(text);
    const { value = "" } = await client.lines({ text: true }).next();
    await client.close();
    return value;
  };
  const fails = async (scene: PollScene, options: ConnectOptions): Promise<EventError> =>
    await assertRejects(() => connect({ runtime: scene.runtime, ...options })) as EventError;

  for (const scheme of ["socks5", "http"] as const) {
    describe(`${name}: connecting through ${scheme}`, () => {
      it("sends it names and addresses, and carries bytes both ways", () =>
        pollScene(makeSubject(), async (scene) => {
          const server = await echo(scene);
          const proxy = await new Proxy().start(scene, scheme, server.port!);
          for (const hostname of ["nowhere.example", "192.0.2.1", "2001:db8::1"]) {
            assertEquals(await says(scene, { hostname, port: 443, via: `${scheme}://${proxy.at}` }), "hello");
          }
          assertEquals(
            proxy.asked,
            scheme === "socks5"
              ? ["3 nowhere.example 443", "1 192.0.2.1 443", "4 20:1:d:b8:0:0:0:0:0:0:0:0:0:0:0:1 443"]
              : ["nowhere.example", "192.0.2.1", "[2001:db8::1]"].map((each) => `CONNECT ${each}:443 HTTP/1.1`),
          );
          const client = await connect({
            runtime: scene.runtime,
            hostname: "x",
            port: 1,
            via: `${scheme}://${proxy.at}`,
          });
          const sent = new Uint8Array(500_000).map((_, i) => i % 251);
          client.write(sent);
          let got = 0;
          await (async () => {
            for await (const chunk of client) {
              for (const byte of chunk) assert(byte === got++ % 251);
              if (got === sent.length) break;
            }
          })();
          await client.close();
          await proxy.server.close();
          await server.close();
        }));

      it("logs in with a user and a password that are percent-encoded", () =>
        pollScene(makeSubject(), async (scene) => {
          const server = await echo(scene);
          const login = ["us/er", "pä:ss@"] as const;
          const proxy = await new Proxy().start(scene, scheme, server.port!, { login });
          const via = `${scheme}://us%2Fer:p%C3%A4%3ass%40@${proxy.at}`;
          assertEquals(await says(scene, { hostname: "x", port: 1, via }), "hello");
          const wrong = await fails(scene, { hostname: "x", port: 1, via: `${scheme}://user:secret@${proxy.at}` });
          assertEquals(wrong.code, "EV_PROXY_REFUSED");
          assert(wrong.message.includes(scheme === "http" ? "407 Proxy Authentication Required" : "(0x07)"));
          assert(!wrong.message.includes("secret"), wrong.message);
          const none = await fails(scene, { hostname: "x", port: 1, via: `${scheme}://${proxy.at}` });
          assertEquals(none.code, "EV_PROXY_REFUSED");
          assert(none.message.includes(scheme === "http" ? "407" : "requires a user and a password"), none.message);
          await proxy.server.close();
          await server.close();
        }));

      it("accepts an answer one byte at a time, and the server's bytes behind it", () =>
        pollScene(makeSubject(), async (scene) => {
          const server = await echo(scene);
          const slow = await new Proxy().start(scene, scheme, server.port!, { slow: true, more: "220 welcome\r\n" });
          const client = await connect({
            runtime: scene.runtime,
            hostname: "x",
            port: 25,
            via: `${scheme}://${slow.at}`,
          });
          const lines = client.lines({ text: true });
          assertEquals((await lines.next()).value, "220 welcome");
          client.write("hello\r\n");
          assertEquals((await lines.next()).value, "hello");
          await client.close();
          await slow.server.close();
          await server.close();
        }));

      it(
        "negotiates TLS with the server, and refuses bytes that a proxy has added",
        { skip: noTls },
        () =>
          pollScene(makeSubject(), async (scene) => {
            const server = await echo(scene, { cert: tls!.cert, key: tls!.key });
            const proxy = await new Proxy().start(scene, scheme, server.port!);
            const options = { hostname: "localhost", port: 443, tls: trust(tls!) };
            assertEquals(await says(scene, { ...options, via: `${scheme}://${proxy.at}` }), "hello");
            const liar = await new Proxy().start(scene, scheme, server.port!, { more: "\x16\x03\x03" });
            const error = await fails(scene, { ...options, via: `${scheme}://${liar.at}` });
            assert(["EV_PROXY_REFUSED", "ERR_TLS_HANDSHAKE"].includes(error.code), error.message);
            for (const each of [proxy.server, liar.server, server]) await each.close();
          }),
      );

      it("fails with EV_PROXY_REFUSED and a message if the proxy refuses or sends a wrong answer", () =>
        pollScene(makeSubject(), async (scene) => {
          const answers: [Uint8Array | string, string][] = scheme === "socks5"
            ? [
              ...["general failure", "connection not allowed", "network unreachable", "host unreachable"].map((
                words,
                i,
              ): [Uint8Array, string] => [Uint8Array.of(5, i + 1, 0, 1), words]),
              ...["connection refused", "TTL expired", "command not supported", "address type not supported"]
                .map(
                  (
                    words,
                    i,
                  ): [Uint8Array, string] => [Uint8Array.of(5, i + 5, 0, 1, 0, 0, 0, 0, 0, 0), words],
                ),
              [Uint8Array.of(5, 99, 0, 1), "unknown reason (0x63)"],
              [Uint8Array.of(4, 0, 0, 1), "not SOCKS5 (0x04)"],
              [Uint8Array.of(5, 0, 0, 9, 9), "not valid"],
              [Uint8Array.of(5, 0, 7, 1, 9), "not valid"],
            ]
            : [
              ["HTTP/1.1 403 Forbidden\r\n\r\n", "403 Forbidden"],
              ["HTTP/1.0 502 Bad\x07 Gateway\r\nX: y\r\n\r\nbody", "502 Bad? Gateway"],
              ["HTTP/1.1 302\r\n\r\n", "302"],
              ["SSH-2.0-OpenSSH\r\n", "not HTTP"],
              ["HTTP/1.1 OK\r\n\r\n", "not valid"],
              [`HTTP/1.1 200 OK\r\nX: ${"x".repeat(20_000)}`, "longer than 16384 bytes"],
            ];
          for (const [answer, words] of answers) {
            const proxy = await new Proxy().start(scene, scheme, 1, { answer });
            const error = await fails(scene, { hostname: "there.example", port: 80, via: `${scheme}://${proxy.at}` });
            assertEquals(error.code, "EV_PROXY_REFUSED", error.message);
            assert(error.message.includes(words), error.message);
            assert(error.message.includes(`there.example:80 through ${scheme}://${proxy.at}`), error.message);
            await proxy.server.close();
          }
        }));

      it("fails if the proxy closes, resets, stalls or does not exist, and if it is cancelled", () =>
        pollScene(makeSubject(), async (scene) => {
          const ends = await new Proxy().start(scene, scheme, 1, { first: (bev) => bev.close() });
          const ended = await fails(scene, { hostname: "x", port: 1, via: `${scheme}://${ends.at}` });
          // Its end can come before or after our bytes.
          assert(["EV_PROXY_REFUSED", "ECONNRESET"].includes(ended.code), ended.message);
          const stalls = await new Proxy().start(scene, scheme, 1, { first: () => {} });
          const late = await fails(scene, { hostname: "x", port: 1, via: `${scheme}://${stalls.at}`, timeoutMs: 50 });
          assertEquals(late.code, "ETIMEDOUT");
          const given = new AbortController();
          const waiting = fails(scene, {
            hostname: "x",
            port: 1,
            via: `${scheme}://${stalls.at}`,
            signal: given.signal,
          });
          given.abort();
          assertEquals((await waiting).code, "ECANCELED");
          const free = stalls.at;
          for (const { server } of [ends, stalls]) await server.close({ graceMs: 0 });
          assertEquals(
            (await fails(scene, { hostname: "x", port: 1, via: `${scheme}://${free}` })).code,
            "ECONNREFUSED",
          );
        }));

      it("sends a PROXY header behind it", () =>
        pollScene(makeSubject(), async (scene) => {
          const seen: unknown[] = [];
          const source = { hostname: "192.0.2.9", port: 9, family: "IPv4" } as const;
          const server = await serve({
            runtime: scene.runtime,
            hostname: "127.0.0.1",
            port: 0,
            proxyProtocol: "required",
          }, {
            open: (bev) => void seen.push(bev.remoteAddress),
            read: (bev) => bev.output.addBuffer(bev.input),
          });
          const proxy = await new Proxy().start(scene, scheme, server.port!);
          const proxyHeader = { version: 2, command: "PROXY", source, destination: source, tlvs: [] } as const;
          const options = { hostname: "x", port: 1, via: `${scheme}://${proxy.at}` };
          assertEquals(await says(scene, { ...options, proxyHeader: { ...proxyHeader, tlvs: [] } }), "hello");
          assertEquals(seen, [source]);
          for (const each of [proxy.server, server]) await each.close();
        }));
    });
  }
}
