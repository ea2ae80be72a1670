/**
 * Law 16: peers that reset the connection right after the last flight of a TLS handshake. The
 * runtime finds the flight and the reset together. Whatever the program does then, the process goes
 * on.
 */

import { type AddressInfo, connect as netConnect, createServer, type Socket as NetSocket } from "node:net";
import { Duplex } from "node:stream";
import { connect as tlsConnect, createSecureContext, TLSSocket } from "node:tls";
import { describe, it } from "./suite.ts";
import { assertEquals } from "./assert.ts";
import type { ServeCallbacks, SocketBufferEvent } from "../../core/mod.ts";
import { makeCertificates } from "./certificates.ts";
import { noTls, until } from "./tls_peers.ts";
import { on } from "./on.ts";
import { type FullSubject, temporaryFolder } from "./subject.ts";

/** Tests one runtime. */
export function tlsResetLaws(name: string, makeSubject: () => FullSubject): void {
  const { runtime: host, missing, ownNetwork } = makeSubject();
  const { connect, serve } = on(host);
  const ROUNDS = 40;
  const skip = ownNetwork ? "node:tls cannot reach it" : noTls(host) || missing("openssl");
  const directory = skip === false ? temporaryFolder("tls-reset") : "";
  const made = skip !== false ? undefined : makeCertificates(directory);
  const { ca, cert, key } = made ?? { ca: "", cert: "", key: "" };

  /** A stream for TLS over a connection, which passes each flight to `send`. */
  function wireOver(raw: NetSocket, send: (flight: Uint8Array) => void): Duplex {
    const wire = new Duplex({
      read() {},
      write(chunk, _encoding, done) {
        send(chunk);
        done();
      },
    });
    raw.on("error", () => {});
    raw.on("data", (chunk) => void wire.push(chunk));
    return wire;
  }

  /** Sends a number of flights, and resets the connection together with the last. */
  function hasty(raw: NetSocket, flights: number, secure: (wire: Duplex) => NodeJS.EventEmitter): void {
    let sent = 0;
    const wire = wireOver(raw, (flight) => {
      raw.write(flight);
      if (++sent === flights) raw.resetAndDestroy();
    });
    secure(wire).on("error", () => {});
  }

  /** Actions of a program when its connection is there. Many of them fail. */
  const OPENS: { readonly [what: string]: (bev: SocketBufferEvent) => unknown } = {
    "writes": (bev) => bev.write("hello\n"),
    "sends and resets": (bev) => {
      attempt(() => bev.socket?.send(new Uint8Array([1, 2, 3])));
      bev.reset();
    },
    "sends and frees": (bev) => {
      attempt(() => bev.socket?.send(new Uint8Array([1, 2, 3])));
      bev.free();
    },
    "throws": (bev) => {
      bev.write("hello\n");
      throw new Error("it was asked to");
    },
    "waits, and then closes": async (bev) => {
      attempt(() => bev.socket?.send(new Uint8Array(100_000)));
      await null;
      await bev.close({ timeoutMs: 100 });
    },
  };

  function attempt(what: () => unknown): void {
    try {
      what();
    } catch {
      // The connection may be gone.
    }
  }

  describe(`TLS on ${name}: data in one piece with the last flight of the handshake`, { skip }, () => {
    it("arrives, and the end after it", async () => {
      const heard: string[] = [];
      const ends: (string | undefined)[] = [];
      const server = await serve({ hostname: "127.0.0.1", port: 0, tls: { cert, key } }, {
        async open(bev) {
          for await (const line of bev.lines({ text: true })) heard.push(line);
        },
        close: (_bev, reason) => void ends.push(reason?.code),
      });
      for (let i = 0; i < ROUNDS; i++) {
        await new Promise<void>((resolve) => {
          const raw = netConnect(server.port as number, "127.0.0.1");
          const held: Uint8Array[] = [];
          const wire = wireOver(raw, (flight) => {
            // The first flight is sent at once, the rest in one piece.
            if (held.push(flight) === 1) raw.write(flight);
          });
          raw.on("close", () => resolve());
          const secure = tlsConnect({ socket: wire, rejectUnauthorized: false });
          secure.on("error", () => {});
          secure.on("secureConnect", () => {
            secure.end(`line ${i}\n`, () => void raw.end(Buffer.concat(held.slice(1))));
          });
        });
      }
      await until(() => ends.length === ROUNDS, () => `${ends.length} have ended`);
      assertEquals(heard, Array.from({ length: ROUNDS }, (_, i) => `line ${i}`));
      assertEquals(ends, Array.from({ length: ROUNDS }, () => undefined));
      await server.close();
    });
  });

  describe(`TLS on ${name}: the end right behind the handshake`, { skip }, () => {
    for (const how of ["resetAndDestroy", "end"] as const) {
      it(`is ${how === "end" ? "a clean end" : "never a clean end"}, by ${how}()`, async () => {
        let opened = 0;
        const ends: (string | undefined)[] = [];
        const server = await serve({ hostname: "127.0.0.1", port: 0, tls: { cert, key } }, {
          open: () => void opened++,
          close: (_bev, reason) => void ends.push(reason?.code),
        });
        for (let i = 0; i < ROUNDS; i++) {
          await new Promise<void>((resolve) => {
            const raw = netConnect(server.port as number, "127.0.0.1");
            const wire = wireOver(raw, (flight) => void (raw.destroyed || raw.write(flight)));
            raw.on("close", () => resolve());
            const secure = tlsConnect({ socket: wire, rejectUnauthorized: false });
            secure.on("error", () => {});
            secure.on("secureConnect", () => {
              if (how === "end") secure.end(() => void raw.end());
              else setTimeout(() => raw.resetAndDestroy(), i % 3);
            });
          });
        }
        await until(() => ends.length === opened && server.connections === 0, () => `${ends.length} of ${opened}`);
        assertEquals(ends.filter((end) => (end === undefined) !== (how === "end")), []);
        if (how === "end") assertEquals(opened, ROUNDS);
        await server.close();
      });
    }
  });

  describe(`TLS on ${name}: a reset behind the last flight of the handshake`, { skip }, () => {
    for (const [what, open] of Object.entries(OPENS)) {
      const handles = host.openHandles;

      it(`by a server, whose client ${what}`, async () => {
        const secureContext = createSecureContext({ cert, key });
        const server = createServer((raw) => {
          hasty(raw, 1, (wire) => new TLSSocket(wire, { isServer: true, secureContext }));
        });
        await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
        const { port } = server.address() as AddressInfo;
        for (let i = 0; i < ROUNDS; i++) {
          await new Promise<void>((resolve) => {
            // Every second client does not trust the server.
            const tls = i % 2 === 0 ? { ca } : {};
            connect({ hostname: "127.0.0.1", port, tls: { serverName: "localhost", ...tls } }, {
              open,
              close: () => resolve(),
              error() {},
            }).catch(() => resolve());
          });
        }
        await new Promise((resolve) => server.close(resolve));
        await until(() => host.openHandles <= handles, () => `${host.openHandles} handles are open`);
      });

      it(`by a client, whose server ${what}`, async () => {
        const callbacks: ServeCallbacks = { open, close() {}, error() {} };
        const server = await serve({ hostname: "127.0.0.1", port: 0, tls: { cert, key } }, callbacks);
        for (let i = 0; i < ROUNDS; i++) {
          await new Promise<void>((resolve) => {
            const raw = netConnect(server.port as number, "127.0.0.1");
            raw.on("close", () => resolve());
            raw.on("connect", () => {
              hasty(raw, 2, (wire) => tlsConnect({ socket: wire, rejectUnauthorized: false }));
            });
          });
        }
        await until(() => server.connections === 0, () => `${server.connections} connections`);
        await server.close();
        await until(() => host.openHandles <= handles, () => `${host.openHandles} handles are open`);
        assertEquals(server.connections, 0);
      });
    }
  });
}
