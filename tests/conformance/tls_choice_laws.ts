/** Certificates by name, and certificates that a server changes while it serves. */

import {
  connect,
  type EventError,
  serve,
  type ServeOptions,
  type Server,
  type TlsCredentials,
} from "../../core/mod.ts";
import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "./assert.ts";
import { type PollScene, pollScene } from "./poll_scene.ts";
import type { FullSubject } from "./subject.ts";
import { describe, it } from "./suite.ts";

const LOCAL = { hostname: "127.0.0.1", port: 0 };

function greeting({ runtime }: PollScene, options: ServeOptions): Promise<Server> {
  return serve({ runtime, ...LOCAL, ...options }, { open: (bev) => void bev.write("welcome\n") });
}

/** Tests one runtime. */
export function tlsChoiceLaws(name: string, makeSubject: () => FullSubject): void {
  const { runtime: { capabilities, prepareTls }, tls } = makeSubject();
  const skip = tls?.other === undefined && "there are no two certificates, or no TLS";
  const byName = skip || (!capabilities.startTlsUnread && "capabilities.startTlsUnread is false");
  const { ca, cert, key, other = { cert: "", key: "" } } = tls ?? { ca: "", cert: "", key: "" };
  const usual: TlsCredentials = { cert, key };

  /** Asks for a name and verifies the certificate. Gives `welcome`, or the code of the failure. */
  async function asks(
    { runtime }: PollScene,
    server: Server,
    serverName: string,
    options: object = {},
  ): Promise<string> {
    try {
      const client = await connect({
        ...{ runtime, hostname: "127.0.0.1", port: server.port, ...options },
        tls: { serverName, ca },
      });
      const { value = "" } = await client.lines({ text: true }).next();
      await client.close();
      return value;
    } catch (error) {
      return (error as EventError).code;
    }
  }

  describe(`${name}: certificates by name`, { skip: byName }, () => {
    for (const kind of ["a table", "a function"] as const) {
      it(`come from ${kind}; another name gets the default certificate`, () =>
        pollScene(makeSubject(), async (scene) => {
          const sni = kind === "a table"
            ? { "ONE.example": other }
            : (asked: string) => asked === "one.example" ? other : null;
          const server = await greeting(scene, { tls: { ...usual, sni } });
          assertEquals(await asks(scene, server, "one.example"), "welcome");
          assertEquals(await asks(scene, server, "localhost"), "welcome");
          assertEquals(await asks(scene, server, "127.0.0.1"), "welcome");
          assertEquals(await asks(scene, server, "two.example"), "ERR_TLS_CERT");
          await server.close();
        }));
    }

    it("work behind a PROXY header", () =>
      pollScene(makeSubject(), async (scene) => {
        const server = await greeting(scene, {
          proxyProtocol: { mode: "optional", trusted: ["127.0.0.1"] },
          tls: { ...usual, sni: { "one.example": other } },
        });
        const proxyHeader = { version: 1, command: "PROXY", source: null, destination: null, tlvs: [] };
        assertEquals(await asks(scene, server, "one.example", { proxyHeader }), "welcome");
        assertEquals(await asks(scene, server, "one.example"), "welcome");
        await server.close();
      }));
  });

  describe(`${name}: certificates by name, without the capability`, {
    skip: tls === undefined || capabilities.startTlsUnread ? "the runtime has it, or no TLS" : false,
  }, () => {
    it("are refused with a message", () =>
      pollScene(makeSubject(), async (scene) => {
        const error = await assertRejects<EventError>(() => greeting(scene, { tls: { ...usual, sni: {} } }));
        assertEquals(error.code, "EV_UNSUPPORTED");
        assertMatch(error.message, /^Cannot choose a certificate by its name: /);
      }));
  });

  describe(`${name}: setTls()`, { skip }, () => {
    it("changes the certificate while clients connect: no connection fails, and old ones go on", () =>
      pollScene(makeSubject(), async (scene) => {
        const { runtime } = scene;
        const to = { runtime, hostname: "127.0.0.1" };
        const server = await greeting(scene, { tls: usual });
        const old = await connect({ ...to, port: server.port, tls: { serverName: "localhost", ca } });
        let stop = false;
        let connections = 0;
        const load = Promise.all([1, 2, 3].map(async () => {
          while (!stop) {
            const tls = { serverName: "localhost", rejectUnauthorized: false };
            const client = await connect({ ...to, port: server.port, tls });
            assertEquals((await client.lines({ text: true }).next()).value, "welcome");
            await client.close();
            connections++;
          }
        }));
        for (let i = 0; i < 2; i++) {
          server.setTls(other);
          assertEquals(await asks(scene, server, "one.example"), "welcome");
          assertEquals(await asks(scene, server, "localhost"), "ERR_TLS_CERT");
          server.setTls(usual);
          assertEquals(await asks(scene, server, "localhost"), "welcome");
          assertEquals(await asks(scene, server, "one.example"), "ERR_TLS_CERT");
        }
        stop = true;
        await load;
        assert(connections > 3, `${connections} connections`);
        assertEquals((await old.lines({ text: true }).next()).value, "welcome");
        await old.close();
        await server.close();
      }));

    it("refuses a wrong pair and a wrong file, and changes nothing", {
      skip: prepareTls === undefined && "the runtime does not check certificates before a handshake",
    }, () =>
      pollScene(makeSubject(), async (scene) => {
        const server = await greeting(scene, { tls: usual });
        const wrongPair = { cert, key: other.key };
        const wrongs = [wrongPair, { cert: "nothing", key }];
        for (const wrong of capabilities.startTlsUnread ? [...wrongs, { ...usual, sni: { a: wrongPair } }] : wrongs) {
          assertEquals(assertThrows<EventError>(() => server.setTls(wrong)).code, "ERR_TLS_OPTIONS");
        }
        assertEquals(await asks(scene, server, "localhost"), "welcome");
        await server.close();
        // The same, before the server listens.
        const refused = await assertRejects<EventError>(() => greeting(scene, { tls: wrongPair }));
        assertEquals(refused.code, "ERR_TLS_OPTIONS");
      }));

    it("sets the TLS versions that a client may use", () =>
      pollScene(makeSubject(), async (scene) => {
        const { runtime } = scene;
        const server = await greeting(scene, { tls: usual });
        for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
          server.setTls({ ...usual, minVersion: version, maxVersion: version });
          const tls = { serverName: "localhost", ca };
          const client = await connect({ runtime, hostname: "127.0.0.1", port: server.port, tls });
          assertEquals(client.tls?.protocol, version);
          await client.close();
          const other = version === "TLSv1.2" ? "TLSv1.3" : "TLSv1.2";
          const wrong = { ...tls, minVersion: other, maxVersion: other } as const;
          const error = await assertRejects<EventError>(() =>
            connect({ runtime, hostname: "127.0.0.1", port: server.port, tls: wrong })
          );
          assert(["ERR_TLS_HANDSHAKE", "ECONNRESET"].includes(error.code), error.message);
        }
        await server.close();
      }));
  });
}
