// The chat gateway: two on the same broker; brokers that refuse, are missing or die; and the whole
// cluster.

import { createServer } from "node:net";
import { after, before, describe, it } from "node:test";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { runCluster } from "../tools/cluster.mjs";
import { needs } from "../tools/needs.ts";
import { start } from "../tools/processes.mjs";
import { exampleCommand, plainEnvironment, ROOT, RUNTIMES } from "../tools/runtimes.mjs";
import { Client, eventually, quiet, type RunningServer, runProgram, startServer } from "./workshop.ts";

const CLUSTER_CLIENTS = 300;
const withoutNats = needs("nats-server");

interface Broker {
  url: string;
  port: number;
  stop(signal?: string): Promise<string | null>;
}

/** Starts a broker; with port 0 on a free port. */
async function startBroker(port = 0, ...args: string[]): Promise<Broker> {
  const broker = await start("nats-server", ["-a", "127.0.0.1", "-p", String(port || -1), ...args], {
    ready: /Listening for client connections on 127\.0\.0\.1:(\d+)[^]*Server is ready/,
  });
  const actual = Number(broker.match[1]);
  return { url: `nats://127.0.0.1:${actual}`, port: actual, stop: broker.stop };
}

function lines(client: Client): string[] {
  return client.bytes.toString().split("\n").slice(0, -1);
}

/** Connects, takes a name and enters a room. */
async function join(port: number, nick: string, room: string): Promise<Client> {
  const client = await Client.open(port);
  await client.send(`NICK ${nick}\r\nJOIN ${room}\n`);
  await client.until("the room", () => lines(client).includes(`* you are in ${room}`));
  return client;
}

let rounds = 0;

/**
 * Both send until the other receives it: a broker takes a moment to know a new member. Then no
 * earlier line is still on its way, because lines of one gateway stay in order.
 */
async function untilHeard(one: Client, other: Client, room: string): Promise<void> {
  for (const [from, to] of [[one, other], [other, one]] as const) {
    const words = `do you hear ${++rounds}`;
    let probe = 0;
    await eventually("the other hears", () => {
      from.socket.write(`SAY ${room} ${words}.${++probe}\n`);
      return lines(to).some((line) => line.includes(`${words}.`));
    });
    await to.until("the last probe", () => lines(to).some((line) => line.endsWith(`${words}.${probe}`)));
  }
}

for (const runtime of RUNTIMES) {
  describe(`gateway on ${runtime}`, { skip: withoutNats }, () => {
    let broker: Broker;
    let first: RunningServer;
    let second: RunningServer;
    before(async () => {
      broker = await startBroker();
      [first, second] = await Promise.all([
        startServer(runtime, "gateway", [broker.url]),
        startServer(runtime, "gateway", [broker.url]),
      ]) as [RunningServer, RunningServer];
    });
    after(async () => {
      Client.resetAll();
      assertEquals(await first.stop(), null);
      assertEquals(await second.stop(), null);
      assertEquals([first.printed(), second.printed()], ["", ""]);
      await broker.stop("SIGKILL");
    });

    it("carries lines between gateways, but not back to the sender", async () => {
      const ada = await join(first.port, "ada", "tea");
      const bob = await join(second.port, "bob", "tea");
      const cleo = await join(second.port, "cleo", "coffee");
      await untilHeard(ada, bob, "tea");
      const [adaBefore, bobBefore] = [lines(ada).length, lines(bob).length];
      await ada.send("SAY tea one  two \nSAY coffee x\nsay tea ünï\u0007cödé\n");
      await bob.until("the lines", () => lines(bob).at(-1) === "tea ada ünïcödé");
      assertEquals(lines(bob).slice(bobBefore), ["tea ada one  two ", "tea ada ünïcödé"]);
      await ada.until("its answer", () => lines(ada).length > adaBefore);
      assertEquals(lines(ada).slice(adaBefore), ["* you are not in coffee"]);
      assertEquals(lines(cleo).filter((line) => !line.startsWith("*")), []);
      ada.end("SAY tea a last line without an end");
      await bob.until("the news", () => lines(bob).at(-1) === "* tea ada is gone");
      assertEquals(lines(bob).at(-2), "tea ada a last line without an end");
      await ada.untilEnd();
      assertEquals(lines(ada).at(-1), "* goodbye");
    });

    it("lists the members of a room, on all gateways", async () => {
      const dan = await join(first.port, "dan", "library");
      const eve = await join(second.port, "eve", "library");
      await untilHeard(eve, dan, "library");
      await dan.send("WHO library\nWHO nowhere\nNICK dan2\nLEAVE library\nLEAVE library\n");
      await dan.until("the answers", () => lines(dan).at(-1) === "* you are not in library");
      assertEquals(lines(dan).slice(-5), [
        "* library has dan eve",
        "* nowhere has nobody",
        "* you are dan2",
        "* you have left library",
        "* you are not in library",
      ]);
      await eve.until("the news", () => lines(eve).at(-1) === "* library dan2 has left");
      assertEquals(lines(eve).slice(-2), ["* library dan is now dan2", "* library dan2 has left"]);
    });

    it("refuses bad names, too many rooms and unknown commands", async () => {
      const client = await join(first.port, "frank", "hall");
      const other = await join(first.port, "grace", "hall");
      const bad = [
        "NICK two words",
        "NICK",
        "NICK a.b",
        `NICK ${"x".repeat(33)}`,
        "JOIN *",
        "JOIN",
        "WHO >",
        "NICK grace",
      ];
      await client.send(`${bad.join("\n")}\nDANCE\nJOIN hall\n\n`);
      await client.until(
        "the answers",
        () => lines(client).at(-1) === "* you are in hall" && lines(client).length > 10,
      );
      assertEquals(lines(client).slice(-10), [
        "* you are two",
        ...Array(6).fill("* bad name"),
        "* grace is taken",
        "* there is no DANCE",
        "* you are in hall",
      ]);
      await client.send(Array.from({ length: 32 }, (_, i) => `JOIN r${i}\n`).join(""));
      await client.until("its limit", () => lines(client).at(-1) === "* you are in too many rooms");
      await client.send("x".repeat(5000));
      await client.untilEnd();
      assertEquals(lines(client).at(-1), "* your line is too long");
      await other.until("the news", () => lines(other).at(-1) === "* hall two is gone");
    });

    it("ends a client that reads too slowly, with a message", async () => {
      const slow = await join(first.port, "slow", "flood");
      const speaker = await join(second.port, "speaker", "flood");
      await untilHeard(speaker, slow, "flood");
      slow.socket.pause();
      const line = `SAY flood ${"x".repeat(900)}\n`;
      for (let sent = 0; !lines(speaker).includes("* flood slow is gone") && sent < 40_000; sent += 200) {
        await speaker.send(line.repeat(200));
      }
      await speaker.until("the news", () => lines(speaker).includes("* flood slow is gone"));
    });

    it("reports its end at SIGTERM, and serves remaining clients for a while", async () => {
      const third = await startServer(runtime, "gateway", [broker.url]);
      const [client, other] = [await join(third.port, "hugo", "porch"), await join(third.port, "ida", "porch")];
      const stopped = third.stop();
      await client.until("the news", () => lines(client).at(-1) === "* bye");
      await client.send("SAY porch still here\n");
      await other.until("a line", () => lines(other).at(-1) === "porch hugo still here");
      other.end();
      await other.untilEnd();
      assertEquals(await Client.open(third.port).then(() => "open", (error) => error.code), "ECONNREFUSED");
      await client.untilEnd();
      assertEquals(await stopped, null);
      assertEquals(third.printed(), "");
    });

    it("waits for a broker that is missing at the start, and goes on after one has died", async () => {
      const own = await startBroker();
      await own.stop("SIGKILL");
      const { file, args } = exampleCommand(runtime, "gateway", ["0", own.url]);
      const gateway = await start(file, args, { cwd: ROOT, env: plainEnvironment(), ready: /^Cannot connect/m });
      await quiet(1500);
      const revived = await startBroker(own.port);
      const portOf = (): number => Number(/^listening on \S+:(\d+)$/m.exec(gateway.output())?.[1]);
      await eventually("it listens", () => portOf() > 0);
      const port = portOf();
      const [client, other] = [await join(port, "jo", "attic"), await join(port, "kim", "attic")];
      await revived.stop("SIGKILL");
      await client.send("SAY attic nobody else is here\nWHO attic\n");
      await other.until("a line", () => lines(other).at(-1) === "attic jo nobody else is here");
      await client.until("its answer", () => lines(client).at(-1) === "* attic has jo kim");
      const again = await startBroker(own.port);
      const far = await startServer(runtime, "gateway", [again.url]);
      const visitor = await join(far.port, "lea", "attic");
      await untilHeard(client, visitor, "attic");
      Client.resetAll();
      assertEquals(await gateway.stop(), null);
      assertEquals(await far.stop(), null);
      assertMatch(
        gateway.output(),
        /^Cannot connect to a broker of 127\.0\.0\.1:\d+: .*ECONNREFUSED.*\nlistening on .*\n$/,
      );
      await again.stop("SIGKILL");
    });

    it("prints once, in one line, why it reaches no broker, and goes on trying", async () => {
      const web = createServer((socket) => void socket.on("error", () => {}).end("HTTP/1.1 400 Bad Request\r\n\r\n"));
      await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
      const { port } = web.address() as { port: number };
      for (
        const [url, words] of [
          ["nats://broker.invalid", /of broker\.invalid: .*(ENOTFOUND|EAI_AGAIN)/],
          [`nats://127.0.0.1:${port}`, /the peer is not a NATS broker: received "HTTP\/1\.1 400 Bad Request"/],
          [broker.url.replace("nats:", "tls:"), /the broker does not offer TLS/],
        ] as const
      ) {
        const { file, args } = exampleCommand(runtime, "gateway", ["0", url]);
        const ready = /^Cannot connect to a broker of .*\n/m;
        const gateway = await start(file, args, { cwd: ROOT, env: plainEnvironment(), ready });
        // It has tried again by then.
        await quiet(1500);
        assertMatch(gateway.output(), words);
        assertMatch(gateway.output(), /^[^\n]+\n$/);
        assertMatch(await gateway.stop("SIGKILL") ?? "", /SIGKILL/);
      }
      await new Promise((resolve) => web.close(resolve));
    });

    it("refuses wrong arguments and passwords in one line", async () => {
      const secret = await startBroker(0, "--user", "gateway", "--pass", "right");
      for (
        const [program, code, words] of [
          [["0", `nats://gateway:wrong@127.0.0.1:${secret.port}`], 1, /Authorization Violation/],
          [["0", "http://127.0.0.1"], 2, /Cannot take "http:\/\/127\.0\.0\.1" for a broker/],
          [["0", "nats://"], 2, /Cannot take "nats:\/\/" for a broker/],
          [
            ["0", "nats://%ZZ@127.0.0.1"],
            2,
            /Cannot take the user and password for 127\.0\.0\.1: they are not percent-encoded/,
          ],
          [["0", "nats://gateway:100%@127.0.0.1"], 2, /Cannot take the user and password for 127\.0\.0\.1/],
          [["70000"], 2, /Cannot take "70000" for a port/],
          [["0", "nats://127.0.0.1", "more"], 2, /Cannot take the argument "more"/],
        ] as const
      ) {
        const ended = await runProgram(runtime, "gateway", program);
        assertEquals([ended.code, ended.stdout.length], [code, 0], ended.stderr);
        assertMatch(ended.stderr, words);
        assertMatch(ended.stderr, /^[^\n]+\n$/);
      }
      const trusted = await startServer(runtime, "gateway", [`nats://gateway:right@127.0.0.1:${secret.port}`]);
      assertEquals(await trusted.stop(), null);
      await secret.stop("SIGKILL");
    });
  });
}

describe("three gateways behind HAProxy, and three brokers", { skip: needs("nats-server", "haproxy") }, () => {
  it(`carry each message of ${CLUSTER_CLIENTS} clients once and in order, and go on when parts die`, async () => {
    const print: string[] = [];
    const phases = await runCluster({
      clients: CLUSTER_CLIENTS,
      rooms: 10,
      messages: 5,
      rate: 300,
      isShort: true,
      print: (line) => void print.push(line),
    });
    for (const phase of phases) {
      const { name, exact, expected, received, doubled, unordered } = phase;
      assertEquals([name, doubled, unordered], [name, 0, 0]);
      if (exact) assertEquals([name, received], [name, expected]);
    }
    assert(phases.some(({ reconnects }) => reconnects > 0));
  });
});
