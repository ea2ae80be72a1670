// The ROT13 servers give the same bytes as libevent's bufferevent server, on every runtime, however
// the input is cut into pieces.

import { after, afterEach, before, describe, it } from "node:test";
import { assert, assertEquals, assertMatch, fail } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { RUNTIMES } from "../tools/runtimes.mjs";
import { Client, feed, quiet, rot13, type RunningServer, startServer } from "./workshop.ts";

const MAX_LINE = 16384;
const NL = "\n";
/** Letters in an irregular order, so that a lost, repeated or moved byte is detected. */
const letters = (count: number): string =>
  "TheQuickBrownFoxJumpsOverTheLazyDog".repeat(Math.ceil(count / 35)).slice(0, count);

interface Row {
  name: string;
  send: Buffer;
  reply: Buffer;
  /** Whether the client then finishes; the server must finish, too. Otherwise nothing more may come. */
  finish: boolean;
}

const row = (name: string, send: string | Buffer, reply: string | Buffer, finish = false): Row => ({
  name,
  send: typeof send === "string" ? Buffer.from(send, "latin1") : send,
  reply: typeof reply === "string" ? Buffer.from(reply, "latin1") : reply,
  finish,
});
const turned = (text: string): string => rot13(Buffer.from(text, "latin1")).toString("latin1");

const full = letters(MAX_LINE);
const shortLines = Array.from({ length: 300 }, (_, i) => `${letters(99).slice(i % 50)}${"x".repeat(i % 50)}\n`).join(
  "",
);
const mixed = letters(1000) + NL + letters(10);
const lines300 = (letters(99) + NL).repeat(300);
const lines1024 = (letters(99) + NL).repeat(1024);
const everyByte = Buffer.concat([
  Buffer.from(Array.from({ length: 256 }, (_, c) => c).filter((c) => c !== 10)),
  Buffer.from(NL),
]);

const ROWS: Row[] = [
  row("16383 characters and a newline, exactly MAX_LINE bytes", letters(16383) + NL, turned(letters(16383)) + NL),
  row("16384 characters and a newline", full + NL, turned(full) + NL + NL),
  row("16385 characters and a newline", full + "a" + NL, turned(full) + NL + "n" + NL),
  row(
    "20000 characters and a newline",
    letters(20000) + NL,
    turned(full) + NL + turned(letters(20000).slice(MAX_LINE)) + NL,
  ),
  row("32768 characters and a newline", full + full + NL, turned(full) + NL + turned(full) + NL + NL),
  row("16384 characters without a newline", full, turned(full) + NL),
  row("16383 characters without a newline", letters(16383), ""),
  row(
    "40000 characters and at last a newline",
    letters(40000) + NL,
    turned(letters(40000).slice(0, MAX_LINE)) + NL + turned(letters(40000).slice(MAX_LINE, 2 * MAX_LINE)) + NL +
      turned(letters(40000).slice(2 * MAX_LINE)) + NL,
  ),
  row("30000 bytes of short lines", shortLines, turned(shortLines)),
  row(
    "20 times 1000 characters, a newline and 10 characters",
    mixed.repeat(20),
    turned(mixed.repeat(20)).slice(0, -10),
  ),
  row("an unfinished line and the end", "abc", "", true),
  row("a line and the end", "abc\n", "nop\n", true),
  row("a line, an unfinished one and the end", "abc\ndef", "nop\n", true),
  row("300 lines of 100 bytes and the end", lines300, turned(lines300), true),
  row("1024 lines of 100 bytes and the end", lines1024, turned(lines1024), true),
  row("an over-long line and the end", full + "abc", turned(full) + NL, true),
  row("a zero byte", "a\0b\n", "n\0o\n"),
  row("CR LF", "Hello\r\n", "Uryyb\r\n"),
  row("a lone CR", "a\rb\n", "n\ro\n"),
  row("an empty line", "\n", "\n"),
  row("many empty lines", "\n\n\n\n\n", "\n\n\n\n\n"),
  row("every byte", everyByte, rot13(everyByte)),
  row(
    "bytes that are no UTF-8",
    Buffer.from([0xff, 0xfe, 0xc3, 0x28, 0x80, 0x0a]),
    Buffer.from([0xff, 0xfe, 0xc3, 0x28, 0x80, 0x0a]),
  ),
  row("nothing and the end", "", "", true),
];

/**
 * Cuts at which a server may fail: none, pieces of one byte around important places, odd pieces.
 */
const WAYS: { name: string; cut(bytes: Buffer): Buffer[] }[] = [
  { name: "at once", cut: (bytes) => [bytes] },
  { name: "in two, the last byte apart", cut: (bytes) => [bytes.subarray(0, -1), bytes.subarray(-1)] },
  {
    name: "in pieces of 4099 bytes",
    cut: (bytes) =>
      Array.from({ length: Math.ceil(bytes.length / 4099) }, (_, i) => bytes.subarray(i * 4099, (i + 1) * 4099)),
  },
];

function sameBytes(actual: Buffer, expected: Buffer): void {
  if (actual.equals(expected)) return;
  let at = 0;
  while (at < actual.length && actual[at] === expected[at]) at++;
  const show = (bytes: Buffer): string => JSON.stringify(bytes.subarray(at, at + 20).toString("latin1"));
  fail(`${actual.length} bytes for ${expected.length}; from byte ${at} on ${show(actual)} for ${show(expected)}`);
}

const PROGRAMS = ["rot13_fork", "rot13_bufferevent", "rot13_events", "rot13_select", "rot13_busypoll"];

for (const runtime of RUNTIMES) {
  for (const program of PROGRAMS) {
    describe(`${program} on ${runtime}`, () => {
      let server: RunningServer;
      before(async () => {
        server = await startServer(runtime, program);
      });
      afterEach(() => Client.resetAll());
      after(async () => {
        assertEquals(await server.stop(), null);
        // The server that never waits prints its cost at the end.
        if (program === "rot13_busypoll") assertMatch(server.printed(), /^\d+ polls, \d+ of them useless\n$/);
        else assertEquals(server.printed(), "");
      });

      for (const { name, send, reply, finish } of ROWS) {
        it(`answers ${name}`, async () => {
          await Promise.all(WAYS.map(async ({ cut }) => {
            const client = await Client.open(server.port);
            const pieces = cut(send).filter((piece) => piece.length > 0);
            for (const [i, piece] of pieces.entries()) {
              const last = i === pieces.length - 1;
              if (last && finish) client.end(piece);
              else await client.send(piece);
              // A pause, so that pieces arrive as pieces.
              if (!last) await quiet(5);
            }
            if (finish) {
              if (pieces.length === 0) client.end();
              await client.untilEnd();
            } else {
              await client.untilReceived(reply.length);
              await quiet(30);
              assert(!client.ended && !client.closed, "the server has finished");
              client.reset();
            }
            sameBytes(client.bytes, reply);
          }));
        });
      }

      it("keeps an unfinished line until its end arrives", async () => {
        const client = await Client.open(server.port);
        await client.send(letters(16383));
        await quiet(100);
        assertEquals(client.received, 0);
        client.end(NL);
        await client.untilEnd();
        sameBytes(client.bytes, Buffer.from(turned(letters(16383)) + NL));
      });

      it("finishes after a client that has its replies and then finishes", async () => {
        const client = await Client.open(server.port);
        await client.send("abc\n");
        await client.untilReceived(4);
        await quiet(30);
        client.end();
        await client.untilEnd();
        sameBytes(client.bytes, Buffer.from("nop\n"));
      });

      const port = (): string => String(server.port);
      const clients: { name: string; run(input: Buffer): ReturnType<typeof feed> }[] = [
        { name: "nc -N", run: (input) => feed("nc", ["-N", "127.0.0.1", port()], input) },
        // -t: the time to wait for the rest of the reply after it has finished.
        { name: "socat", run: (input) => feed("socat", ["-t", "50", "-", `TCP:127.0.0.1:${port()}`], input) },
      ];
      for (const client of clients) {
        it(`answers ${client.name}`, { skip: needs(client.name) }, async () => {
          const hello = await client.run(Buffer.from("Hello\n"));
          assertEquals(hello.code, 0);
          assertEquals(hello.stdout.toString(), "Uryyb\n");
          for (const { send, reply } of ROWS) {
            const { code, stdout } = await client.run(send);
            assertEquals(code, 0);
            // A client that finishes: the same result, since an unfinished line is dropped at the
            // end.
            sameBytes(stdout, reply);
          }
        });
      }

      // A thread takes some time to start, and there are at most 32 of them.
      const connections = program === "rot13_fork" ? 36 : 100;
      it(`serves ${connections} connections at once, each with its own bytes`, async () => {
        await Promise.all(Array.from({ length: connections }, async (_, i) => {
          const text = Array.from({ length: 50 }, (_, line) => `${letters(i)} ${i} ${line}\n`).join("");
          const client = await Client.open(server.port);
          for (let at = 0; at < text.length; at += 977) await client.send(text.slice(at, at + 977));
          client.end();
          await client.untilEnd();
          sameBytes(client.bytes, Buffer.from(turned(text)));
        }));
      });
    });
  }
}
