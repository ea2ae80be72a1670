// The servers with threads: one for each connection, or one poller for each thread. A client's
// thread ends with the client, and no client sees data of another.

import { after, afterEach, before, describe, it } from "node:test";
import { readdirSync } from "node:fs";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { RUNTIMES } from "../tools/runtimes.mjs";
import {
  assertHeldLess,
  Client,
  eventually,
  feed,
  type MeasuredServer,
  oneLine,
  openSockets,
  quiet,
  residentMiB,
  rot13,
  runProgram,
  startMeasured,
  startServer,
  untilClosed,
} from "./workshop.ts";

const MIB = 1 << 20;
/** A runtime's own threads begin and end, but not in such numbers. */
const OWN_THREADS = 6;
const MAX_CHILDREN = 32;

/** How many threads a process has. */
function threads(pid: number): number {
  return needs("/proc") ? 0 : readdirSync(`/proc/${pid}/task`).length;
}

/**
 * Sends without reading until the server accepts nothing more. Fails if the server accepts
 * everything or holds much.
 */
async function refusesToRead(server: MeasuredServer, serves: () => Promise<void>): Promise<void> {
  const residentBefore = residentMiB(server.pid);
  const client = await Client.open(server.port);
  client.socket.pause();
  let taken = 0;
  for (let i = 0; i < 48; i++) client.socket.write(Buffer.alloc(MIB, "The quick brown fox\n"), () => taken++);
  for (let last = -1; last !== taken; await quiet(500)) last = taken;
  assert(taken < 48, "the server has taken everything, though nobody reads what it answers");
  await serves();
  await assertHeldLess(server, residentBefore, 64);
  client.reset();
  await serves();
}

for (const runtime of RUNTIMES) {
  describe(`rot13_fork on ${runtime}`, () => {
    let server: MeasuredServer;
    let threadsBefore: number;
    let socketsBefore: number;

    async function serves(): Promise<void> {
      const client = await Client.open(server.port);
      await client.send("Hello\n");
      await client.untilReceived(6);
      client.end("World\n");
      await client.untilEnd();
      assertEquals(client.bytes.toString(), "Uryyb\nJbeyq\n");
    }

    /** Checks that no child and no socket is left. */
    async function reaped(): Promise<void> {
      await eventually("the children are reaped", () => threads(server.pid) <= threadsBefore + OWN_THREADS);
      await untilClosed(server.pid, socketsBefore);
    }

    before(async () => {
      server = await startMeasured(runtime, "rot13_fork");
      threadsBefore = threads(server.pid);
      await serves();
      await quiet(50);
      socketsBefore = openSockets(server.pid);
    });
    afterEach(() => Client.resetAll());
    after(async () => {
      try {
        await reaped();
      } finally {
        assertEquals(await server.stop(), null);
      }
      assertEquals(server.printed(), "");
    });

    it("has a thread for each connection, with a separate line, and reaps it after the connection", {
      skip: needs("/proc"),
    }, async () => {
      const count = 16;
      const clients = await Promise.all(Array.from({ length: count }, () => Client.open(server.port)));
      await Promise.all(clients.map((client, i) => client.send(`Client ${i} and `)));
      await eventually("there are children", () => threads(server.pid) >= threadsBefore + count);
      await Promise.all(clients.map(async (client, i) => {
        client.end(`half a line of ${i}\nrest`);
        await client.untilEnd();
        assertEquals(client.bytes.toString(), rot13(`Client ${i} and half a line of ${i}\n`).toString());
      }));
      await reaped();
    });

    it("reaps the children of clients that reset, at any moment", async () => {
      for (let i = 0; i < 9; i++) {
        const client = await Client.open(server.port);
        if (i % 3 === 0) await client.send("half a l");
        if (i % 3 === 1) {
          client.socket.pause();
          await client.send("a line of which the answer is not read\n".repeat(1000));
        }
        if (i % 2 === 0) await quiet(100);
        client.reset();
      }
      await serves();
      await reaped();
    });

    it("makes a client wait if all children are busy, and serves it later", async () => {
      const clients = await Promise.all(Array.from({ length: MAX_CHILDREN + 8 }, () => Client.open(server.port)));
      for (const client of clients) await client.send("abc\n");
      const answered = (): Client[] => clients.filter((client) => client.received === 4);
      await eventually("the children have answered", () => answered().length === MAX_CHILDREN);
      await quiet(200);
      assertEquals(answered().length, MAX_CHILDREN);
      const served = answered();
      for (const client of served) client.end();
      await Promise.all(clients.map((client) => client.untilReceived(4)));
      for (const client of clients) if (!served.includes(client)) client.end();
      await Promise.all(clients.map((client) => client.untilEnd()));
      await reaped();
    });

    it("slows down a client that does not read, and serves the others", { skip: needs("/proc") }, async () => {
      await refusesToRead(server, serves);
      await reaped();
    });

    it("loses nothing of a large reply to a client that finishes at once and reads late", async () => {
      const client = await Client.open(server.port);
      client.socket.pause();
      const text = Buffer.alloc(2 * MIB, "The quick brown fox jumps over the lazy dog\n");
      text[text.length - 1] = 10;
      client.end(text);
      await quiet(300);
      client.socket.resume();
      await client.untilEnd();
      assert(client.bytes.equals(rot13(text)), `the reply differs: ${client.received} bytes for ${text.length}`);
    });

    it("holds nothing of 150 clients that have left", { skip: needs("/proc") }, async () => {
      const residentBefore = residentMiB(server.pid);
      for (let i = 0; i < 150; i += 5) await Promise.all(Array.from({ length: 5 }, serves));
      await reaped();
      await assertHeldLess(server, residentBefore, 128);
    });

    it("ends with exit code 0 at SIGTERM and SIGINT, its children with it", async () => {
      for (const signal of ["SIGTERM", "SIGINT"]) {
        const other = await startServer(runtime, "rot13_fork");
        const client = await Client.open(other.port);
        await client.send("abc\nde");
        await client.untilReceived(4);
        const how = await other.stop(signal);
        client.socket.destroy();
        assertEquals(how, null);
        assertEquals(other.printed(), "");
      }
    });

    it("prints one line about wrong arguments, or a used port", async () => {
      const wrong = await runProgram(runtime, "rot13_fork", ["x"]);
      assertEquals(wrong.code, 2);
      assertMatch(oneLine(wrong), /usage: rot13_fork \[port\]$/);
      const taken = await runProgram(runtime, "rot13_fork", [String(server.port)]);
      assertEquals(taken.code, 1);
      assertMatch(oneLine(taken), /EADDRINUSE/);
    });
  });

  describe(`epoll_workers on ${runtime}`, () => {
    const count = 3;
    let server: MeasuredServer;
    /**
     * The number of clients that were served completely. Others were reset before they were
     * accepted.
     */
    let connections = 0;

    async function serves(): Promise<void> {
      connections++;
      const client = await Client.open(server.port);
      await client.send("Hello\n");
      await client.untilReceived(6);
      client.end("World\n");
      await client.untilEnd();
      assertEquals(client.bytes.toString(), "Hello\nWorld\n");
    }

    before(async () => {
      server = await startMeasured(runtime, "epoll_workers", [String(count)]);
    });
    afterEach(() => Client.resetAll());
    after(async () => {
      const client = await Client.open(server.port);
      await client.send("still here");
      await client.untilReceived(10);
      connections++;
      // The number of sockets shows nothing: a thread of Bun or Deno may have its own.
      const how = await server.stop();
      client.socket.destroy();
      assertEquals(how, null);
      const had = [...server.printed().matchAll(/^thread \d: (\d+) connections$/gm)].map((match) => Number(match[1]));
      assertEquals(had.length, count);
      assertEquals(had.reduce((sum, n) => sum + n, 0), connections);
      assert(had.filter((n) => n > 0).length > 1, `one thread had everything: ${had}`);
      assertEquals(server.printed().replaceAll(/^thread .*\n/gm, ""), "");
    });

    it("serves 60 connections at once, each with its own bytes", { skip: needs("/proc") }, async () => {
      assert(threads(server.pid) >= count + 1);
      await Promise.all(Array.from({ length: 60 }, async (_, i) => {
        connections++;
        const text = Array.from({ length: 200 }, (_, line) => `line ${line} of ${i}\n`).join("");
        const client = await Client.open(server.port);
        for (let at = 0; at < text.length; at += 977) await client.send(text.slice(at, at + 977));
        client.end();
        await client.untilEnd();
        assertEquals(client.bytes.toString(), text);
      }));
    });

    it("echoes 4 MiB to nc and socat", { skip: needs("nc -N", "socat") }, async () => {
      const text = Buffer.alloc(4 * MIB, "The quick brown fox jumps over the lazy dog\n");
      for (
        const [file, ...args] of [["nc", "-N", "127.0.0.1", `${server.port}`], [
          "socat",
          "-t",
          "50",
          "-",
          `TCP:127.0.0.1:${server.port}`,
        ]] as const
      ) {
        connections++;
        const { code, stdout } = await feed(file, args, text);
        assertEquals(code, 0);
        assert(stdout.equals(text), `${file}: ${stdout.length} bytes for ${text.length}`);
      }
    });

    it("slows down a client that does not read, and serves the others", { skip: needs("/proc") }, async () => {
      connections++;
      await refusesToRead(server, async () => {
        for (let i = 0; i < 12; i++) await serves();
      });
    });

    it("survives clients that reset", async () => {
      for (let i = 0; i < 12; i++) {
        const client = await Client.open(server.port);
        await client.send("abc");
        await client.untilReceived(3);
        connections++;
        client.socket.pause();
        client.socket.write(Buffer.alloc(MIB));
        if (i % 2 === 0) await quiet(20);
        client.reset();
      }
      await serves();
    });

    it("prints one line about wrong arguments", async () => {
      for (const args of [["x"], ["0", "0"], ["0", "x"], ["0", "65"], ["0", "1", "2"]]) {
        const wrong = await runProgram(runtime, "epoll_workers", args);
        assertEquals(wrong.code, 2);
        assertMatch(oneLine(wrong), /usage: epoll_workers \[port\] \[threads\]$/);
      }
    });

    it("prints one line if the port is in use", async () => {
      const other = await startServer(runtime, "echo_listener");
      const taken = await runProgram(runtime, "epoll_workers", [String(other.port), "2"]);
      assertEquals(await other.stop(), null);
      assertEquals(taken.code, 1);
      assertMatch(oneLine(taken), /EADDRINUSE/);
    });
  });
}
