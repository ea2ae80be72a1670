// Faults of hosts: crashes, pauses, late timers, short writes, small windows, name servers, files,
// accepting, and capabilities that are switched off.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { connect as connectTo, EventError, serve, type SocketBufferEvent } from "../../../core/mod.ts";
import { type SimDnsEntry, simRuntime } from "../../../runtimes/sim.ts";
import { AT_B, connect, counting, Door, linked, listen } from "./ends.ts";

function echo(bev: SocketBufferEvent, line: Uint8Array): void {
  bev.write(line);
  bev.write("\n");
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => promise, EventError) as EventError).code;
}

describe("host.crash()", () => {
  it("ends everything silently: no callback, no timer, no open handle; sent bytes still arrive", async () => {
    const { sim, b, client, server } = await linked();
    let fired = 0;
    b.setTimer(sim.now() + 5, () => fired++);
    b.defer(() => fired++);
    b.onSignal("SIGTERM", () => fired++);
    client.binding.write(counting(3));
    server.binding.write(counting(2));
    await sim.advance(0);
    server.binding.write(counting(100));
    b.raise("SIGTERM");
    b.crash();
    b.crash();
    await sim.advance(100);
    assertEquals([client.events, server.events, b.openHandles], [["connect", "data 2"], [], 0]);
    assertEquals(fired, 1, "the function that was deferred before");
    assertEquals([server.binding.write(counting(1)), sim.pending], [0, 0]);
  });

  it("is detected after tcpTimeoutMs by a peer that sends, and by one with keep-alive, but not by an idle one", async () => {
    const { sim, a, b, client } = await linked({ tcpTimeoutMs: 10_000 });
    const [idle, alive] = [connect(a, AT_B), connect(a, AT_B)];
    await sim.advance(5);
    alive.binding.setKeepAlive(true, 5000);
    b.crash();
    client.binding.write(counting(1));
    await sim.advance(10_000);
    assertEquals([client.closed, idle.closed, alive.closed], ["ETIMEDOUT", undefined, undefined]);
    await sim.advance(10_000);
    assertEquals([idle.closed, alive.closed], [undefined, "ETIMEDOUT"]);
    idle.binding.reset();
    await sim.advance(10);
    assertEquals([sim.pending, a.openHandles], [0, 0]);
  });

  it("leaves attempts to connect without an answer, and calls on the host fail with EHOSTDOWN", async () => {
    const { sim, a, b } = await linked({ tcpTimeoutMs: 1000 });
    b.crash();
    const late = connect(a, AT_B);
    const own = connect(b, AT_B);
    assertEquals(await codeOf(b.listen({ port: 81 }, new Door(b))), "EHOSTDOWN");
    await sim.advance(1001);
    assertEquals([late.closed, own.events], ["ETIMEDOUT", []]);
  });

  it("of the client's host is heard by its server in the same way", async () => {
    const { sim, a, server } = await linked({ tcpTimeoutMs: 1000 });
    a.crash();
    await sim.advance(5000);
    assertEquals(server.events, []);
    server.binding.write(counting(1));
    await sim.advance(1000);
    assertEquals(server.events, ["close ETIMEDOUT"]);
  });
});

describe("host.restart()", () => {
  it("answers bytes of an old connection with a reset, and accepts new connections", async () => {
    const { sim, a, b, client } = await linked();
    b.files.set("/f", counting(3));
    b.crash();
    await sim.advance(10);
    b.restart();
    await sim.advance(1000);
    assertEquals(client.events, ["connect"]);
    const refused = connect(a, AT_B);
    client.binding.write(counting(1));
    await sim.advance(2);
    assertEquals([client.events.at(-1), refused.closed], ["close ECONNRESET", "ECONNREFUSED"]);
    const { door } = await listen(b, { port: 80 });
    const again = connect(a, AT_B);
    await sim.advance(5);
    assertEquals([again.events, door.ends.length, b.files.size], [["connect"], 1, 1]);
  });

  it("answers bytes that were sent while the host was down, and keep-alive probes", async () => {
    const { sim, a, b, client } = await linked();
    const alive = connect(a, AT_B);
    await sim.advance(5);
    alive.binding.setKeepAlive(true, 100_000);
    b.crash();
    client.binding.write(counting(1));
    await sim.advance(30_000);
    b.restart();
    await sim.advance(2);
    assertEquals([client.closed, alive.closed], ["ECONNRESET", undefined]);
    await sim.advance(200_000);
    assertEquals(alive.closed, "ECONNRESET");
  });

  it("without a crash does both at once", async () => {
    const { sim, b, client } = await linked();
    b.restart();
    client.binding.write(counting(1));
    await sim.advance(2);
    assertEquals([client.closed, b.openHandles], ["ECONNRESET", 0]);
  });

  it("begins a new process: timers of the old server do not run", async () => {
    const sim = simRuntime();
    const b = sim.host("b");
    const options = { hostname: "10.0.0.2", port: 80 };
    const ends: string[] = [];
    const close = (_bev: unknown, reason?: EventError): void => void ends.push(`${reason?.code} at ${sim.now()}`);
    const begin = async (): Promise<void> => {
      await sim.run(serve({ ...options, runtime: b, idleTimeoutMs: 500 }, { close }));
      await sim.run(connectTo({ ...options, runtime: sim }, { error() {} }));
    };
    await begin();
    await sim.advance(8);
    const before = b.instance;
    b.restart();
    await begin();
    await sim.advance(1000);
    assertEquals([ends, b.instance === before], [["ETIMEDOUT at 513"], false]);
  });

  it("lets a server and a client of the core start again", async () => {
    const sim = simRuntime();
    const b = sim.host("b");
    const options = { hostname: "10.0.0.2", port: 80 };
    const start = (): Promise<unknown> => sim.run(serve({ ...options, runtime: b }, { line: echo, error() {} }));
    await start();
    const say = async (text: string): Promise<string> => {
      const bev = await sim.run(connectTo({ ...options, runtime: sim }, { error() {} }));
      bev.write(`${text}\n`);
      const { value } = await sim.run(bev.lines({ text: true }).next());
      bev.free();
      return value ?? "";
    };
    assertEquals(await say("one"), "one");
    b.crash();
    b.restart();
    await start();
    assertEquals(await say("two"), "two");
  });
});

describe("host.pause()", () => {
  it("makes timers fire late, all at once and in order, and does not delay other hosts", async () => {
    const { sim, a, b } = await linked();
    const log: string[] = [];
    for (const ms of [10, 30, 20]) {
      b.setTimer(5 + ms, () => log.push(`b ${ms} at ${sim.now()}`));
      a.setTimer(5 + ms, () => log.push(`a ${ms} at ${sim.now()}`));
    }
    b.pause(25);
    b.defer(() => log.push(`deferred at ${sim.now()}`));
    await sim.advance(100);
    assertEquals(log, [
      "a 10 at 15",
      "a 20 at 25",
      "deferred at 30",
      "b 10 at 30",
      "b 20 at 30",
      "b 30 at 35",
      "a 30 at 35",
    ]);
  });

  it("queues arriving bytes and connections until the program goes on", async () => {
    const sim = simRuntime();
    const [a, b] = [sim.host("a"), sim.host("b")];
    const { door } = await listen(b, { port: 80 });
    b.pause(1000);
    const client = connect(a, AT_B);
    client.on.onConnect = () => {
      let taken = 0;
      for (let n = -1; n !== 0; taken += n) n = client.binding.write(new Uint8Array(10_000));
      assert(taken < 200_000);
    };
    await sim.advance(999);
    assertEquals([client.events, door.ends.length], [["connect"], 0]);
    await sim.advance(1);
    assertEquals(door.ends.length, 1);
    await sim.advance(10);
    assert(door.first.bytes.length > 65_536);
  });

  it("checks its time", () => {
    const sim = simRuntime();
    for (const ms of [-1, NaN, Infinity]) assertThrows(() => sim.pause(ms), RangeError, "the time");
    assertThrows(() => sim.pause("1" as unknown as number), TypeError);
  });
});

describe("host.timerLateMs", () => {
  it("makes timers fire later at random, never earlier", async () => {
    const sim = simRuntime({ seed: 5 });
    sim.timerLateMs = 10;
    const late: number[] = [];
    for (let i = 0; i < 100; i++) sim.setTimer(100, () => late.push(sim.now() - 100));
    await sim.advance(200);
    assert(late.every((ms) => ms >= 0 && ms <= 10) && Math.max(...late) > 8 && Math.min(...late) < 2);
    assertThrows(() => (sim.timerLateMs = -1), RangeError, "timerLateMs");
  });
});

describe("host.shortWrites", () => {
  it("makes write() accept a part, then nothing until onWritable(), and all bytes arrive", async () => {
    const { sim, a, client, server } = await linked();
    a.shortWrites = 1;
    const total = 50_000;
    let sent = 0;
    const taken: number[] = [];
    const more = (): void => {
      for (let n = -1; n !== 0 && sent < total; sent += n) {
        n = client.binding.write(counting(total - sent, sent));
        taken.push(n);
      }
    };
    client.on.onWritable = more;
    more();
    await sim.advance(1000);
    assertEquals([sent, server.bytes.length], [total, total]);
    assert(server.bytes.every((byte, i) => byte === i % 256));
    assert(client.writables > 8, `${client.writables} times`);
    assert(Math.max(...taken) <= 2 * 4096);
    assertThrows(() => (a.shortWrites = 2), RangeError, "shortWrites");
  });

  it("stops at the same positions of the stream, however the program cuts it into chunks", async () => {
    const stops: number[][] = [];
    for (const size of [1000, 64]) {
      const { sim, a, client } = await linked({ seed: 9 });
      a.shortWrites = 0.7;
      const at: number[] = [];
      let sent = 0;
      const more = (): void => {
        while (sent < 20_000) {
          const chunk = Math.min(size, 20_000 - sent);
          const n = client.binding.write(new Uint8Array(chunk));
          sent += n;
          if (n < chunk) at.push(sent);
          if (n === 0) break;
        }
      };
      client.on.onWritable = more;
      more();
      await sim.advance(100);
      stops.push([...new Set(at)]);
    }
    assertEquals(stops[0], stops[1]);
  });
});

describe("host.windowBytes", () => {
  it("of one byte delivers single bytes, each after the one before was read", async () => {
    const { sim, b, client, server } = await linked();
    b.windowBytes = 1;
    client.binding.write(counting(20));
    await sim.advance(5);
    assert(server.bytes.length < 5);
    await sim.advance(100);
    assertEquals([server.bytes, server.events.every((event) => event === "data 1")], [[...counting(20)], true]);
    assertThrows(() => (b.windowBytes = 0), RangeError, "windowBytes");
  });

  it("of one byte carries a conversation of the core", async () => {
    const sim = simRuntime();
    sim.windowBytes = 1;
    const server = await sim.run(
      serve({ hostname: "127.0.0.1", port: 80, runtime: sim }, { line: echo }),
    );
    const bev = await sim.run(connectTo({ hostname: "127.0.0.1", port: 80, runtime: sim }, {}));
    bev.write("hello, world\n");
    assertEquals((await sim.run(bev.lines({ text: true }).next())).value, "hello, world");
    bev.free();
    await sim.run(server.close());
  });
});

describe("host.acceptErrors", () => {
  it("EMFILE and ENOMEM are reported, and the connection waits; ECONNABORTED is not reported, and resets it", async () => {
    for (const code of ["EMFILE", "ENOMEM", "ECONNABORTED"]) {
      const sim = simRuntime();
      const errors: string[] = [];
      const door = new Door(sim);
      door.onError = (error) => void errors.push(error.code);
      await sim.listen({ port: 80 }, door);
      sim.acceptErrors.push(code);
      const client = connect(sim, { port: 80 });
      await sim.advance(10);
      const aborted = code === "ECONNABORTED";
      assertEquals([client.closed, door.ends.length], aborted ? ["ECONNRESET", 0] : [undefined, 1]);
      assertEquals([errors, sim.acceptErrors], [aborted ? [] : [code], []]);
    }
  });

  it("do not stop serve(): its error callback gets the error, and the client is served", async () => {
    const sim = simRuntime();
    const errors: unknown[] = [];
    const server = await sim.run(
      serve({ hostname: "127.0.0.1", port: 80, runtime: sim }, {
        line: echo,
        error: (error) => void errors.push((error as EventError).code),
      }),
    );
    sim.acceptErrors.push("ENOMEM", "EMFILE");
    const bev = await sim.run(connectTo({ hostname: "127.0.0.1", port: 80, runtime: sim }, {}));
    bev.write("hello\n");
    assertEquals((await sim.run(bev.lines({ text: true }).next())).value, "hello");
    assertEquals(errors, ["ENOMEM"], "one episode is reported once");
    bev.free();
    await sim.run(server.close());
  });
});

describe("host.dns", () => {
  it("can fail, be slow, and give several addresses, without an effect on other hosts", async () => {
    const sim = simRuntime();
    sim.host("db");
    sim.dns.set("db", { addresses: ["10.0.0.9", "::5", "10.0.0.2"], delayMs: 500 });
    sim.dns.set("gone", { error: "EAI_AGAIN" });
    const found = await sim.run(sim.resolve("DB"));
    assertEquals([found.map(({ hostname }) => hostname), sim.now()], [["10.0.0.9", "::5", "10.0.0.2"], 501]);
    assertEquals(await codeOf(sim.run(sim.resolve("gone"))), "EAI_AGAIN");
    assertEquals((await sim.run(sim.host("db").resolve("db"))).length, 1);
    sim.dns.set("db", { addresses: [] });
    assertEquals(await codeOf(sim.run(sim.resolve("db"))), "ENOTFOUND");
  });

  it("refuses a wrong entry with a message", async () => {
    const sim = simRuntime();
    for (const entry of [{ adresses: [] }, { delayMs: -1 }, { addresses: ["nine"] }, { error: 5 }, 7]) {
      sim.dns.set("db", entry as unknown as SimDnsEntry);
      const error = await sim.resolve("db").then(() => undefined, (reason: unknown) => reason);
      assert(error instanceof TypeError || error instanceof RangeError, String(error));
    }
  });

  it("of several addresses finds the one that answers", async () => {
    const sim = simRuntime();
    const b = sim.host("b");
    const server = await sim.run(serve({ hostname: "10.0.0.2", port: 80, runtime: b }, {}));
    const dead = sim.host("10.0.0.99");
    dead.crash();
    sim.dns.set("service", { addresses: ["10.0.0.99", "10.0.0.2"] });
    const bev = await sim.run(connectTo({ hostname: "service", port: 80, runtime: sim }, {}));
    assertEquals((bev.remoteAddress as { hostname: string }).hostname, "10.0.0.2");
    assert(sim.now() < 1000);
    bev.free();
    await sim.run(server.close());
  });
});

describe("host.fileFaults", () => {
  it("a file fails to be read, or has become shorter", async () => {
    const sim = simRuntime();
    sim.files.set("/f", counting(10));
    sim.fileFaults.set("/f", { maxBytes: 4 });
    assertEquals(await sim.readFile?.("/f", 0, undefined), counting(4));
    assertEquals(await sim.readFile?.("/f", 6, 2), new Uint8Array(0));
    sim.fileFaults.set("/f", { error: "EIO" });
    assertEquals(await codeOf(Promise.resolve(sim.readFile?.("/f", 0, 1))), "EIO");
    sim.fileFaults.set("/f", { maxbytes: 4 } as object);
    await assertRejects(() => Promise.resolve(sim.readFile?.("/f", 0, 1)), TypeError, "maxBytes");
  });
});

describe("host.capabilities", () => {
  it("can be switched off one by one, or all at once, and are checked", () => {
    const sim = simRuntime();
    sim.capabilities.pauseAccept = false;
    assertEquals([sim.capabilities.pauseAccept, sim.capabilities.reset, sim.host("b").capabilities.pauseAccept], [
      false,
      true,
      true,
    ]);
    sim.capabilities = { reset: false } as typeof sim.capabilities;
    assertEquals([sim.capabilities.pauseAccept, sim.capabilities.reset], [true, false]);
    assertThrows(() => (sim.capabilities.reset = 1 as unknown as boolean), TypeError, "reset");
    assertThrows(() => (sim.capabilities = { resett: false } as never), TypeError, "did you mean");
  });

  it("without pauseAccept, a listener cannot leave connections to the system", async () => {
    const sim = simRuntime();
    sim.capabilities.pauseAccept = false;
    const { door, listener } = await listen(sim, { port: 80 });
    listener.pauseAccept();
    connect(sim, { port: 80 });
    await sim.advance(5);
    assertEquals(door.ends.length, 1);
  });

  it("without reset, reset() is a plain close: the peer gets the output, and an end", async () => {
    const { sim, a, client, server } = await linked();
    a.capabilities.reset = false;
    client.binding.write(counting(3));
    client.binding.reset();
    await sim.advance(5);
    assertEquals([client.closed, server.events], ["ok", ["data 3", "end"]]);
  });

  it("without reset, the system still answers bytes for a released connection with a reset", async () => {
    const { sim, a, b, client, server } = await linked();
    a.capabilities.reset = false;
    client.binding.reset();
    await sim.advance(5);
    // More bytes than the window, which stays closed.
    for (let i = 0; i < 3; i++) server.binding.write(counting(50_000));
    server.binding.close();
    await sim.advance(100);
    assertEquals([client.closed, server.closed, a.openHandles, b.openHandles], ["ok", "ECONNRESET", 0, 1]);
  });
});
