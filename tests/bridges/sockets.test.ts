/** `socketsConnect()` under libraries for `cloudflare:sockets`: postgres.js; and postgres.js with its `socket` option. */

import { execFileSync } from "node:child_process";
import { rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { after, before, describe, it } from "node:test";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { toDuplex } from "../../bridges/duplex.ts";
import { connect, connectNow, detectRuntime, socketsConnect } from "../../mod.ts";
import { dataOf, load, noPackages, nothingLeft, type Package, sha, until } from "./others.ts";
import { folderFor, noPostgres, type Service, startPostgres } from "./services.ts";

const host = detectRuntime();

describe(`postgres.js on ${host.name}`, { skip: noPackages || noPostgres }, () => {
  const folder = folderFor("postgres-js");
  let service: Service & { ca: string | undefined };

  before(async () => void (service = await startPostgres()));
  after(async () => {
    await service?.stop();
    rmSync(folder, { recursive: true, force: true });
    await nothingLeft();
  });

  const options = (): object => ({
    host: "127.0.0.1",
    port: service.port,
    user: "postgres",
    password: "secret",
    database: "postgres",
    max: 2,
    onnotice: () => {},
  });

  async function exercise(sql: Package): Promise<void> {
    const blob = dataOf(1_000_000, 111);
    const [row] = await sql`SELECT ${blob}::bytea AS blob`;
    assertEquals(sha(row.blob), sha(blob));
    const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => sql`SELECT ${i}::int AS n`));
    assertEquals(answers.map(([{ n }]: Package) => n), Array.from({ length: 20 }, (_, i) => i));
    let rows = 0;
    for await (const part of sql`SELECT n FROM generate_series(1, 5000) AS n`.cursor(500)) rows += part.length;
    assertEquals(rows, 5000);
    await sql.end();
    await nothingLeft();
  }

  it("asks over streams that are there already or not: its socket option", async () => {
    const postgres = (await load("postgres")).default ?? await load("postgres");
    const socket = async (): Promise<unknown> => toDuplex(await connect({ hostname: "127.0.0.1", port: service.port }));
    await exercise(postgres({ ...options(), socket }));
    if (service.ca !== undefined) {
      await exercise(postgres({ ...options(), socket, ssl: { ca: service.ca, servername: "localhost" } }));
    }
  });

  it("asks over socketsConnect() in place of cloudflare:sockets, plain and with TLS by startTls()", async () => {
    // Its build for Workers imports that module; here it is the function that the test has put there.
    writeFileSync(
      join(folder, "sockets.mjs"),
      "export const connect = (...args) => globalThis.connectForPostgres(...args);\n",
    );
    const bundle = join(folder, "postgres.mjs");
    const builder = join(process.cwd(), "node_modules", "esbuild", "bin", "esbuild");
    execFileSync(builder, [
      join(process.cwd(), "tests", "bridges", "node_modules", "postgres", "cf", "src", "index.js"),
      ...["--bundle", "--format=esm", "--platform=node", `--outfile=${bundle}`, "--log-level=error"],
      `--alias:cloudflare:sockets=${join(folder, "sockets.mjs")}`,
    ]);
    const { default: postgres } = await import(pathToFileURL(bundle).href);
    const target = globalThis as { connectForPostgres?: unknown };
    // It passes "starttls" or "off", and nothing of our authority.
    target.connectForPostgres = (address: never, given: { secureTransport?: "off" | "starttls" }) =>
      socketsConnect(address, {
        ...given,
        ...(given.secureTransport === "starttls" ? { tls: { ca: service.ca } } : {}),
      });
    await exercise(postgres(options()));
    if (service.ca !== undefined) await exercise(postgres({ ...options(), ssl: "require" }));
    delete target.connectForPostgres;
  });
});

describe(`the Sockets API on ${host.name}`, () => {
  it("delivers what was written before opened, and settles closed", async () => {
    let received = "";
    let ended = 0;
    const server = createServer((socket) => {
      socket.on("data", (chunk) => received += chunk).on("end", () => ended++).on("error", () => {});
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    const socket = socketsConnect({ hostname: "127.0.0.1", port });
    await socket.writable.getWriter().write(new TextEncoder().encode("7 bytes"));
    await socket.close();
    await socket.closed;
    await until(() => ended === 1);
    assertEquals([received, ended], ["7 bytes", 1]);
    await new Promise((resolve) => server.close(resolve));
    const refused = socketsConnect({ hostname: "127.0.0.1", port });
    const [a, b] = await Promise.allSettled([refused.opened, refused.closed]);
    assert(a.status === "rejected" && b.status === "rejected" && a.reason === b.reason);
    const nobody = toDuplex(connectNow({ hostname: "127.0.0.1", port }));
    await assertRejects(() => new Promise((resolve, reject) => nobody.on("close", resolve).on("error", reject)));
    await nothingLeft();
  });
});
