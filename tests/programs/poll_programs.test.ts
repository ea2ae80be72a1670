// The programs that wait with select, a poller, overlapped operations or a completion port, with
// nc, socat and clients of Node, on every runtime.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { exampleCommand, findRuntime, plainEnvironment, ROOT, type RuntimeName, RUNTIMES } from "../tools/runtimes.mjs";
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
  runProgram,
  startMeasured,
  startServer,
  stopWhenClosed,
} from "./workshop.ts";

const MIB = 1 << 20;

/** The echo servers. */
const ECHOES: { name: string; args: string[] }[] = [
  { name: "echo_select", args: [] },
  { name: "echo_epoll", args: [] },
  { name: "echo_epoll", args: ["--edge"] },
  { name: "echo_overlapped", args: [] },
  { name: "echo_iocp", args: [] },
];

/** Bytes of every value that differ by position. */
function bytes(length: number, seed = 0): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, i) => ((i + seed) * 167 + ((i + seed) >> 8)) & 255));
}

/** A port that nobody listens on. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

for (const runtime of RUNTIMES) {
  for (const { name, args } of ECHOES) {
    describe(`${[name, ...args].join(" ")} on ${runtime}`, () => {
      let server: MeasuredServer;
      let socketsBefore: number;

      async function serves(): Promise<void> {
        const client = await Client.open(server.port);
        await client.send("Hello\n");
        await client.untilReceived(6);
        client.end("World\n");
        await client.untilEnd();
        assertEquals(client.bytes.toString(), "Hello\nWorld\n");
      }

      before(async () => {
        server = await startMeasured(runtime, name, args);
        await serves();
        await quiet(50);
        socketsBefore = openSockets(server.pid);
      });
      after(async () => {
        await stopWhenClosed(server, socketsBefore);
      });

      it("answers nc and socat", { skip: needs("nc -N", "socat") }, async () => {
        for (const input of [Buffer.from("Hello\n"), bytes(1), bytes(1024), bytes(1025), bytes(300_000)]) {
          const nc = await feed("nc", ["-N", "127.0.0.1", String(server.port)], input);
          assert(nc.stdout.equals(input), `nc: ${nc.stdout.length} bytes for ${input.length}, ${nc.stderr}`);
          const socat = await feed("socat", ["-t", "50", "-", `TCP:127.0.0.1:${server.port}`], input);
          assert(
            socat.stdout.equals(input),
            `socat: ${socat.stdout.length} bytes for ${input.length}, ${socat.stderr}`,
          );
        }
      });

      it("serves 25 clients at once, each with different bytes", async () => {
        await Promise.all(Array.from({ length: 25 }, async (_, i) => {
          const data = bytes(20_000, i * 1000);
          const client = await Client.open(server.port);
          for (let at = 0; at < data.length; at += 1777) await client.send(data.subarray(at, at + 1777));
          client.end();
          await client.untilEnd();
          assert(client.bytes.equals(data), `client ${i}: ${client.received} bytes`);
        }));
      });

      it("reads all bytes of a burst, although it gets one event", async () => {
        const client = await Client.open(server.port);
        const data = bytes(100_000);
        await client.send(data);
        await client.untilReceived(data.length);
        assert(client.bytes.equals(data));
        await client.send("more");
        await client.untilReceived(data.length + 4);
        client.end();
        await client.untilEnd();
      });

      it("loses nothing of a reply to a client that finishes at once and reads late", async () => {
        const client = await Client.open(server.port);
        client.socket.pause();
        const data = bytes(2 * MIB);
        client.end(data);
        await quiet(200);
        client.socket.resume();
        await client.untilEnd();
        assert(client.bytes.equals(data), `${client.received} bytes`);
      });

      it("slows down a client that sends and does not read, and serves others", { skip: needs("/proc") }, async () => {
        const before = residentMiB(server.pid);
        const client = await Client.open(server.port);
        client.socket.pause();
        let taken = 0;
        for (let i = 0; i < 64; i++) client.socket.write(Buffer.alloc(MIB, i), () => taken++);
        for (let last = -1; last !== taken; await quiet(300)) last = taken;
        assert(taken < 64, "the server has taken everything");
        await serves();
        await assertHeldLess(server, before, 48);
        client.reset();
      });

      it("survives resets, at once and in the middle", async () => {
        for (let i = 0; i < 10; i++) {
          const client = await Client.open(server.port);
          if (i % 2 === 0) await client.send(bytes(5000 * i));
          client.reset();
        }
        await serves();
      });
    });
  }

  for (const { name, args } of ECHOES) {
    for (const signal of ["SIGINT", "SIGTERM"]) {
      it(`${[name, ...args].join(" ")} on ${runtime} ends with 0 at ${signal}, with clients that are connected`, async () => {
        const server = await startServer(runtime, name, args);
        const client = await Client.open(server.port);
        await client.send("Hello\n");
        await client.untilReceived(6);
        // Some are in the middle of a message.
        const busy = await Promise.all(Array.from({ length: 10 }, () => Client.open(server.port)));
        for (const { socket } of busy) {
          socket.on("data", (chunk: Buffer) => void socket.write(chunk));
          socket.write("round and round\n");
        }
        await Promise.all(busy.map((each) => each.untilReceived(1000)));
        assertEquals(await server.stop(signal), null);
        await client.untilEnd();
        for (const each of busy) each.reset();
      });
    }
  }

  it(`echo_select on ${runtime} has space for 30 clients, tells the 31st, and has space again when one has left`, {
    skip: needs("nc -N"),
  }, async () => {
    const server = await startServer(runtime, "echo_select");
    const clients = await Promise.all(Array.from({ length: 30 }, () => Client.open(server.port)));
    await Promise.all(clients.map(async (client, i) => {
      await client.send(`client ${i}\n`);
      await client.untilReceived(`client ${i}\n`.length);
    }));
    const refused = await feed("nc", ["127.0.0.1", String(server.port)]);
    assertEquals(refused.stdout.toString(), "Sorry, 30 clients are here already\n");
    clients[7]?.end();
    await clients[7]?.untilEnd();
    await eventually("one has left", () => server.printed().includes("Host disconnected"));
    const late = await feed("nc", ["-N", "127.0.0.1", String(server.port)], "late\n");
    assertEquals(late.stdout.toString(), "late\n");
    assertMatch(server.printed(), /^New connection, ip 127\.0\.0\.1, port \d+\nAdding to list of sockets as 0\n/);
    assertMatch(server.printed(), /\nNo room for another one\n/);
    for (const client of clients) client.reset();
    assertEquals(await server.stop(), null);
  });

  it(`rot13_busypoll on ${runtime} prints how many of its polls were useless`, { skip: needs("socat") }, async () => {
    const server = await startServer(runtime, "rot13_busypoll");
    const reply = await feed("socat", ["-t", "50", "-", `TCP:127.0.0.1:${server.port}`], "Hello\n");
    assertEquals(reply.stdout.toString(), "Uryyb\n");
    await quiet(100);
    assertEquals(await server.stop(), null);
    const [, polls, useless] = /^(\d+) polls, (\d+) of them useless\n$/.exec(server.printed()) ?? [];
    assert(Number(useless) > 10 && Number(polls) > Number(useless), server.printed());
  });

  describe(`tcp_hello on ${runtime}`, () => {
    it("the server prints the client's address and its bytes, and ends", { skip: needs("nc -N") }, async () => {
      const { file, args } = exampleCommand(runtime, "tcp_hello_server", ["0"]);
      const child = spawn(file, args, { cwd: ROOT, env: plainEnvironment(), stdio: ["ignore", "pipe", "inherit"] });
      let output = "";
      child.stdout.on("data", (chunk: Buffer) => void (output += chunk.toString()));
      const exit = once(child, "close");
      await eventually("it listens", () => output.includes("\n"));
      const port = /^listening on 127\.0\.0\.1:(\d+)\n$/.exec(output)?.[1] as string;
      assertEquals((await feed("nc", ["-N", "127.0.0.1", port], "hello")).code, 0);
      assertEquals(await exit, [0, null]);
      assertMatch(output, /^listening on 127\.0\.0\.1:\d+\nip 127\.0\.0\.1, port \d+\nhello$/);
    });

    it("the client says hello to nc", { skip: needs("nc") }, async () => {
      const port = await freePort();
      const nc = feed("nc", ["-l", "127.0.0.1", String(port)]);
      let said = await runProgram(runtime, "tcp_hello_client", [String(port)]);
      // nc may not be listening yet.
      for (let i = 0; said.code === 1 && i < 100; i++) {
        await quiet(100);
        said = await runProgram(runtime, "tcp_hello_client", [String(port)]);
      }
      assertEquals([said.code, said.stderr, said.stdout.toString()], [0, "", ""]);
      assertEquals((await nc).stdout.toString(), "hello");
    });

    it("the client prints the failure", async () => {
      const port = String(await freePort());
      const refused = await runProgram(runtime, "tcp_hello_client", [port]);
      assertEquals(refused.code, 1);
      assertMatch(oneLine(refused), /ECONNREFUSED/);
      const wrong = await runProgram(runtime, "tcp_hello_client", []);
      assertEquals(wrong.code, 2);
      assertMatch(oneLine(wrong), /usage: tcp_hello_client port \[host\]/);
    });
  });

  describe(`nonblocking_connect on ${runtime}`, () => {
    it("finds the connection in progress, and then established", async () => {
      const server = createServer((socket) => socket.resume()).listen(0, "127.0.0.1");
      await once(server, "listening");
      const { port } = server.address() as { port: number };
      const { code, stdout, stderr } = await runProgram(runtime, "nonblocking_connect", [String(port)]);
      server.close();
      assertEquals([code, stderr], [0, ""]);
      assertMatch(stdout.toString(), /^in progress\nconnected, asked \d+ times\n$/);
    });

    it("prints a failure in one line", async () => {
      const refused = await runProgram(runtime, "nonblocking_connect", [String(await freePort())]);
      assertEquals([refused.code, refused.stdout.toString()], [1, "in progress\n"]);
      assertMatch(oneLine(refused), /ECONNREFUSED/);
      const nobody = await runProgram(runtime, "nonblocking_connect", ["80", "no-such-host.invalid"]);
      assertEquals(nobody.code, 1);
      assertMatch(oneLine(nobody), /no-such-host\.invalid/);
    });
  });

  it(`slow_reader on ${runtime} shows that TCP slows the sender down and UDP loses datagrams`, async () => {
    const { code, stdout, stderr } = await runProgram(runtime, "slow_reader", []);
    assertEquals([code, stderr], [0, ""]);
    const text = stdout.toString();
    const [, sent, received, lost] = /^TCP: sent (\d+) bytes, received (\d+), lost (\d+)$/m.exec(text) ?? [];
    assertEquals([Number(lost), sent], [0, received]);
    const [, first, later] = /slowed down from (\d+) to (\d+) KiB in a step/.exec(text) ?? [];
    assert(Number(first) > Number(later), text);
    const [, datagrams, arrived, gone] = /^UDP: sent (\d+) datagrams, received (\d+), lost (\d+)$/m.exec(text) ?? [];
    assert(Number(gone) > 0 && Number(arrived) > 0, text);
    assertEquals(Number(datagrams), Number(arrived) + Number(gone));
  });

  it(`the servers on ${runtime} report that a port is in use, and refuse wrong arguments`, async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    const names = [...new Set(ECHOES.map(({ name }) => name)), "rot13_select", "rot13_busypoll", "tcp_hello_server"];
    for (const name of names) {
      const taken = await runProgram(runtime, name, [String(port)]);
      assertEquals([name, taken.code, taken.stdout.toString()], [name, 1, ""]);
      assertMatch(oneLine(taken), /EADDRINUSE/);
      const wrong = await runProgram(runtime, name, ["http"]);
      assertEquals([name, wrong.code, wrong.stdout.toString()], [name, 2, ""]);
      assertMatch(oneLine(wrong), new RegExp(`usage: ${name} \\[port\\]`));
    }
    server.close();
  });
}

it("a datagram socket on Deno without --unstable-net fails and names the flag; the rest works", async () => {
  const deno: RuntimeName = "deno";
  const program = join(ROOT, "examples", "slow_reader.ts");
  const { code, stdout } = await feed(findRuntime(deno).path, ["run", "--quiet", "--no-check", "--allow-net", program]);
  assertEquals(code, 0);
  assertMatch(stdout.toString(), /^TCP: sent (\d+) bytes, received \1, lost 0$/m);
  assertMatch(stdout.toString(), /^UDP: Cannot open a datagram socket: .*--unstable-net/m);
});
