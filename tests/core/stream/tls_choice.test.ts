// Certificates by name, and changed without a restart: sni, setTls(), minVersion.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "fast-check";
import type { EventError } from "../../../core/errors.ts";
import { connect, serve, type ServeOptions, type Server, type TlsCredentials } from "../../../core/serve/serve.ts";
import { readClientHello, writeClientHello } from "../../../core/socket/client_hello.ts";
import { Socket } from "../../../core/api/socket.ts";
import type { TlsConnectOptions } from "../../../core/tls.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { portOf } from "../socket/pairs.ts";

const signed = (names: string): TlsCredentials => ({ cert: `${names} signed by our CA`, key: `of ${names}` });
const USUAL = signed("usual.example");

class Stage {
  readonly sim: SimRuntime = simRuntime();
  readonly failures: unknown[] = [];
  server!: Server;

  async serve(options: ServeOptions): Promise<this> {
    this.server = await this.sim.run(serve({ runtime: this.sim, hostname: "127.0.0.1", port: 0, ...options }, {
      open: (bev) => void bev.write("welcome\n"),
      error: (error) => void this.failures.push(error),
    }));
    return this;
  }

  /** The names of the certificate that a client gets, or the code of its failure. */
  async asks(serverName: string, tls: TlsConnectOptions = {}): Promise<string> {
    try {
      const options = { serverName, ca: "our CA", rejectUnauthorized: false, ...tls };
      const client = await this.sim.run(
        connect({ runtime: this.sim, hostname: "127.0.0.1", port: portOf(this.server), tls: options }),
      );
      assertEquals((await this.sim.run(client.lines({ text: true }).next())).value, "welcome");
      const text = new TextDecoder().decode(client.tls?.peerCertificate);
      await this.sim.run(client.close());
      return text.replace(" signed by our CA", "");
    } catch (error) {
      return (error as EventError).code;
    }
  }

  async end(): Promise<void> {
    await this.sim.run(this.server.close({ graceMs: 0 }));
    await this.sim.advance(20_000);
    assertEquals(this.sim.openHandles, 0);
  }
}

describe("sni", () => {
  it("as a table gives each name its certificate, in upper or lower case; a star matches one label; other names get the default", async () => {
    const stage = await new Stage().serve({
      tls: {
        ...USUAL,
        sni: {
          "One.example": signed("one.example"),
          "*.two.example": signed("*.two.example"),
          "www.two.example": signed("www.two.example"),
        },
      },
    });
    const expected: [string, string][] = [
      ["one.example", "one.example"],
      ["ONE.EXAMPLE", "one.example"],
      ["a.two.example", "*.two.example"],
      ["www.two.example", "www.two.example"],
      ["two.example", "usual.example"],
      ["a.b.two.example", "usual.example"],
      ["unknown", "usual.example"],
      ["constructor", "usual.example"],
      // A numeric address is not a name.
      ["127.0.0.1", "usual.example"],
    ];
    for (const [name, names] of expected) assertEquals(await stage.asks(name), names, name);
    await stage.end();
  });

  it("as a function is called with the name, and null means the default certificate", async () => {
    const asked: string[] = [];
    const mine = signed("mine.example");
    const stage = await new Stage().serve({
      tls: {
        ...USUAL,
        sni: (name) => {
          asked.push(name);
          return name === "mine.example" ? mine : null;
        },
      },
    });
    assertEquals(await stage.asks("Mine.example"), "mine.example");
    assertEquals(await stage.asks("other.example"), "usual.example");
    assertEquals(await stage.asks("::1"), "usual.example");
    assertEquals(asked, ["mine.example", "other.example"]);
    await stage.end();
  });

  it("that throws, or returns no certificate, ends only its connection and calls error", async () => {
    const stage = await new Stage().serve({
      tls: {
        ...USUAL,
        sni: (name) => {
          if (name === "throws") throw new Error("no");
          return name === "wrong" ? { cert: 1 } as never : null;
        },
      },
    });
    assertEquals(await stage.asks("throws"), "ERR_TLS_HANDSHAKE");
    assertEquals(await stage.asks("wrong"), "ERR_TLS_HANDSHAKE");
    assertEquals(await stage.asks("fine"), "usual.example");
    assertEquals(stage.failures.length, 2);
    assert(stage.failures[1] instanceof TypeError);
    assertEquals(stage.server.connections, 0);
    await stage.end();
  });

  it("is bounded in time, counted, and closed with the server", async () => {
    const stage = await new Stage().serve({
      tls: { ...USUAL, sni: {}, handshakeTimeoutMs: 500 },
      maxConnections: 2,
      maxConnectionsPerAddress: 2,
      whenFull: "reject",
    });
    const silent = [0, 1, 2].map(() =>
      Socket.connect(stage.sim, { hostname: "127.0.0.1", port: portOf(stage.server) })
    );
    await stage.sim.advance(100);
    assertEquals([stage.server.connections, stage.server.rejected], [2, 1]);
    await stage.sim.advance(500);
    assertEquals(stage.server.connections, 0);
    assertEquals(await stage.asks("a"), "usual.example");
    silent.push(Socket.connect(stage.sim, { hostname: "127.0.0.1", port: portOf(stage.server) }));
    await stage.sim.advance(100);
    await stage.sim.run(stage.server.close());
    assertEquals(stage.server.connections, 0);
    for (const each of silent) each.close();
    await stage.end();
  });

  it("refuses an invalid table with a message", async () => {
    const sim = simRuntime();
    const wrong: [unknown, RegExp][] = [
      [{ "a b": USUAL }, /a name of tls.sni is not a host name in ASCII: received "a b"/],
      [{ "*": USUAL }, /not a host name/],
      [{ a: { cert: "x" } }, /tls.sni: key is not PEM/],
      [{ a: { cret: "x" } }, /unknown option tls.sni.cret: did you mean tls.sni.cert/],
      [7, /tls.sni is not a table or a function: received 7/],
      [null, /tls.sni is not a table/],
    ];
    for (const [sni, message] of wrong) {
      const tls = { ...USUAL, sni: sni as Record<string, TlsCredentials> };
      const error = await assertRejects(() => serve({ runtime: sim, hostname: "127.0.0.1", port: 0, tls }, {}));
      assert(message.test((error as Error).message), (error as Error).message);
    }
  });
});

describe("setTls()", () => {
  it("gives new connections the new certificate, and does not change old ones", async () => {
    const stage = await new Stage().serve({ tls: USUAL });
    const old = await stage.sim.run(connect({
      runtime: stage.sim,
      hostname: "127.0.0.1",
      port: portOf(stage.server),
      tls: { ca: "our CA", serverName: "usual.example" },
    }));
    stage.server.setTls({ ...signed("new.example"), sni: { "one.example": signed("one.example") } });
    assertEquals([await stage.asks("any"), await stage.asks("one.example")], ["new.example", "one.example"]);
    assertEquals(new TextDecoder().decode(old.tls?.peerCertificate), USUAL.cert);
    assertEquals((await stage.sim.run(old.lines({ text: true }).next())).value, "welcome");
    await stage.sim.run(old.close());
    await stage.end();
  });

  it("throws for wrong options, and changes nothing", async () => {
    const stage = await new Stage().serve({ tls: USUAL });
    for (const wrong of [{}, { cert: "x" }, { ...USUAL, minVersion: "1.2" }, { ...USUAL, sni: 1 }, null, 1]) {
      assertThrows(() => stage.server.setTls(wrong as never));
      assertEquals(await stage.asks("any"), "usual.example");
    }
    await stage.end();
    const plain = await new Stage().serve({});
    const error = assertThrows(() => plain.server.setTls(USUAL)) as EventError;
    assertEquals(error.code, "EV_UNSUPPORTED");
    await plain.end();
  });

  it("while clients come and go fails none of them", async () => {
    const stage = await new Stage().serve({ tls: signed("0.example") });
    let at = 0;
    const clients = (async () => {
      const seen = new Set<string>();
      for (let i = 0; i < 60; i++) {
        const client = await connect({
          runtime: stage.sim,
          hostname: "127.0.0.1",
          port: portOf(stage.server),
          tls: { ca: "our CA", serverName: "any", rejectUnauthorized: false },
        });
        seen.add(new TextDecoder().decode(client.tls?.peerCertificate));
        await client.lines().next();
        await client.close();
        if (i % 3 === 0) stage.server.setTls(signed(`${++at}.example`));
      }
      return seen;
    })();
    assertEquals((await stage.sim.run(clients)).size, 21);
    await stage.end();
  });
});

describe("minVersion and maxVersion", () => {
  it("apply to both ends", async () => {
    const stage = await new Stage().serve({ tls: { ...USUAL, minVersion: "TLSv1.3" } });
    assertEquals(await stage.asks("a", { maxVersion: "TLSv1.2" }), "ERR_TLS_HANDSHAKE");
    assertEquals(await stage.asks("a", { minVersion: "TLSv1.3" }), "usual.example");
    stage.server.setTls({ ...USUAL, maxVersion: "TLSv1.2" });
    assertEquals(await stage.asks("a", { minVersion: "TLSv1.3" }), "ERR_TLS_HANDSHAKE");
    assertEquals(await stage.asks("a"), "usual.example");
    await stage.end();
  });

  it("are refused with a message if they contradict each other", () => {
    const sim = simRuntime();
    for (
      const tls of [{ minVersion: "TLSv1" }, { maxVersion: 3 }, { minVersion: "TLSv1.3", maxVersion: "TLSv1.2" }, {
        ciphers: "",
      }]
    ) {
      assertThrows(() => Socket.connect(sim, { hostname: "127.0.0.1", port: 9, tls: tls as TlsConnectOptions }));
    }
  });
});

describe("a ClientHello", () => {
  it("is read when it is cut at any byte and into records of any size, with names of any length", () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[a-z0-9.-]{1,255}$/), fc.integer({ min: 1, max: 400 }), (name, size) => {
        const extension = new Uint8Array(300).fill(7);
        const record = writeClientHello(name, new Map([[0x1234, extension]]));
        assertEquals(readClientHello(record)?.serverName, name);
        assertEquals(readClientHello(record)?.extensions.get(0x1234), extension);
        for (let cut = 0; cut < record.length; cut++) assertEquals(readClientHello(record.subarray(0, cut)), null);
        const message = record.subarray(5);
        const pieces: number[] = [];
        for (let at = 0; at < message.length; at += size) {
          const piece = message.subarray(at, at + size);
          pieces.push(22, 3, 1, piece.length >> 8, piece.length & 255, ...piece);
        }
        assertEquals(readClientHello(Uint8Array.from(pieces))?.serverName, name);
      }),
      { numRuns: 30 },
    );
  });

  it("of random bytes names no server, and never throws", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      for (const start of [[], [22], [22, 3, 1, 0, 200, 1, 0, 0, 150]]) {
        const hello = readClientHello(Uint8Array.from([...start, ...bytes]));
        assert(hello === null || hello.serverName === null || hello.serverName.length <= 255);
      }
    }));
    const record = writeClientHello("a.example", new Map());
    fc.assert(fc.property(fc.nat(record.length - 1), fc.nat(255), (at, value) => {
      const changed = record.slice();
      changed[at] = value;
      readClientHello(changed);
    }));
  });
});
