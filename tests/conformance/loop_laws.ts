/**
 * The loop on a runtime: signals, the ways to end the loop, and the runtime, which goes on beside
 * it.
 */

import { connect as netConnect, createServer } from "node:net";
import { describe, it } from "./suite.ts";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "./assert.ts";
import {
  EAGAIN,
  EV_CLOSED,
  EV_ET,
  EV_PERSIST,
  EV_READ,
  EV_SIGNAL,
  EV_TIMEOUT,
  EV_WRITE,
  EVENT_BASE_COUNT_ACTIVE,
  EVENT_BASE_COUNT_ADDED,
  type EventBase,
  EventError,
  EVLOOP_NO_EXIT_ON_EMPTY,
  EVLOOP_NONBLOCK,
  EVLOOP_ONCE,
  type ListeningSocket,
  type Socket,
} from "../../core/mod.ts";
import { on } from "./on.ts";
import type { FullSubject } from "./subject.ts";

/** Tests one runtime. */
export function loopLaws(name: string, makeSubject: () => FullSubject): void {
  const { runtime, raise, virtual } = makeSubject();
  const { newBase } = on(runtime);
  const skip = virtual && "it waits for the host's own timers";
  const COUNTS = EVENT_BASE_COUNT_ACTIVE | EVENT_BASE_COUNT_ADDED;

  /** Two connected sockets, made on a base without its loop. */
  async function socketPair(base: EventBase): Promise<[client: Socket, server: Socket]> {
    const listening: ListeningSocket = await base.listen({ hostname: "127.0.0.1", port: 0 });
    const client = base.connect(listening.address);
    let server: Socket | typeof EAGAIN = EAGAIN;
    base.event(listening, EV_READ, () => server = listening.accept()).add();
    await base.dispatch();
    await listening.close();
    assert(server !== EAGAIN);
    return [client, server];
  }

  describe(`${name}: the flags of loop()`, { skip }, () => {
    it("end it as they should", async () => {
      const base = newBase();
      const fired: number[] = [];
      assertEquals(await base.loop(), "empty");
      base.timer(() => fired.push(1)).add(1);
      const far = base.timer(() => fired.push(2));
      far.add(60_000);
      assertEquals(await base.loop(EVLOOP_NONBLOCK), "done");
      while (fired.length === 0) assertEquals(await base.loop(EVLOOP_ONCE), "done");
      assertEquals(fired, [1]);
      far.add(2);
      assertEquals(await base.dispatch(), "empty");
      assertEquals(fired, [1, 2]);
      const running = base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
      assertEquals(await base.dispatch().catch((error) => error.code), "EV_BUSY");
      const last = (): void => {
        fired.push(0);
        setTimeout(() => base.loopExit(), 5);
      };
      setTimeout(() => base.once(null, EV_TIMEOUT, last), 5);
      assertEquals([await running, base.gotExit, fired], ["exit", true, [1, 2, 0]]);
      assertEquals(base.numEvents(COUNTS), 0);
    });
  });

  describe(`${name}: events on sockets`, { skip }, () => {
    it("are level-triggered while bytes wait, and edge-triggered once for an arrival", async () => {
      const base = newBase();
      const [client, server] = await socketPair(base);
      let levels = 0;
      let edges = 0;
      const level = base.event(server, EV_READ | EV_PERSIST, () => {
        if (++levels === 5) base.loopBreak();
      });
      const edge = base.event(server, EV_READ | EV_PERSIST | EV_ET, () => edges++);
      for (const event of [edge, level]) event.add();
      client.send("x");
      assertEquals([await base.dispatch(), levels, edges], ["break", 5, 1]);
      for (const event of [edge, level]) event.free();
      client.close();
      server.close();
    });

    it("report bytes or a timeout, space to write, and the peer's end without reading", async () => {
      const base = newBase();
      const [client, server] = await socketPair(base);
      const seen: number[] = [];
      const idle = base.event(server, EV_READ, (_, what) => {
        seen.push(what);
        client.send("bytes");
        client.close();
      });
      idle.add(10);
      assertEquals([await base.dispatch(), seen], ["empty", [EV_TIMEOUT]]);
      // The bytes stay: only the end is reported.
      base.event(server, EV_CLOSED, (_, what) => seen.push(what)).add(20_000);
      base.event(server, EV_WRITE, (_, what) => seen.push(what)).add(20_000);
      assertEquals([await base.dispatch(), seen.sort((a, b) => a - b)], ["empty", [EV_TIMEOUT, EV_WRITE, EV_CLOSED]]);
      assertEquals([server.recv(new Uint8Array(8)), server.recv(new Uint8Array(8))], [5, 0]);
      server.close();
    });
  });

  describe(`${name}: base.signal()`, { skip: skip || (!runtime.capabilities.signals && "it has no signals") }, () => {
    it("reports a signal to each of its events on each base, and to none after they are deleted", async () => {
      const bases = [newBase(), newBase({ priorities: 3 })];
      const told: string[] = [];
      const running = bases.map((base, i) => {
        const events = ["a", "b"].map((letter) => {
          const event = base.signal("SIGUSR2", (source, what) => {
            assertEquals([source, what], ["SIGUSR2", EV_SIGNAL]);
            told.push(`${letter}${i}`);
            if (told.filter((each) => each.endsWith(String(i))).length === 2) { for (const each of events) each.del(); }
          });
          event.add();
          return event;
        });
        return base.dispatch();
      });
      raise("SIGUSR2");
      assertEquals(await Promise.all(running), ["empty", "empty"]);
      assertEquals(told.sort(), ["a0", "a1", "b0", "b1"]);
    });

    it("wakes a loop that waits for another event, each time it is raised", async () => {
      const base = newBase();
      let raised = 0;
      const event = base.signal("SIGUSR2", () => {
        if (++raised === 3) return base.loopBreak();
        setTimeout(() => raise("SIGUSR2"), 1);
      });
      event.add();
      base.timer(() => base.loopExit()).add(20_000);
      raise("SIGUSR2");
      assertEquals([await base.dispatch(), raised], ["break", 3]);
      base.free();
    });

    it("of a signal that cannot be caught makes add() throw EV_UNSUPPORTED, with the name in the message", async () => {
      const base = newBase();
      for (const signal of ["SIGKILL", "SIGSTOP", "SIGNONSENSE"]) {
        const event = base.signal(signal, () => {});
        const error = assertThrows(() => event.add(), EventError) as EventError;
        assertEquals(error.code, "EV_UNSUPPORTED");
        assert(error.message.includes(signal), error.message);
      }
      assertEquals([base.numEvents(COUNTS), await base.dispatch()], [0, "empty"]);
    });
  });

  describe(`${name}: what ends dispatch()`, { skip }, () => {
    it("an exception in a callback, which leaves everything pending intact", async () => {
      const base = newBase();
      const [client, server] = await socketPair(base);
      const failure = new Error("in a callback");
      const log: string[] = [];
      const event = base.event(server, EV_READ | EV_PERSIST, () => {
        log.push("read");
        // The timer may be the first.
        if (!log.includes("thrown")) {
          log.push("thrown");
          throw failure;
        }
        server.recv(new Uint8Array(8));
        event.del();
      });
      event.add();
      base.timer(() => log.push("timer")).add(1);
      client.send("x");
      assertStrictEquals(await base.dispatch().catch((error) => error), failure);
      assertEquals(log.filter((each) => each !== "timer"), ["read", "thrown"]);
      assertEquals(await base.dispatch(), "empty");
      assertEquals([...log].sort(), ["read", "read", "thrown", "timer"]);
      client.close();
      server.close();
    });

    it("an AbortSignal, before and while it waits, also one of the runtime such as AbortSignal.timeout()", async () => {
      const base = newBase();
      let fired = 0;
      const timer = base.timer(() => fired++);
      timer.add(60_000);
      const reason = new Error("enough");
      assertStrictEquals(
        await base.dispatch({ signal: AbortSignal.abort(reason) }).catch((error) => error),
        reason,
      );
      const controller = new AbortController();
      const running = base.dispatch({ signal: controller.signal });
      controller.abort(reason);
      assertStrictEquals(await running.catch((error) => error), reason);
      const late = await assertRejects(() => base.loop(EVLOOP_NO_EXIT_ON_EMPTY, { signal: AbortSignal.timeout(5) }));
      assertEquals((late as Error).name, "TimeoutError");
      assertEquals(timer.pending(EV_TIMEOUT), EV_TIMEOUT);
      timer.add(1);
      assertEquals([await base.dispatch(), fired], ["empty", 1]);
    });
  });

  /**
   * The runtime's own work beside a loop that never rests: a timer, an immediate, and a connection.
   */
  function hostWork(done: () => void): void {
    const left = new Set(["timer", "immediate", "connection"]);
    const finish = (what: string): void => {
      left.delete(what);
      if (left.size === 0) done();
    };
    setTimeout(() => setTimeout(() => finish("timer"), 5), 5);
    setImmediate(() => setImmediate(() => finish("immediate")));
    const server = createServer((socket) => socket.pipe(socket)).listen(0, "127.0.0.1", () => {
      const client = netConnect((server.address() as { port: number }).port, "127.0.0.1");
      let rounds = 0;
      client.on("data", () => {
        if (++rounds < 5) return void client.write("again");
        client.destroy();
        server.close(() => finish("connection"));
      });
      client.write("first");
    });
  }

  describe(`${name}: the runtime's own timers and I/O go on`, { skip }, () => {
    /** Runs a base that is never at rest until the runtime has done its work, and its own quiet socket and timer too. */
    async function beside(begin: (base: EventBase) => () => void, priorities = 1): Promise<void> {
      const base = newBase({ priorities });
      const [client, server] = await socketPair(base);
      const log: string[] = [];
      const told = (what: string): void => {
        log.push(what);
        if (log.length === 3) base.loopBreak();
      };
      const read = base.event(server, EV_READ, () => told("socket"));
      const timer = base.timer(() => told("timer"));
      for (const event of priorities > 1 ? [read, timer] : []) event.priority = 0;
      read.add();
      timer.add(5);
      const end = begin(base);
      client.send("x");
      hostWork(() => told("host"));
      assertEquals([await base.dispatch(), [...log].sort()], ["break", ["host", "socket", "timer"]]);
      end();
      assertEquals(base.numEvents(COUNTS), 0);
      client.close();
      server.close();
    }

    for (const priorities of [1, 3]) {
      it(`beside a callback that activates itself for ever, ${priorities} priorities`, () =>
        beside((base) => {
          const greedy = base.timer(() => greedy.activate(EV_TIMEOUT));
          greedy.activate(EV_TIMEOUT);
          return () => greedy.free();
        }, priorities));
    }

    it("beside a timer of 0 that is added again for ever", () =>
      beside((base) => {
        const greedy = base.timer(() => greedy.add(0));
        greedy.add(0);
        return () => greedy.free();
      }));

    it("beside ten thousand timers that are due at once, again and again", () =>
      beside((base) => {
        const events = Array.from({ length: 10_000 }, () => {
          const event = base.timer(() => event.add(1));
          event.add(1);
          return event;
        });
        return () => events.forEach((event) => event.free());
      }));

    it("beside a socket that always has data", async () => {
      const own = newBase();
      const [feeder, flooded] = await socketPair(own);
      while (feeder.send(new Uint8Array(32_768)) > 0);
      await beside((base) => {
        // It reads one byte each time, so the socket is readable for ever.
        const byte = new Uint8Array(1);
        const event = base.event(flooded, EV_READ | EV_PERSIST, () => void flooded.recv(byte));
        event.add();
        return () => event.free();
      });
      feeder.close();
      flooded.close();
    });
  });
}
