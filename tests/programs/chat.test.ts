// The chat server with hundreds of clients: rooms, one order for all, slow clients, and too few
// descriptors.

import { after, before, describe, it } from "node:test";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { RUNTIMES } from "../tools/runtimes.mjs";
import { Client, eventually, quiet, type RunningServer, startLimited, startServer } from "./workshop.ts";

const CLIENTS = 500;
const ROOMS = 10;
const LINES = 4;

/** The lines that have arrived so far. */
function lines(client: Client): string[] {
  return client.bytes.toString().split("\n").slice(0, -1);
}

function said(client: Client): string[] {
  return lines(client).filter((line) => line.startsWith("<"));
}

/** Connects, and takes a name. */
async function join(port: number, name: string, room = "lobby"): Promise<Client> {
  const client = await Client.open(port);
  await client.send(`/nick ${name}\n/join ${room}\r\n`);
  await client.until("the room", () => lines(client).includes(`* ${name} has come to ${room}`));
  return client;
}

for (const runtime of RUNTIMES) {
  describe(`chat on ${runtime}`, () => {
    let server: RunningServer;
    before(async () => {
      server = await startServer(runtime, "chat");
    });
    after(async () => {
      assertEquals(await server.stop(), null);
      assertEquals(server.printed(), "");
    });

    it("knows names, rooms and its commands", async () => {
      const ada = await join(server.port, "ada");
      const bob = await join(server.port, "bob");
      await ada.send("hello\n");
      await bob.until("a line", () => lines(bob).includes("<ada> hello"));
      await bob.send("/nick ada\n/nick two words\n/who\n/rooms\n/dance\n");
      await bob.until("the answers", () => lines(bob).at(-1) === "* there is no /dance");
      assertEquals(lines(bob).slice(-5), [
        "* you can't be ada",
        "* you can't be two words",
        "* here: ada bob",
        "* rooms: lobby",
        "* there is no /dance",
      ]);
      await bob.send("/join garden\nalone\n");
      await bob.until("its own line", () => lines(bob).at(-1) === "<bob> alone");
      await ada.until("the news", () => lines(ada).at(-1) === "* bob went to garden");
      await bob.send("/quit\n");
      await bob.untilEnd();
      assertEquals(lines(bob).at(-1), "* goodbye");
      ada.end("a last line without an end");
      await ada.untilEnd();
      assertEquals(lines(ada).slice(-2), ["<ada> a last line without an end", "* goodbye"]);
    });

    it("ends a client whose line is too long, and the others stay", async () => {
      const [long, other] = [await join(server.port, "long"), await join(server.port, "other")];
      await long.send("x".repeat(100_000));
      await long.untilEnd();
      assertEquals(lines(long).at(-1), "* your line is too long");
      await other.until("the news", () => lines(other).includes("* long has said too much"));
      other.end();
      await other.untilEnd();
    });

    it(`serves ${CLIENTS} clients in ${ROOMS} rooms: each gets all lines of its room, in one order, and nothing else`, async () => {
      const clients: Client[] = [];
      for (let i = 0; i < CLIENTS; i += 50) {
        clients.push(
          ...await Promise.all(
            Array.from({ length: 50 }, (_, j) => join(server.port, `n${i + j}`, `r${(i + j) % ROOMS}`)),
          ),
        );
      }
      const perRoom = CLIENTS / ROOMS * LINES;
      for (let line = 0; line < LINES; line++) {
        for (const [i, client] of clients.entries()) client.socket.write(`line ${line} of n${i}\n`);
        await quiet(5);
      }
      await Promise.all(clients.map((client) => client.until("all lines", () => said(client).length >= perRoom)));
      for (let room = 0; room < ROOMS; room++) {
        const heard = clients.filter((_, i) => i % ROOMS === room).map(said);
        const expected = clients.flatMap((_, i) =>
          i % ROOMS === room ? Array.from({ length: LINES }, (_, line) => `<n${i}> line ${line} of n${i}`) : []
        );
        assertEquals(heard[0]?.toSorted(), expected.toSorted());
        for (const other of heard) assertEquals(other, heard[0]);
        for (let i = room; i < CLIENTS; i += ROOMS) {
          const own = heard[0]?.filter((line) => line.startsWith(`<n${i}> `));
          assertEquals(own, Array.from({ length: LINES }, (_, line) => `<n${i}> line ${line} of n${i}`));
        }
      }
      for (const client of clients) client.socket.destroy();
      const late = await join(server.port, "late");
      await late.send("/rooms\n");
      await late.until("an answer", () => lines(late).at(-1)?.startsWith("* rooms:") === true);
      late.end();
      await late.untilEnd();
    });

    it("slows down a client that writes too much, and ends one that does not stop", async () => {
      const [quick, flooder, other] = await Promise.all(
        ["quick", "flooder", "hearer"].map((n) => join(server.port, n)),
      );
      assert(quick !== undefined && flooder !== undefined && other !== undefined);
      // More than a second's lines, but too few to count as a flood.
      const few = Array.from({ length: 30 }, (_, i) => `few ${i}`);
      await quick.send(`${few.join("\n")}\n`);
      await flooder.send("spam\n".repeat(10_000));
      await flooder.untilEnd();
      assertEquals(lines(flooder).at(-1), "* you say too much");
      await other.until("all of the quick one's", () => lines(other).includes("<quick> few 29"));
      assertEquals(said(other).filter((line) => line.startsWith("<quick>")), few.map((line) => `<quick> ${line}`));
      const spam = said(other).filter((line) => line.startsWith("<flooder>")).length;
      assert(spam > 0 && spam < 200, `${spam} lines of the flooder were heard`);
      for (const client of [quick, other]) {
        client.end();
        await client.untilEnd();
      }
    });
  });

  describe(`chat on ${runtime} with other limits`, () => {
    it("ends a client that sends nothing, or only a part of a line, for --patience", async () => {
      const server = await startServer(runtime, "chat", ["--patience", "3"]);
      const [silent, slow, talker] = [
        await join(server.port, "silent"),
        await join(server.port, "slow"),
        await join(server.port, "talker"),
      ];
      const talk = setInterval(() => talker.socket.write("still here\n"), 200);
      const drip = setInterval(() => slow.socket.write("."), 200);
      for (const client of [silent, slow]) {
        await client.untilEnd();
        assertEquals(lines(client).at(-1), "* you are too slow");
      }
      clearInterval(drip);
      await talker.until("the news", () => lines(talker).includes("* slow was too slow"));
      clearInterval(talk);
      talker.end();
      await talker.untilEnd();
      assertEquals(await server.stop(), null);
      assertEquals(server.printed(), "");
    });

    it("drops clients that do not read, with a message, and the others get everything", async () => {
      const server = await startServer(runtime, "chat", ["--rate", "1000000"]);
      const [fast, slow, talker] = [
        await join(server.port, "fast", "hall"),
        await join(server.port, "slow", "hall"),
        await join(server.port, "talker", "hall"),
      ];
      slow.socket.pause();
      const piece = "x".repeat(500);
      let count = 0;
      let dropped = false;
      // At the speed of the readers: the system's queues for the slow one must be filled.
      while (!dropped && count < 200_000) {
        const batch = Array.from({ length: 200 }, () => `${count++} ${piece}\n`);
        await talker.send(batch.join(""));
        const last = `<talker> ${count - 1} `;
        for (const client of [fast, talker]) {
          await client.until("the batch", () => client.bytes.subarray(-1500).includes(last));
        }
        dropped = fast.bytes.includes("* slow was too slow");
        for (const client of [fast, talker]) client.forget(2000);
      }
      assert(dropped, `not within ${count} lines`);
      slow.socket.resume();
      await slow.untilEnd();
      assertEquals(lines(slow).at(-1), "* you read too slowly");
      const heard = said(slow).filter((line) => line.includes(piece));
      assert(heard.length > 0 && heard.length <= count);
      heard.forEach((line, i) => assert(line.startsWith(`<talker> ${i} `), `line ${i} is ${line.slice(0, 30)}`));
      for (const client of [fast, talker]) {
        client.end();
        await client.untilEnd();
      }
      assertEquals(await server.stop(), null);
      assertEquals(server.printed(), "");
    });
  });

  describe(`chat on ${runtime} with too few descriptors`, () => {
    it("serves as many as it can, and everybody again when there is space", { skip: needs("ulimit") }, async () => {
      const server = await startLimited(runtime, "chat", 64);
      try {
        const clients = await Promise.all(
          Array.from({ length: 100 }, () => Client.open(server.port).catch(() => null)),
        );
        const there = (): Client[] =>
          clients.filter((client): client is Client => client !== null && client.received > 0);
        await eventually("some are served", () => there().length >= 20);
        await quiet(300);
        const served = there();
        assert(served.length < 64, `${served.length} are served`);
        // They are still served.
        for (const client of served.slice(0, 3)) {
          await client.send("/who\n");
          await client.until("an answer", () => client.bytes.includes("* here: "));
        }
        // It reports that at most once: a runtime may accept and drop them, or try again, silently.
        const told = server.printed().split("\n").filter((line) => line !== "");
        assert(told.length <= 1, told.join());
        for (const line of told) assertMatch(line, /EMFILE/);
        if (runtime === "deno") assertEquals(told.length, 1);
        for (const client of clients) client?.socket.destroy();
        // A client that has waited is served within a second of the last try, and leaves; then
        // everything is as before.
        for (let i = 0; i < 40; i++) {
          const client = await Client.open(server.port);
          await client.until("the welcome", () => client.received > 0);
          client.end("/quit\n");
          await client.untilEnd();
        }
      } finally {
        assertEquals(await server.stop(), null);
      }
    });
  });
}
