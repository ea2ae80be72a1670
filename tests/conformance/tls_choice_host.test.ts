/** Certificates by name and changed without a restart, with openssl as the client, on whichever of Node, Deno and Bun runs this. */

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { EventError, serve, type ServeOptions, type Server, type TlsCredentials } from "../../core/mod.ts";
import { makeCertificates } from "./certificates.ts";
import { hostSubject } from "./subjects.ts";
import { noTls, Program, until } from "./tls_peers.ts";

const { runtime: host } = hostSubject();
const directory = mkdtempSync(join(tmpdir(), "trivent-sni-"));
const file = (name: string): string => join(directory, name);
after(() => rmSync(directory, { recursive: true }));
const made = makeCertificates(directory);
const skip = made === undefined ? "openssl is not installed" : noTls(host);
const { cert, key } = made ?? { cert: "", key: "" };
const usual: TlsCredentials = { cert, key };

/** A separate certificate for a name. */
function named(name: string): TlsCredentials {
  const [its, itsKey] = [file("own.pem"), file("own.key")];
  writeFileSync(file("own.cnf"), `[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=${name}\n`);
  execFileSync("openssl", [
    ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"],
    ...["-config", file("own.cnf"), "-keyout", itsKey, "-out", its],
  ], { stdio: "ignore" });
  return { cert: readFileSync(its, "utf8"), key: readFileSync(itsKey, "utf8") };
}

async function greeting(options: ServeOptions): Promise<Server> {
  return await serve({ runtime: host, hostname: "127.0.0.1", port: 0, ...options }, {
    open: (bev) => void bev.write("welcome\n"),
    line: (bev, line) => void bev.write(`you said ${new TextDecoder().decode(line)}\n`),
  });
}

/** The name of the certificate that openssl gets, and its output. */
async function asks(server: Server, ...args: string[]): Promise<{ name: string; output: string }> {
  const peer = new Program("openssl", ["s_client", "-connect", `127.0.0.1:${server.port}`, ...args]);
  await until(() => peer.ended || peer.output.includes("welcome"), () => peer.output);
  peer.end();
  await peer.over();
  return { name: /^subject=.*CN ?= ?([^\s,]+)/m.exec(peer.output)?.[1] ?? "none", output: peer.output };
}

async function assertNothingOpen(): Promise<void> {
  await until(() => host.openHandles === 0, () => `${host.openHandles} handles are open`);
}

describe(`certificates by name on ${host.name}`, { skip }, () => {
  const one = skip === false ? named("one.example") : usual;
  const star = skip === false ? named("any.two.example") : usual;

  for (const kind of ["a table", "a function"] as const) {
    it(`come from ${kind}; an unknown name and no name get the default`, async () => {
      const sni = kind === "a table"
        ? { "one.example": one, "*.two.example": star }
        : (name: string) => name === "one.example" ? one : name.endsWith(".two.example") ? star : null;
      const server = await greeting({ tls: { ...usual, sni, alpnProtocols: ["greet/1"] } });
      assertEquals((await asks(server, "-servername", "one.example")).name, "one.example");
      assertEquals((await asks(server, "-servername", "WWW.two.example", "-tls1_2")).name, "any.two.example");
      const unknown = await asks(server, "-servername", "unknown.example", "-alpn", "greet/1");
      const none = await asks(server, "-noservername");
      assertEquals(unknown.name, none.name);
      assert(!unknown.name.includes("example"), unknown.name);
      assert(unknown.output.includes("ALPN protocol: greet/1"), unknown.output);
      await server.close();
      await assertNothingOpen();
    });
  }
});

describe(`setTls() on ${host.name}`, { skip }, () => {
  it("changes the certificate while openssl clients connect: none fails, and old connections go on", async () => {
    const names = ["first", "second", "third", "fourth"].map((name) => `${name}.example`);
    const credentials = names.map(named);
    const server = await greeting({ tls: credentials[0] as TlsCredentials });
    const old = new Program("openssl", ["s_client", "-connect", `127.0.0.1:${server.port}`, "-no_ign_eof"]);
    await old.prints("welcome");
    let current = 0;
    let stop = false;
    let served = 0;
    const wrong: string[] = [];
    const load = Promise.all([1, 2].map(async () => {
      while (!stop) {
        const before = current;
        const { name, output } = await asks(server);
        // Clients that began before the change may have either.
        const right = names.slice(before, current + 1).includes(name) && output.includes("welcome");
        if (!right) wrong.push(`${name} between ${before} and ${current}: ${output}`);
        served++;
      }
    }));
    for (current = 1; current < names.length; current++) {
      server.setTls(credentials[current] as TlsCredentials);
      const enough = served + 4;
      await until(() => served >= enough, () => `${served} were served`);
      // The connection that was made before the first change.
      old.write(`${current}\n`);
      await old.prints(`you said ${current}`);
    }
    current--;
    stop = true;
    await load;
    assertEquals(wrong, []);
    assert(/subject=.*first\.example/.test(old.output), old.output);
    old.end();
    await old.over();
    await server.close();
    await assertNothingOpen();
  });

  it("sets the oldest version: TLSv1.3 refuses a client of 1.2", async () => {
    const server = await greeting({ tls: usual });
    assert((await asks(server, "-tls1_2")).output.includes("welcome"));
    server.setTls({ ...usual, minVersion: "TLSv1.3" });
    const refused = await asks(server, "-tls1_2");
    assert(!refused.output.includes("welcome"), refused.output);
    assert((await asks(server, "-tls1_3")).output.includes("welcome"));
    server.setTls({
      ...usual,
      maxVersion: "TLSv1.2",
      ciphers: "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384",
    });
    const old = await asks(server);
    assert(/New, TLSv1.2, Cipher is ECDHE-(RSA|ECDSA)-AES256-GCM-SHA384/.test(old.output), old.output);
    const error = assertThrows(() => server.setTls({ ...usual, ciphers: "no such cipher" }), EventError) as EventError;
    assertEquals(error.code, "ERR_TLS_OPTIONS");
    await server.close();
    await assertNothingOpen();
  });
});
