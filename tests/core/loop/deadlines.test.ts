// Deadlines on a busy host: they count from the clock, and events that came in time are reported
// before timeouts.

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import type { BufferEvent } from "../../../core/api/bufferevent.ts";
import { FilterBufferEvent } from "../../../core/api/filter_bufferevent.ts";
import { bufferEventPair } from "../../../core/api/pair_bufferevent.ts";
import { RateLimitGroup } from "../../../core/api/rate_limit_group.ts";
import { TokenBucketConfig } from "../../../core/bufferevent/rate_limit.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import {
  BEV_OPT_CLOSE_ON_FREE,
  EAGAIN,
  EV_PERSIST,
  EV_READ,
  EV_SIGNAL,
  EV_TIMEOUT,
  EVLOOP_NO_EXIT_ON_EMPTY,
  EVLOOP_NONBLOCK,
} from "../../../core/flags.ts";
import { EventBase, type EventBaseOptions } from "../../../core/api/event_base.ts";
import type { EventHandle } from "../../../core/api/event_handle.ts";
import { CompletionPort } from "../../../core/api/completion_port.ts";
import { Overlapped } from "../../../core/api/overlapped.ts";
import { Poller } from "../../../core/api/poller.ts";
import { select } from "../../../core/api/select.ts";
import { Socket } from "../../../core/api/socket.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { Recorder } from "../bufferevent/rig.ts";
import { pattern, portOf } from "../socket/pairs.ts";
import { nothingLeft } from "./harness.ts";
import { OneThread } from "./one_thread.ts";

/** A base on a host that can be blocked, and peers on the network beside it. */
class Scene {
  readonly sim: SimRuntime = simRuntime({ maxSteps: 200_000 });
  readonly host: OneThread = new OneThread(this.sim);
  readonly base: EventBase;
  readonly peers: Socket[] = [];

  constructor(options: EventBaseOptions = {}) {
    this.base = new EventBase({ runtime: this.host, ...options });
  }

  /** A connection: the end on the host, and its peer. */
  async connection(): Promise<[socket: Socket, peer: Socket]> {
    const listening = await this.base.listen({ hostname: "127.0.0.1", port: 0 });
    const peer = Socket.connect(this.sim, { port: portOf(listening) });
    let socket = listening.accept();
    while (socket === EAGAIN) {
      await this.sim.advance(1);
      socket = listening.accept();
    }
    await listening.close();
    this.peers.push(peer);
    return [socket, peer];
  }

  /** Runs the loop for a time in milliseconds. */
  async during(ms: number): Promise<void> {
    const running = this.base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    await this.sim.advance(ms);
    this.base.loopExit();
    await this.sim.run(running);
  }

  /** Lets a peer send a byte again and again. @returns Stops it */
  sends(peer: Socket, everyMs: number): () => void {
    let token = this.sim.setTimer(this.sim.now() + everyMs, send);
    const { sim } = this;
    function send(): void {
      peer.send("x");
      token = sim.setTimer(sim.now() + everyMs, send);
    }
    return () => sim.clearTimer(token);
  }

  async end(): Promise<void> {
    for (const peer of this.peers) peer.close();
    await nothingLeft(this);
  }
}

describe("a deadline that is set in a callback counts from then (law 9)", () => {
  it("of a timer, alone and persistent, of a common timeout, of once() and of loopExit()", async () => {
    const { base, host, sim } = new Scene();
    const fired: string[] = [];
    const note = (name: string) => (): void => void fired.push(`${name} at ${sim.now()}`);
    base.timer(() => {
      host.block(200);
      base.timer(note("timer")).add(150);
      const again = base.event(null, EV_PERSIST, () => {
        note("persistent")();
        if (sim.now() > 500) again.del();
      });
      again.add(151);
      base.timer(note("common")).add(base.initCommonTimeout(152));
      base.once(null, EV_TIMEOUT, note("once"), 153);
      base.loopExit(400);
    }).add(100);
    assertEquals([await sim.run(base.dispatch()), sim.now()], ["exit", 700]);
    assertEquals(fired, [
      "timer at 450",
      "persistent at 451",
      "common at 452",
      "once at 453",
      "persistent at 602",
    ]);
  });

  it("while base.now() stays the time of the turn", async () => {
    const { base, host, sim } = new Scene();
    const seen: unknown[] = [];
    base.timer(() => {
      seen.push(base.now());
      host.block(50);
      const timer = base.timer(() => {});
      timer.add(10);
      seen.push(base.now(), timer.expiresAt);
      timer.free();
    }).add(10);
    await sim.run(base.dispatch());
    assertEquals(seen, [10, 10, 70]);
  });

  it("with one read of the clock, however many timers the callback adds", async () => {
    const { base, host, sim } = new Scene();
    let reads = 0;
    base.timer(() => {
      base.now();
      const before = host.clockReads;
      for (let i = 0; i < 1000; i++) base.timer(() => {}).add(i);
      reads = host.clockReads - before;
    }).add(1);
    await sim.run(base.dispatch());
    assertEquals(reads, 1);
  });

  it("with a separate read of the clock in each callback, even in one turn", async () => {
    const { base, host, sim } = new Scene();
    const due: unknown[] = [];
    for (let i = 0; i < 3; i++) {
      base.timer(() => {
        host.block(100);
        const timer = base.timer(() => {});
        timer.add(10);
        due.push(timer.expiresAt);
      }).add(10);
    }
    base.watchPrepare((watcher) => {
      if (due.length < 3) return;
      host.block(5);
      const timer = base.timer(() => {});
      timer.add(10);
      due.push(timer.expiresAt);
      watcher.free();
    });
    await sim.run(base.dispatch());
    assertEquals(due, [120, 220, 320, 325]);
  });

  it("but timeouts that I/O restarts use the clock of the turn", async () => {
    const scene = new Scene();
    const { base, host, sim } = scene;
    const bevs: SocketBufferEvent[] = [];
    let reads = 0;
    for (let i = 0; i < 20; i++) {
      const [socket, peer] = await scene.connection();
      const bev = new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE);
      bev.setTimeouts(1000, 1000);
      bev.setIdleTimeout(1000);
      bev.setCallbacks({ read: (bev) => bev.output.addBuffer(bev.input) });
      bev.enable(EV_READ);
      bevs.push(bev);
      peer.send("x");
    }
    // All twenty are read in one turn, while this blocks the host.
    base.timer(() => {
      host.block(10);
      reads = host.clockReads;
    }).add(1);
    const turns = base.stats().turns;
    await scene.during(50);
    const perTurn = (host.clockReads - reads) / (base.stats().turns - turns);
    assert(perTurn < 5, `${perTurn} reads of the clock in a turn`);
    for (const bev of bevs) bev.free();
    await sim.advance(0);
    await scene.end();
  });

  it("of setTimeouts(), setIdleTimeout() and enable() in a read callback", async () => {
    for (const set of ["read", "write", "idle", "enable", "drain", "flush"] as const) {
      const scene = new Scene();
      const { base, host, sim } = scene;
      const [socket, peer] = await scene.connection();
      const bev = new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE);
      let began = 0;
      const record = new Recorder(() => sim.now() - began);
      bev.setCallbacks(record.callbacks);
      record.on.read = () => {
        if (began > 0) return;
        // A timer that was added before must not provide the time for a later write.
        if (set === "flush") base.timer(() => {}).add(1);
        // From now on the turn has a cached time.
        base.now();
        host.block(200);
        began = host.now();
        if (set === "read") bev.setTimeouts(200, null);
        else if (set === "idle") bev.setIdleTimeout(200);
        else if (set === "write") {
          bev.setTimeouts(null, 200);
          bev.write(pattern(1_000_000));
        } else if (set === "flush") bev.write("waits");
        else if (set === "enable") {
          bev.disable(EV_READ);
          bev.setTimeouts(150, null);
          bev.enable(EV_READ);
        } else {
          bev.setTimeouts(150, null);
          bev.setWatermark(EV_READ, 0, 1);
          record.drains = true;
          bev.input.drain(1);
        }
      };
      if (set === "drain") record.drains = false;
      if (set === "flush") {
        bev.setTimeouts(null, 150);
        while (socket.send(pattern(65_536)) > 0);
      }
      bev.enable(EV_READ);
      peer.send("x");
      await scene.during(1000);
      const event = {
        read: "event READING|TIMEOUT at 200",
        idle: "event READING|WRITING|TIMEOUT at 200",
        write: "event WRITING|TIMEOUT at 200",
        flush: "event WRITING|TIMEOUT at 150",
        enable: "event READING|TIMEOUT at 150",
        drain: "event READING|TIMEOUT at 150",
      }[set];
      assertEquals([set, record.lines.filter((line) => line.startsWith("event"))], [set, [event]]);
      bev.free();
      await scene.end();
    }
  });

  it("of the ticks of a rate limit, alone and of a group", async () => {
    const scene = new Scene();
    const { base, host } = scene;
    const bev = new SocketBufferEvent(base, null, BEV_OPT_CLOSE_ON_FREE);
    const config = new TokenBucketConfig({
      readRate: 10,
      readBurst: 1000,
      writeRate: 10,
      writeBurst: 1000,
      tickMs: 100,
    });
    const levels: (number | undefined)[] = [];
    let group: RateLimitGroup | undefined;
    base.timer(() => {
      base.now();
      host.block(550);
      bev.setRateLimit(config);
      group = new RateLimitGroup(base, config);
      levels.push(bev.readLimit, group.readLimit);
    }).add(10);
    base.timer(() => levels.push(bev.readLimit, group?.readLimit)).add(11);
    await scene.during(700);
    assertEquals(levels, [10, 10, 10, 10]);
    group?.free();
    bev.free();
    await scene.end();
  });

  it("of bytes that move between the ends of a pair", async () => {
    const scene = new Scene();
    const { base, host } = scene;
    const [a, b] = bufferEventPair(base, BEV_OPT_CLOSE_ON_FREE);
    const record = new Recorder(() => host.now());
    b.setCallbacks(record.callbacks);
    b.setTimeouts(100, null);
    b.setIdleTimeout(150);
    b.enable(EV_READ);
    base.timer(() => {
      host.block(500);
      a.write("x");
    }).add(50);
    await scene.during(1000);
    assertEquals(record.take(), [
      "read 1 at 550",
      "event READING|TIMEOUT at 650",
      "event READING|WRITING|TIMEOUT at 700",
    ]);
    a.free();
    b.free();
    await scene.end();
  });
});

/** The place where the program blocks. */
const PLACES = ["a timer", "a callback of I/O", "a deferred function"] as const;

/**
 * The kinds of timeouts: of reading and idleness, through a filter, of a persistent event and of
 * another one.
 */
class Waiters {
  /** The kinds that timed out. */
  readonly told: string[] = [];
  readonly #scene: Scene;
  readonly #ends: (() => void)[] = [];

  constructor(scene: Scene) {
    this.#scene = scene;
  }

  /** Makes one of each, each with a connection of its own. */
  async begin(name: string, timeoutMs: number, peer: (peer: Socket) => () => void): Promise<void> {
    const { base } = this.#scene;
    const connection = async (): Promise<Socket> => {
      const [socket, its] = await this.#scene.connection();
      this.#ends.push(peer(its));
      return socket;
    };
    const callbacks = {
      read: (bev: BufferEvent) => bev.input.drain(bev.input.length),
      event: () => void this.told.push(name),
    };
    const bev = async (): Promise<SocketBufferEvent> => {
      const made = new SocketBufferEvent(base, await connection(), BEV_OPT_CLOSE_ON_FREE);
      made.setCallbacks(callbacks);
      this.#ends.push(() => made.free());
      return made;
    };
    const read = await bev();
    read.setTimeouts(timeoutMs, null);
    const idle = await bev();
    idle.setIdleTimeout(timeoutMs);
    const filter = new FilterBufferEvent(await bev(), null, null, 0);
    filter.setCallbacks(callbacks);
    filter.setTimeouts(timeoutMs, null);
    this.#ends.push(() => filter.free());
    for (const each of [read, idle, filter]) each.enable(EV_READ);
    for (const persist of [EV_PERSIST, 0]) {
      const socket = await connection();
      const event = base.event(socket, EV_READ | persist, (_, what) => {
        socket.recv(new Uint8Array(100));
        if ((what & EV_TIMEOUT) !== 0) {
          this.told.push(name);
          event.del();
        } else if (persist === 0) event.add(timeoutMs);
      });
      event.add(timeoutMs);
      this.#ends.push(() => {
        event.free();
        socket.close();
      });
    }
  }

  end(): void {
    for (const end of this.#ends.reverse()) end();
  }
}

describe("a timeout of I/O is reported after a poll of the host (law 9)", () => {
  for (const place of PLACES) {
    for (const priorities of [1, 3]) {
      it(`when ${place} blocks, ${priorities} priorities: only for connections whose peers are silent`, async () => {
        const scene = new Scene({ priorities });
        const { base, host, sim } = scene;
        const waiters = new Waiters(scene);
        await waiters.begin("silent", 250, () => () => {});
        // The blocking callback has its own connection, and the urgent event another one.
        const [blocker, its] = await scene.connection();
        const block = base.event(blocker, EV_READ, () => host.block(500));
        const [busy, sender] = await scene.connection();
        const urgent = base.event(busy, EV_READ | EV_PERSIST, () => busy.recv(new Uint8Array(100)));
        for (const event of [block, urgent]) event.priority = priorities >> 2;
        urgent.add();
        const stop = scene.sends(sender, 10);
        sim.setTimer(sim.now() + 419, () => {
          its.send("now");
          // The same poll finds it, after the other.
          sender.send("now");
        });
        if (place === "a timer") base.timer(() => host.block(500)).add(420);
        else if (place === "a deferred function") base.timer(() => host.defer(() => host.block(500))).add(420);
        else block.add();
        await waiters.begin("sending", 250, (peer) => scene.sends(peer, 100));
        await scene.during(2000);
        assertEquals(waiters.told, ["silent", "silent", "silent", "silent", "silent"]);
        stop();
        waiters.end();
        blocker.close();
        busy.close();
        await scene.end();
      });
    }
  }

  it("unless its deadline moves before it is reported", async () => {
    const scene = new Scene();
    const { base, sim } = scene;
    const bevs: SocketBufferEvent[] = [];
    for (let i = 0; i < 3; i++) {
      const [socket] = await scene.connection();
      bevs.push(new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE));
    }
    const begin = sim.now();
    const record = new Recorder(() => sim.now() - begin);
    record.on.event = () => {
      bevs[1]?.setTimeouts(50, null);
      bevs[2]?.setIdleTimeout(70);
    };
    for (const bev of bevs) {
      bev.setCallbacks(record.callbacks);
      bev.setTimeouts(100, null);
      bev.enable(EV_READ);
    }
    bevs[2]?.setTimeouts(null, null);
    bevs[2]?.setIdleTimeout(100);
    await scene.during(120);
    record.on = {};
    await scene.during(500);
    assertEquals(record.take(), [
      "event READING|TIMEOUT at 100",
      "event READING|TIMEOUT at 150",
      "event READING|WRITING|TIMEOUT at 170",
    ]);
    for (const bev of bevs) bev.free();
    await scene.end();
  });

  it("and before timers that are due later", async () => {
    const scene = new Scene();
    const { base, host, sim } = scene;
    const [socket] = await scene.connection();
    const fired: string[] = [];
    const begin = sim.now();
    base.event(socket, EV_READ, () => fired.push(`timeout at ${sim.now() - begin}`)).add(100);
    base.timer(() => fired.push(`timer at ${sim.now() - begin}`)).add(100);
    base.timer(() => host.block(300)).add(50);
    base.loopExit(100);
    assertEquals([await sim.run(base.dispatch()), fired], ["exit", ["timeout at 350", "timer at 350"]]);
    socket.close();
    await scene.end();
  });

  it("but no other work waits for a long poll", async () => {
    const scene = new Scene();
    const { base, host, sim } = scene;
    host.pollMs = 40;
    const [socket] = await scene.connection();
    const [other, its] = await scene.connection();
    const begin = sim.now();
    const told: string[] = [];
    const note = (name: string) => (): void => void told.push(`${name} at ${sim.now() - begin}`);
    const event = base.event(socket, EV_READ, note("timeout"));
    event.add(100);
    assertEquals(event.expiresAt, begin + 100);
    base.timer(() => {
      note("timer")();
      assertEquals([event.pending(EV_READ | EV_TIMEOUT), event.expiresAt], [EV_READ | EV_TIMEOUT, begin + 100]);
      assertEquals(base.dumpEvents().trim().split("\n").length, 4);
    }).add(100);
    base.timer(note("timer")).add(120);
    base.event(other, EV_READ, note("bytes")).add();
    sim.setTimer(begin + 110, () => its.send("x"));
    await sim.run(base.dispatch());
    assertEquals(told, ["timer at 100", "bytes at 111", "timer at 120", "timeout at 140"]);
    for (const each of [socket, other]) each.close();
    await scene.end();
  });

  it("unless it is removed or restarted meanwhile", async () => {
    const scene = new Scene();
    const { base, host, sim } = scene;
    host.pollMs = 40;
    const told: string[] = [];
    const begin = sim.now();
    const sockets: Socket[] = [];
    const made = async (name: string): Promise<EventHandle> => {
      const [socket] = await scene.connection();
      sockets.push(socket);
      const event = base.event(socket, EV_READ | EV_PERSIST, () => {
        told.push(`${name} at ${sim.now() - begin}`);
        event.del();
      });
      return event;
    };
    const common = base.initCommonTimeout(100);
    const names = ["deleted", "freed", "timer removed", "added", "added with a common timeout", "left"];
    const events: EventHandle[] = [];
    for (const name of names) events.push(await made(name));
    await sim.advance(begin + 100 - sim.now());
    for (const [i, event] of events.entries()) event.add(i % 2 === 0 ? 100 : common);
    base.timer(() => {
      const [deleted, freed, removed, added, again] = events as [
        EventHandle,
        EventHandle,
        EventHandle,
        EventHandle,
        EventHandle,
      ];
      deleted.del();
      freed.free();
      removed.removeTimer();
      added.add(50);
      again.add(common);
    }).add(120);
    base.loopExit(500);
    await sim.run(base.dispatch());
    assertEquals(told, ["left at 240", "added at 310", "added with a common timeout at 360"]);
    for (const event of events) event.free();
    for (const socket of sockets) socket.close();
    await scene.end();
  });

  it("by loop(EVLOOP_NONBLOCK) in the same call", async () => {
    const scene = new Scene();
    const { base, sim } = scene;
    const [socket] = await scene.connection();
    const seen: number[] = [];
    base.event(socket, EV_READ, (_, what) => seen.push(what)).add(10);
    await sim.advance(9);
    assertEquals([await sim.run(base.loop(EVLOOP_NONBLOCK)), seen], ["done", []]);
    await sim.advance(1);
    assertEquals([await sim.run(base.loop(EVLOOP_NONBLOCK)), seen], ["empty", [EV_TIMEOUT]]);
    socket.close();
    await scene.end();
  });

  it("when the program blocks before the loop begins", async () => {
    const scene = new Scene();
    const { base, host } = scene;
    const [socket, peer] = await scene.connection();
    const bev = new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE);
    const record = new Recorder();
    bev.setCallbacks(record.callbacks);
    bev.setTimeouts(250, null);
    bev.enable(EV_READ);
    const stop = scene.sends(peer, 100);
    host.block(500);
    await scene.during(1000);
    assertEquals(record.lines.filter((line) => line.startsWith("event")), []);
    stop();
    bev.free();
    await scene.end();
  });

  it("of writing, when the peer has taken the output meanwhile", async () => {
    const scene = new Scene();
    const { base, host, sim } = scene;
    const [socket, peer] = await scene.connection();
    const bev = new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE);
    const record = new Recorder();
    bev.setCallbacks(record.callbacks);
    bev.setTimeouts(null, 250);
    bev.setIdleTimeout(250);
    bev.write(pattern(500_000));
    const into = new Uint8Array(65_536);
    let reader = sim.setTimer(sim.now() + 50, function read() {
      while (peer.recv(into) > 0);
      reader = sim.setTimer(sim.now() + 50, read);
    });
    base.timer(() => host.block(500)).add(20);
    await scene.during(700);
    assertEquals(record.take(), ["write 0"]);
    sim.clearTimer(reader);
    bev.free();
    await scene.end();
  });

  it("by the next loop, when a callback has thrown during the events of the poll", async () => {
    for (const priorities of [1, 2]) {
      const scene = new Scene({ priorities });
      const { base, host, sim } = scene;
      const [one, its] = await scene.connection();
      const [other, others] = await scene.connection();
      const [silent] = await scene.connection();
      const seen: unknown[] = [];
      base.event(silent, EV_READ, (_, what) => seen.push(what)).add(250);
      const throws = base.event(one, EV_READ | EV_PERSIST, () => {
        throw new Error("enough");
      });
      const waits = base.event(other, EV_READ | EV_PERSIST, () => seen.push("not deleted"));
      throws.priority = 0;
      for (const event of [throws, waits]) event.add();
      sim.setTimer(sim.now() + 100, () => [its, others].forEach((peer) => peer.send("x")));
      base.timer(() => host.defer(() => host.block(500))).add(50);
      assertEquals(await sim.run(base.dispatch()).catch((error: Error) => error.message), "enough");
      await sim.advance(10);
      for (const event of [throws, waits]) event.free();
      assertEquals([await sim.run(base.dispatch()), seen], ["empty", [EV_TIMEOUT]]);
      for (const socket of [one, other, silent]) socket.close();
      await scene.end();
    }
  });

  it("of an event on a signal, when it was raised in time", async () => {
    for (const priorities of [1, 2]) {
      const scene = new Scene({ priorities });
      const { base, host, sim } = scene;
      const seen: number[] = [];
      const event = base.event("SIGUSR1", EV_SIGNAL | EV_PERSIST, (_, what) => seen.push(what));
      event.add(250);
      sim.setTimer(sim.now() + 100, () => sim.raise("SIGUSR1"));
      base.timer(() => host.defer(() => host.block(500))).add(50);
      await scene.during(700);
      assertEquals(seen, [EV_SIGNAL]);
      await scene.during(100);
      assertEquals(seen, [EV_SIGNAL, EV_TIMEOUT]);
      event.free();
      await scene.end();
    }
  });

  it("of connecting, when the connection is there in time", async () => {
    const scene = new Scene();
    const { base, host, sim } = scene;
    const listening = await sim.listen({ hostname: "127.0.0.1", port: 0 }, {
      onAccept: (binding) => {
        const close = (): void => binding.close();
        const none = (): void => {};
        return { onConnect: none, onSecure: none, onData: none, onEnd: close, onWritable: none, onClose: none };
      },
      onError: () => {},
    });
    const { port } = listening.address as { port: number };
    const bev = new SocketBufferEvent(base, null, BEV_OPT_CLOSE_ON_FREE);
    const record = new Recorder();
    bev.setCallbacks(record.callbacks);
    bev.setTimeouts(null, 100);
    bev.connect({ port });
    const socket = base.connect({ port, timeoutMs: 100 });
    host.block(500);
    await scene.during(10);
    await scene.during(600);
    assertEquals(record.take(), ["event CONNECTED"]);
    assertEquals([socket.connected, socket.error], [true, null]);
    bev.free();
    socket.close();
    await listening.close();
    await scene.end();
  });

  it("of select(), Poller.wait() and CompletionPort.wait(), which return events that came in time", async () => {
    const scene = new Scene();
    const { base, host, sim } = scene;
    const [socket, peer] = await scene.connection();
    const [other, its] = await scene.connection();
    const poller = new Poller(base);
    poller.add(socket, EV_READ);
    const port = new CompletionPort<string>(base);
    port.associate(other, "other");
    const ov = new Overlapped();
    other.recvOverlapped(new Uint8Array(8), ov);
    const waits = Promise.all([select({ read: [socket] }, 250), poller.wait(250), port.wait(250)]);
    sim.setTimer(sim.now() + 100, () => {
      peer.send("x");
      its.send("y");
    });
    host.setTimer(host.now() + 50, () => host.block(500));
    const [selected, polled, completed] = await sim.run(waits);
    assertEquals([selected.read, polled.length, completed?.key], [[socket], 1, "other"]);
    poller.close();
    port.close();
    socket.close();
    other.close();
    await scene.end();
  });

  it("of close(), when the peer has finished in time", async () => {
    const scene = new Scene();
    const { base, host, sim } = scene;
    const [socket, peer] = await scene.connection();
    const bev = new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE);
    const running = base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    bev.write("last words");
    await sim.advance(5);
    const closing = bev.close({ timeoutMs: 250 });
    sim.setTimer(sim.now() + 100, () => peer.shutdown());
    host.setTimer(host.now() + 50, () => host.block(500));
    await sim.advance(1000);
    assertEquals(await sim.run(closing), true);
    base.loopExit();
    await sim.run(running);
    await scene.end();
  });
});
