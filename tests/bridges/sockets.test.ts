/** `socketsConnect()` under libraries for `cloudflare:sockets`: postgres.js; and postgres.js with its `socket` option. */

import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";
import { after, before, describe, it } from "node:test";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { toDuplex } from "../../bridges/duplex.ts";
import { BEV_EVENT_EOF, connect, connectNow, detectRuntime, serve, SocketError, socketsConnect } from "../../mod.ts";
import { makeCertificates } from "../conformance/certificates.ts";
import { needs } from "../tools/needs.ts";
import { dataOf, load, noPackages, nothingLeft, type Package, pause, sha, until, within } from "./others.ts";
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

  it("works over streams that are connected or connecting: its socket option", async () => {
    const postgres = (await load("postgres")).default ?? await load("postgres");
    const socket = async (): Promise<unknown> => toDuplex(await connect({ hostname: "127.0.0.1", port: service.port }));
    await exercise(postgres({ ...options(), socket }));
    if (service.ca !== undefined) {
      await exercise(postgres({ ...options(), socket, ssl: { ca: service.ca, servername: "localhost" } }));
    }
  });

  it("works over socketsConnect() in place of cloudflare:sockets, plain and with TLS by startTls()", async () => {
    // Its build for Workers imports that module; here the test replaces the module with its own
    // function.
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
  it("delivers bytes that were written before opened, and settles closed", async () => {
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

  /** A server of node:net whose only connection is given to the test. */
  async function peer(): Promise<{ port: number; socket(): Promise<Socket>; stop(): Promise<void> }> {
    const server = createServer({ allowHalfOpen: true });
    const connected = new Promise<Socket>((resolve) => server.on("connection", resolve));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return {
      port: (server.address() as { port: number }).port,
      socket: () => within("a connection", connected.then((socket) => socket.on("error", () => {}))),
      stop: () => new Promise((resolve) => server.close(() => resolve())),
    };
  }

  it("settles closed once, however the connection ends", async () => {
    const ways: Record<string, (ours: ReturnType<typeof socketsConnect>, theirs: Socket) => unknown> = {
      "close()": (ours) => ours.close(),
      async "the peer's end, which is read"(ours, theirs) {
        theirs.end("bye");
        const reader = ours.readable.getReader();
        while (!(await reader.read()).done) { /* All bytes are read. */ }
      },
      "a reset of the peer": (_ours, theirs) => void theirs.resetAndDestroy(),
      async "both streams"(ours, theirs) {
        theirs.end();
        await ours.writable.close();
        await ours.readable.getReader().read();
      },
      "abort() of writable": (ours) => void ours.writable.abort(new Error("enough")).catch(() => {}),
    };
    for (const [name, end] of Object.entries(ways)) {
      const there = await peer();
      const ours = socketsConnect({ hostname: "127.0.0.1", port: there.port });
      const theirs = await there.socket();
      await within(`opened before ${name}`, ours.opened);
      let settled = 0;
      const closed = ours.closed.then(() => settled++, () => settled += 10);
      await pause(20);
      assertEquals(settled, 0, name);
      await end(ours, theirs);
      await within(`closed after ${name}`, closed);
      assertEquals(settled, 1, name);
      theirs.destroy();
      await there.stop();
      await nothingLeft();
    }
  });

  it("finishes writable at the peer's end, unless allowHalfOpen", async () => {
    for (const allowHalfOpen of [false, true]) {
      const there = await peer();
      const ours = socketsConnect({ hostname: "127.0.0.1", port: there.port }, { allowHalfOpen });
      const theirs = await there.socket();
      let answer = "";
      theirs.on("data", (chunk) => answer += chunk).end("question");
      const reader = ours.readable.getReader();
      while (!(await reader.read()).done) { /* All bytes are read. */ }
      const writer = ours.writable.getWriter();
      const outcome = await writer.write(new TextEncoder().encode("answer")).then(() => true, () => false);
      assertEquals(outcome, allowHalfOpen);
      await writer.close().catch(() => {});
      await within("closed", ours.closed);
      await until(() => theirs.readableEnded || theirs.destroyed);
      assertEquals(answer, allowHalfOpen ? "answer" : "");
      theirs.destroy();
      await there.stop();
      await nothingLeft();
    }
  });

  it("carries bytes with bounded memory while the peer stalls, both ways", async () => {
    const there = await peer();
    const ours = socketsConnect({ hostname: "127.0.0.1", port: there.port });
    const theirs = await there.socket();
    theirs.pause();
    const data = dataOf(32_000_000, 121);
    let taken = 0;
    const writing = (async () => {
      const writer = ours.writable.getWriter();
      for (; taken < data.length; taken += 100_000) await writer.write(data.subarray(taken, taken + 100_000));
      await writer.close();
    })();
    theirs.end(data);
    await pause(300);
    assert(taken < 20_000_000, `${taken} bytes were taken`);
    const received: Uint8Array[] = [];
    theirs.on("data", (chunk: Uint8Array) => received.push(chunk)).resume();
    await within("all is written", writing);
    const got: Uint8Array[] = [];
    for await (const chunk of ours.readable as unknown as AsyncIterable<Uint8Array>) got.push(chunk);
    await within("closed", ours.closed);
    await until(() => theirs.readableEnded);
    assertEquals([sha(...received), sha(...got)], [sha(data), sha(data)]);
    theirs.destroy();
    await there.stop();
    await nothingLeft();
  });

  it("returns a socket with its own opened and closed from startTls()", { skip: needs("openssl") }, async () => {
    const folder = mkdtempSync(join(tmpdir(), "trivent-sockets-"));
    const { ca, cert, key } = makeCertificates(folder)!;
    const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
      open: (bev) => void bev.startTls({ cert, key }),
      line: (bev, line) => {
        bev.write(line);
        bev.shutdown();
      },
      event: (bev, what) => void ((what & BEV_EVENT_EOF) !== 0 && bev.close()),
    });
    for (const authority of [ca, undefined]) {
      const first = socketsConnect({ hostname: "127.0.0.1", port: server.port! }, { secureTransport: "starttls" });
      const { localAddress } = await within("opened of the first", first.opened);
      const secure = first.startTls({ ca: authority, expectedServerHostname: "localhost" });
      let over = "";
      const closed = secure.closed.then(() => over = "resolved", () => over = "rejected");
      await within("closed of the first", first.closed);
      assertEquals([first.upgraded, await first.opened.then((info) => info.localAddress)], [true, localAddress]);
      const opened = await within(
        "opened of the second",
        secure.opened.then((info) => info.localAddress, (error) => error),
      );
      if (authority === undefined) {
        assert(opened instanceof SocketError && opened.code === "ERR_TLS_CERT", `${opened}`);
        await within("closed of the second", closed);
        assertEquals(over, "rejected");
        continue;
      }
      assertEquals([opened, over], [localAddress, ""]);
      await secure.writable.getWriter().write("there and back\n");
      const reader = secure.readable.getReader();
      let text = "";
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        text += new TextDecoder().decode(part.value);
      }
      await within("closed of the second", closed);
      assertEquals([text, over], ["there and back", "resolved"]);
    }
    await server.close({ graceMs: 1000 });
    rmSync(folder, { recursive: true, force: true });
    await nothingLeft();
  });
});

/** The types are the same on each runtime, so that one compiles them. */
const noTypes = noPackages || (host.name !== "node" && "the types of Cloudflare are compared on Node");

describe("the Sockets API and the types of Cloudflare", { skip: noTypes }, () => {
  it("compile a program for Workers against both, with only the known differences", () => {
    const folder = join(process.cwd(), "tests", "bridges", "cloudflare");
    const scratch = mkdtempSync(join(tmpdir(), "trivent-types-"));
    const compile = (files: string[], options: object): void => {
      const config = join(scratch, "tsconfig.json");
      writeFileSync(
        config,
        JSON.stringify({
          compilerOptions: {
            ...{ target: "ES2022", lib: ["ESNext"], module: "ESNext", moduleResolution: "bundler", strict: true },
            ...{ noEmit: true, skipLibCheck: true, allowImportingTsExtensions: true },
            ...options,
          },
          files,
        }),
      );
      const compiler = join(process.cwd(), "node_modules", "typescript", "bin", "tsc");
      const { status, stdout } = spawnSync(process.execPath, [compiler, "-p", config], { encoding: "utf8" });
      assertEquals([status, stdout], [0, ""]);
    };
    const program = join(folder, "program.ts");
    const types = join(folder, "..", "node_modules", "@cloudflare", "workers-types", "index.d.ts");
    compile([program, join(folder, "difference.ts")], { types: [types] });
    const ours = join(scratch, "sockets.ts");
    writeFileSync(
      ours,
      `export { socketsConnect as connect } from ${JSON.stringify(join(process.cwd(), "mod.ts"))};\n`,
    );
    compile([program], {
      types: [join(process.cwd(), "node_modules", "@types", "node", "index.d.ts")],
      paths: { "cloudflare:sockets": [ours] },
    });
    rmSync(scratch, { recursive: true, force: true });
  });
});
