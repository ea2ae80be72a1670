// The end of one connection does not affect handlers of another that only write to it. A pipe ends
// both.

import { describe, it } from "node:test";
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { pipe } from "../../../core/api/pipe.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import { BEV_OPT_CLOSE_ON_FREE } from "../../../core/flags.ts";
import { Socket } from "../../../core/api/socket.ts";
import { connect, serve, type ServeCallbacks, type ServeOptions, type Server } from "../../../core/serve/serve.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { pattern, portOf, receiveAll, text } from "../socket/pairs.ts";

type Bev = SocketBufferEvent;

/** A server that records each `close` and each failure. */
async function noting(
  sim: SimRuntime,
  log: string[],
  options: ServeOptions,
  callbacks: ServeCallbacks,
): Promise<Server> {
  return await serve({ runtime: sim, hostname: "127.0.0.1", port: 0, ...options }, {
    ...callbacks,
    close(bev, reason) {
      log.push(`close ${reason?.code}`);
      callbacks.close?.(bev, reason);
    },
    error: (error) => void log.push(`error ${error}`),
  });
}

async function nothingOpen(sim: SimRuntime, ...servers: Server[]): Promise<void> {
  for (const server of servers) await sim.run(server.close({ graceMs: 0 }));
  await sim.advance(70_000);
  assertEquals([sim.openHandles, sim.pending], [0, 0]);
}

describe("a line that goes to all others", () => {
  /** The ways in which one of them ends, and the reason that its `close` gets. */
  const ends: { [how: string]: [end: (member: Socket) => void, reason: string | undefined] } = {
    "has just been reset": [(member) => member.reset(), "ECONNRESET"],
    "has finished, and is being closed": [(member) => member.shutdown(), undefined],
    "has sent a line that is too long": [(member) => member.send("x".repeat(101)), "EV_LINE_TOO_LONG"],
    "has sent what makes a handler fail": [(member) => member.send("fail\n"), "EV_HANDLER_FAILED"],
    "has been silent for too long": [() => {}, "ETIMEDOUT"],
    "does not read": [(member) => member.shutdown(), "ETIMEDOUT"],
  };
  for (const [how, [end, reason]] of Object.entries(ends)) {
    it(`does not affect its sender if a receiver ${how}`, async () => {
      const sim = simRuntime({ maxSteps: 1_000_000 });
      const all = new Set<Bev>();
      const log: string[] = [];
      const results = new Set<boolean>();
      const options = { maxLine: 100, drainTimeoutMs: 500, ...(reason === "ETIMEDOUT" ? { readTimeoutMs: 300 } : {}) };
      const server = await noting(sim, log, options, {
        open: (bev) => void all.add(bev),
        line(_bev, line) {
          if (text(line) === "fail") throw new Error("on purpose");
          for (const other of all) results.add(other.write(`${text(line)}\n`));
        },
        close: (bev) => void all.delete(bev),
      });
      const member = Socket.connect(sim, { port: portOf(server) });
      await sim.advance(5);
      const talker = Socket.connect(sim, { port: portOf(server) });
      await sim.advance(5);
      if (how === "does not read") [...all][0]?.write(pattern(200_000));
      // At every step around the end.
      for (let i = 0; i < 600; i++) {
        if (i === 20) end(member);
        talker.send(`line ${i}\n`);
        await sim.advance(i < 100 ? 0.5 : 5);
      }
      const heard = text(receiveAll(talker).bytes).split("\n").filter((line) => line.startsWith("line "));
      assertEquals(heard.at(-1), "line 599");
      if (how === "does not read") assertEquals(results.has(false), true);
      assertEquals(log.filter((line) => line.startsWith("close")), [`close ${reason}`]);
      assertEquals(log.length, reason === "EV_HANDLER_FAILED" ? 2 : 1);
      assertEquals([server.connections, all.size], [1, 1]);
      talker.close();
      member.close();
      await nothingOpen(sim, server);
    });
  }

  it("is not queued for a receiver that the program has closed or freed; write() gives false until close was called", async () => {
    for (const [end, before] of [["shutdown", "EPIPE"], ["close", false], ["free", false], ["reset", false]] as const) {
      const sim = simRuntime();
      const log: string[] = [];
      const write = (bev: Bev): boolean | string => {
        try {
          return bev.write("more");
        } catch (error) {
          return (error as EventError).code;
        }
      };
      let known: Bev | undefined;
      const server = await noting(sim, log, {}, {
        open(bev) {
          known = bev;
          bev[end]();
          assertEquals(write(bev), before, end);
        },
      });
      const socket = Socket.connect(sim, { port: portOf(server) });
      await sim.advance(5);
      if (end === "close") assertEquals(write(known as unknown as Bev), false);
      socket.close();
      await sim.advance(100);
      assertEquals([write(known as unknown as Bev), log], ["EV_FREED", ["close undefined"]], end);
      await nothingOpen(sim, server);
    }
  });

  it("is an error if there is no close callback that reports the end", async () => {
    const sim = simRuntime();
    let known: Bev | undefined;
    const server = await serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, { open: (bev) => void (known = bev) });
    const socket = Socket.connect(sim, { port: portOf(server) });
    await sim.advance(5);
    socket.reset();
    await sim.advance(5);
    const { code } = assertThrows(() => (known as unknown as Bev).write("x"), EventError) as EventError;
    assertEquals(code, "EV_FREED");
    await nothingOpen(sim, server);
  });
});

describe("a handler that waits for a second connection, and then pipes both", () => {
  it("leaves no second connection behind if the client leaves while it is being made", async () => {
    const sim = simRuntime();
    const log: string[] = [];
    const upstream = await serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, {});
    const server = await noting(sim, log, {}, {
      async open(client) {
        await pipe(client, await connect({ runtime: sim, hostname: "127.0.0.1", port: portOf(upstream) }));
      },
    });
    for (const end of ["reset", "close"] as const) {
      for (let ms = 0; ms < 8; ms += 0.5) {
        const socket = Socket.connect(sim, { port: portOf(server) });
        await sim.advance(ms);
        socket[end]();
        await sim.advance(20);
      }
    }
    await sim.advance(6000);
    assertEquals([server.connections, upstream.connections], [0, 0]);
    assertEquals(log.filter((line) => !/^close (ECONNRESET|undefined)$/.test(line)), []);
    await nothingOpen(sim, server, upstream);
  });

  it("ends the other when one ends", async () => {
    const sim = simRuntime();
    const upstream = await serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, {});
    for (const over of ["free", "close"] as const) {
      for (const first of [true, false]) {
        const { base } = upstream;
        const [dead, alive] = [0, 1].map(() => {
          const bev = new SocketBufferEvent(base, null, BEV_OPT_CLOSE_ON_FREE);
          bev.connect({ hostname: "127.0.0.1", port: portOf(upstream) });
          bev.write("x");
          return bev;
        }) as [SocketBufferEvent, SocketBufferEvent];
        dead[over]();
        const piped = first ? pipe(dead, alive) : pipe(alive, dead);
        assertEquals((await assertRejects(() => piped, EventError) as EventError).code, "EV_FREED");
        assertThrows(() => alive.write("y"), EventError);
      }
    }
    await sim.advance(100);
    assertEquals(upstream.connections, 0);
    await nothingOpen(sim, upstream);
  });
});
