/** Law 16: the name that a TLS client sends to the server, and the names that it verifies. */

import { join } from "node:path";
import { describe, it } from "./suite.ts";
import { assertEquals, assertRejects } from "./assert.ts";
import { EventError, type SocketBufferEvent, type TlsConnectOptions } from "../../core/mod.ts";
import { makeCertificates } from "./certificates.ts";
import { gnutlsServer, noTls, opensslServer, plainServer, until } from "./tls_peers.ts";
import { on } from "./on.ts";
import { type FullSubject, temporaryFolder } from "./subject.ts";

/** Tests one runtime. */
export function tlsNamesLaws(name: string, makeSubject: () => FullSubject): void {
  const { runtime: host, missing, ownNetwork } = makeSubject();
  const { connect } = on(host);
  const skip = ownNetwork ? "openssl cannot reach it" : noTls(host) || missing("openssl");
  const directory = skip === false ? temporaryFolder("names") : "";

  const LEAF = "basicConstraints=CA:FALSE\n";
  const made = ownNetwork || !host.capabilities.tls
    ? undefined
    : makeCertificates(directory, "names", 30, `subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n${LEAF}`);
  const other = skip !== false ? undefined : makeCertificates(
    directory,
    "other",
    30,
    `subjectAltName=DNS:xn--bcher-kva.example,IP:127.0.0.9,IP:fe80::1\n${LEAF}`,
  );
  const { ca } = made ?? { ca: "" };

  /** The name in the ClientHello of a record, or null if it has none. */
  function nameIn(hello: Uint8Array): string | null {
    const view = new DataView(hello.buffer, hello.byteOffset, hello.byteLength);
    // After the headers of record and message, the version and the random: the session, the
    // ciphers, the compression.
    let at = 43;
    at += 1 + view.getUint8(at);
    at += 2 + view.getUint16(at);
    at += 1 + view.getUint8(at);
    for (const end = at + 2 + view.getUint16(at++); ++at < end;) {
      const [type, length] = [view.getUint16(at), view.getUint16(at + 2)];
      if (type === 0) return new TextDecoder().decode(hello.subarray(at + 9, at + 4 + length));
      at += 3 + length;
    }
    return null;
  }

  /**
   * Sends a text over TLS, either from the beginning or after startTls(), and returns the answer.
   */
  async function talk(
    to: { hostname: string; port: number },
    tls: TlsConnectOptions,
    change: boolean,
  ): Promise<{ reply: string; authorized: boolean | undefined }> {
    const connected = await new Promise<SocketBufferEvent>((resolve, reject) => {
      connect({ ...to, timeoutMs: 30_000, ...(change ? {} : { tls }) }, {
        event: (bev, what, error) => {
          if (error !== undefined) reject(error);
          else if (change && (what & 0x80) !== 0) resolve(bev);
        },
      }).then((bev) => {
        if (change) bev.startTls(tls);
        else resolve(bev);
      }, reject);
    });
    connected.write("desserts\n");
    let reply = "";
    for await (const line of connected.lines({ maxBytes: 1000, text: true })) {
      reply = line;
      break;
    }
    const authorized = connected.tls?.authorized;
    connected.free();
    return { reply, authorized };
  }

  async function codeOf(promise: Promise<unknown>, what: string): Promise<string> {
    return (await assertRejects(() => promise, EventError, undefined, what) as EventError).code;
  }

  async function assertNothingOpen(): Promise<void> {
    await until(() => host.openHandles === 0, () => `${host.openHandles} handles are open`);
  }

  describe(`the server's name in TLS on ${name}`, { skip }, () => {
    it("is sent by SNI, in ASCII and without a dot at its end, unless it is a numeric address", async () => {
      const seen: (string | null)[] = [];
      const server = await plainServer((socket) => {
        socket.once("data", (chunk) => {
          seen.push(nameIn(chunk as Uint8Array));
          socket.destroy();
        });
      });
      const names = [
        "localhost",
        "localhost.",
        "a_b.example",
        "b\u00fccher.example",
        "127.0.0.1",
        "::1",
        "fe80::1%lo",
        "127.1",
      ];
      for (const serverName of names) {
        const to = { hostname: "127.0.0.1", port: server.port };
        const code = await codeOf(connect({ ...to, tls: { serverName } }, {}), serverName);
        assertEquals(code, "ERR_TLS_HANDSHAKE", serverName);
      }
      // The name is the host of the connection, unless an option gives another.
      await codeOf(connect({ hostname: "127.0.0.1", port: server.port, tls: {} }, {}), "by default");
      assertEquals(seen, [
        "localhost",
        "localhost",
        "a_b.example",
        "xn--bcher-kva.example",
        null,
        null,
        null,
        null,
        null,
      ]);
      await server.close();
      await assertNothingOpen();
    });

    for (const change of [false, true]) {
      const how = change ? "by startTls()" : "at once";
      it(
        `may be 127.0.0.1 or ::1 even if a server refuses such names in SNI, ${how}`,
        { skip: missing("gnutls-serv", "::1") },
        async () => {
          const { program, port } = await gnutlsServer([
            "--x509certfile",
            join(directory, "names.pem"),
            "--x509keyfile",
            join(directory, "names.key"),
          ]);
          for (const hostname of ["127.0.0.1", "::1"]) {
            const tls = change ? { ca, serverName: hostname } : { ca };
            assertEquals(
              await talk({ hostname, port }, tls, change),
              { reply: "desserts", authorized: true },
              hostname,
            );
          }
          await program.kill();
          await assertNothingOpen();
        },
      );

      it(`is verified as an address, whatever the host of the connection, ${how}`, async () => {
        const files = (
          name: string,
        ): string[] => ["-cert", join(directory, `${name}.pem`), "-key", join(directory, `${name}.key`)];
        const { program, port } = await opensslServer([...files("names"), "-rev"]);
        const { program: second, port: otherPort } = await opensslServer([...files("other"), "-rev"]);
        const hostname = "127.0.0.1";
        for (const serverName of ["127.0.0.1", "::1", "0:0:0:0:0:0:0:1", "::1%lo"]) {
          assertEquals(
            await talk({ hostname, port }, { ca, serverName }, change),
            { reply: "stressed", authorized: true },
            serverName,
          );
        }
        for (const serverName of ["127.0.0.2", "::2", "127.1", "b\u00fccher.example", "other.example"]) {
          assertEquals(
            await codeOf(talk({ hostname, port }, { ca, serverName }, change), serverName),
            "ERR_TLS_CERT",
            serverName,
          );
        }
        const otherCa = other!.ca;
        for (
          const serverName of ["127.0.0.9", "fe80::1", "fe80::1%lo", "b\u00fccher.example", "B\u00dcCHER.example."]
        ) {
          assertEquals(
            await talk({ hostname, port: otherPort }, { ca: otherCa, serverName }, change),
            { reply: "stressed", authorized: true },
            serverName,
          );
        }
        // An untrusted authority, and a wrong address, each alone.
        for (const [serverName, authority] of [["127.0.0.9", ca], ["127.0.0.1", otherCa]] as const) {
          const tls = { ca: authority, serverName };
          assertEquals(await codeOf(talk({ hostname, port: otherPort }, tls, change), serverName), "ERR_TLS_CERT");
          assertEquals(
            await talk({ hostname, port: otherPort }, { ...tls, rejectUnauthorized: false }, change),
            { reply: "stressed", authorized: false },
            serverName,
          );
        }
        await program.kill();
        await second.kill();
        await assertNothingOpen();
      });
    }
  });
}
