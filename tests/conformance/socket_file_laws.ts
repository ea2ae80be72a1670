/** The file of a listening unix socket, in the file system of the machine. */

import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer, type Server as NetServer } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "./suite.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { EventError, type Server } from "../../core/mod.ts";
import { on } from "./on.ts";
import { type FullSubject, temporaryFolder } from "./subject.ts";

/** Tests one runtime. */
export function socketFileLaws(name: string, makeSubject: () => FullSubject): void {
  const { runtime: host, ownNetwork } = makeSubject();
  const { connect, serve } = on(host);
  const directory = (): string => temporaryFolder("files");
  let paths = 0;

  /** A separate directory for each test, so that its content is known. */
  function empty(): string {
    const path = join(directory(), String(paths++));
    mkdirSync(path);
    return path;
  }

  function greeter(path: string, greeting: string): Promise<Server> {
    return serve({ path }, { open: (bev) => (bev.write(greeting), void bev.close()) });
  }

  /** Another program's server. */
  function stranger(path: string, greeting: string): Promise<NetServer> {
    return new Promise((resolve, reject) => {
      const server = createServer((socket) => void socket.end(greeting));
      server.on("error", reject).listen(path, () => resolve(server));
    });
  }

  async function greeted(path: string): Promise<string> {
    const client = await connect({ path }, {});
    assertEquals(client.remoteAddress, { path });
    let text = "";
    for await (const chunk of client) text += new TextDecoder().decode(chunk);
    await client.close();
    return text;
  }

  async function codeOf(promise: Promise<unknown>): Promise<string> {
    return (await assertRejects(() => promise, EventError) as EventError).code;
  }

  async function nothingOpen(): Promise<void> {
    for (let i = 0; i < 4000 && host.openHandles > 0; i++) await new Promise((resolve) => setTimeout(resolve, 10));
    assertEquals(host.openHandles, 0);
  }

  describe(`the file of a unix socket on ${name}`, {
    skip: !host.capabilities.unix ? "it has none" : ownNetwork && "its files are not the machine's",
  }, () => {
    it("is the only one that listening makes, and is removed with the server", async () => {
      const folder = empty();
      const path = join(folder, "socket");
      const server = await greeter(path, "hello");
      assertEquals([server.address, readdirSync(folder)], [{ path }, ["socket"]]);
      assertEquals(await greeted(path), "hello");
      await server.close();
      assertEquals(readdirSync(folder), []);
      await nothingOpen();
    });

    it("stays if another process has bound its path again: a close removes only its own file", async () => {
      const takeovers: [string, (path: string) => Promise<NetServer>][] = [
        ["removed and bound anew", (path) => {
          unlinkSync(path);
          return stranger(path, "stranger");
        }],
        ["replaced by another one", async (path) => {
          const server = await stranger(`${path}.new`, "stranger");
          renameSync(`${path}.new`, path);
          return server;
        }],
      ];
      for (const [what, takeOver] of takeovers) {
        const path = join(empty(), "socket");
        const ours = await greeter(path, "ours");
        assertEquals(await greeted(path), "ours");
        const theirs = await takeOver(path);
        assertEquals(await greeted(path), "stranger", what);
        await ours.close();
        assertEquals(await greeted(path), "stranger", what);
        const next = serve({ path }, {});
        assertEquals(await codeOf(next), "EADDRINUSE", what);
        assertEquals(await greeted(path), "stranger", what);
        await new Promise((resolve) => theirs.close(resolve));
      }
      await nothingOpen();
    });

    it("stays if it is a plain file by now", async () => {
      const path = join(empty(), "socket");
      const server = await greeter(path, "hello");
      unlinkSync(path);
      writeFileSync(path, "notes");
      await server.close();
      assertEquals(readFileSync(path, "utf8"), "notes");
      await nothingOpen();
    });

    it("is not replaced by default: EADDRINUSE if its path exists, with or without a listener", async () => {
      const folder = empty();
      const [stale, notes] = [join(folder, "stale"), join(folder, "notes")];
      const server = await stranger(`${stale}.first`, "");
      // A second name stays when its server closes: a stale file, as a killed process leaves one.
      linkSync(`${stale}.first`, stale);
      await new Promise((resolve) => server.close(resolve));
      writeFileSync(notes, "notes");
      const before = [stale, notes].map((path) => lstatSync(path).ino);
      for (const path of [stale, notes]) assertEquals(await codeOf(serve({ path }, {})), "EADDRINUSE");
      assertEquals([stale, notes].map((path) => lstatSync(path).ino), before);
      assertEquals(readdirSync(folder).sort(), ["notes", "stale"]);
      await nothingOpen();
    });

    it("belongs to one server if several bind it at once", async () => {
      const folder = empty();
      const path = join(folder, "socket");
      const results = await Promise.allSettled(Array.from({ length: 10 }, (_, i) => greeter(path, `server ${i}`)));
      const servers = results.flatMap((result) => result.status === "fulfilled" ? [result.value] : []);
      const codes = results.flatMap((result) => result.status === "rejected" ? [result.reason.code] : []);
      assertEquals([servers.length, codes], [1, Array(9).fill("EADDRINUSE")]);
      assertEquals(readdirSync(folder), ["socket"]);
      assert((await greeted(path)).startsWith("server "));
      await servers[0]?.close();
      assertEquals(readdirSync(folder), []);
      await nothingOpen();
    });

    it("stays with unlinkOnClose: false, and nobody listens on it", async () => {
      const path = join(empty(), "socket");
      const server = await serve({ path, unlinkOnClose: false }, {});
      await server.close();
      assert(lstatSync(path).isSocket());
      assertEquals(await codeOf(connect({ path }, {})), "ECONNREFUSED");
      assertEquals(await codeOf(serve({ path }, {})), "EADDRINUSE");
      await nothingOpen();
    });

    it("is replaced with replaceStale if nobody listens on it, and removed at the end", async () => {
      const folder = empty();
      const path = join(folder, "socket");
      await (await serve({ path, unlinkOnClose: false }, {})).close();
      const server = await serve({ path, replaceStale: true }, { open: (bev) => (bev.write("new"), void bev.close()) });
      assertEquals([readdirSync(folder), await greeted(path)], [["socket"], "new"]);
      await server.close();
      assertEquals(readdirSync(folder), []);
      // There is no file to replace.
      await (await serve({ path, replaceStale: true }, {})).close();
      await nothingOpen();
    });

    it("is not replaced with replaceStale if it has a listener or is not a socket", async () => {
      const folder = empty();
      const [path, notes] = [join(folder, "socket"), join(folder, "notes")];
      const theirs = await stranger(path, "stranger");
      writeFileSync(notes, "notes");
      for (const each of [path, notes]) {
        assertEquals(await codeOf(serve({ path: each, replaceStale: true }, {})), "EADDRINUSE");
      }
      assertEquals([await greeted(path), readFileSync(notes, "utf8")], ["stranger", "notes"]);
      assertEquals(readdirSync(folder).sort(), ["notes", "socket"]);
      await new Promise((resolve) => theirs.close(resolve));
      await nothingOpen();
    });

    it("belongs to one server if several replace a stale one at once", async () => {
      const folder = empty();
      const path = join(folder, "socket");
      await (await serve({ path, unlinkOnClose: false }, {})).close();
      const results = await Promise.allSettled(
        Array.from({ length: 10 }, () => serve({ path, replaceStale: true }, {})),
      );
      const servers = results.flatMap((result) => result.status === "fulfilled" ? [result.value] : []);
      const codes = results.flatMap((result) => result.status === "rejected" ? [result.reason.code] : []);
      assertEquals([servers.length, codes], [1, Array(9).fill("EADDRINUSE")]);
      assertEquals(readdirSync(folder), ["socket"]);
      await (await connect({ path }, {})).close();
      await servers[0]?.close();
      assertEquals(readdirSync(folder), []);
      await nothingOpen();
    });

    it("gives EACCES if it must not be replaced", {
      skip: process.platform !== "linux"
        ? "it is known of Linux alone"
        : process.getuid?.() === 0 && "root may do everything",
    }, async () => {
      const folder = empty();
      const path = join(folder, "socket");
      await (await serve({ path, unlinkOnClose: false }, {})).close();
      chmodSync(folder, 0o500);
      try {
        assertEquals(await codeOf(serve({ path, replaceStale: true }, {})), "EACCES");
      } finally {
        chmodSync(folder, 0o700);
      }
      await nothingOpen();
    });

    it("has the permissions that the process gives to files", async () => {
      const folder = empty();
      const theirs = await stranger(join(folder, "theirs"), "");
      const ours = await greeter(join(folder, "ours"), "");
      assertEquals(lstatSync(join(folder, "ours")).mode, lstatSync(join(folder, "theirs")).mode);
      await ours.close();
      await new Promise((resolve) => theirs.close(resolve));
      await nothingOpen();
    });

    it("may have a path of any length that the system accepts", {
      skip: process.platform !== "linux" && "it is known of Linux alone",
    }, async () => {
      const folder = empty();
      // The last paths have no space for another name.
      for (const length of [90, 99, 100, 101, 106, 107]) {
        const path = join(folder, "d".repeat(length - folder.length - 3), "s");
        mkdirSync(join(path, ".."));
        assertEquals(path.length, length);
        const server = await greeter(path, "hello");
        assertEquals(await greeted(path), "hello");
        await server.close();
        assertEquals(existsSync(path), false);
      }
      const path = join(folder, "s".repeat(108 - folder.length - 1));
      assertEquals([path.length, await codeOf(serve({ path }, {}))], [108, "EINVAL"]);
      await nothingOpen();
    });

    it("cannot be kept if the runtime would remove it: unlinkOnClose: false is refused with a message", {
      skip: process.platform !== "linux" && "it is known of Linux alone",
    }, async () => {
      const folder = empty();
      // The path has no space for another name.
      const path = join(folder, "d".repeat(107 - folder.length - 3), "s");
      mkdirSync(join(path, ".."));
      assertEquals(path.length, 107);
      const error = await assertRejects(() => serve({ path, unlinkOnClose: false }, {}), EventError) as EventError;
      assertEquals(error.code, "EV_UNSUPPORTED");
      assert(error.message.includes("and leave the file (unlinkOnClose: false)"), error.message);
      for (let i = 0; i < 2000 && existsSync(path); i++) await new Promise((resolve) => setTimeout(resolve, 10));
      assertEquals(readdirSync(join(path, "..")), []);
      await nothingOpen();
    });

    it("is removed at the end even if the working directory has changed", async () => {
      const folder = empty();
      const before = process.cwd();
      process.chdir(folder);
      try {
        const server = await greeter("socket", "hello");
        assertEquals([server.address, await greeted("socket")], [{ path: "socket" }, "hello"]);
        process.chdir(before);
        await server.close();
        assertEquals(readdirSync(folder), []);
      } finally {
        process.chdir(before);
      }
      await nothingOpen();
    });

    it("may be removed while the server runs: connected clients stay, and the server closes as usual", async () => {
      const path = join(empty(), "socket");
      const server = await serve({ path }, { read: (bev) => void bev.writeBuffer(bev.input) });
      const client = await connect({ path }, {});
      unlinkSync(path);
      client.write("still there?");
      client.shutdown();
      let text = "";
      for await (const chunk of client) text += new TextDecoder().decode(chunk);
      assertEquals(text, "still there?");
      await client.close();
      await server.close();
      await nothingOpen();
    });
  });
}
