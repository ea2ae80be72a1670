// Each promise of the web streams settles in every ending of a connection of serve(), in every
// state of its streams. No rejection is unhandled.

import process from "node:process";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import type { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import type { EventError } from "../../../core/errors.ts";
import { EVENT_BASE_COUNT_ADDED, EVLOOP_NO_EXIT_ON_EMPTY } from "../../../core/flags.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { Socket } from "../../../core/api/socket.ts";
import { serve, type Server } from "../../../core/serve/serve.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { portOf, receiveAll, text } from "../socket/pairs.ts";

/** The state of the connection's streams when it ends. */
const STATES = ["untouched", "used", "reading", "writing", "reading and writing", "closing"] as const;
type State = (typeof STATES)[number];

/** The cause of the end, and the code with which the streams fail; "" for no failure. */
const ENDINGS = {
  "a reset of the peer": { reading: "ECONNRESET", writing: "ECONNRESET" },
  "free()": { reading: "EV_FREED", writing: "EV_FREED" },
  "reset()": { reading: "EV_FREED", writing: "EV_FREED" },
  "close()": { reading: "", writing: "EPIPE" },
  "server.close() without grace": { reading: "EV_FREED", writing: "EV_FREED" },
} as const;
type Ending = keyof typeof ENDINGS;

interface Scene {
  readonly sim: SimRuntime;
  readonly server: Server;
  readonly bev: SocketBufferEvent;
  readonly peer: Socket;
  /** The number of calls of `close`. */
  readonly closed: () => number;
  end(): Promise<void>;
}

async function scene(): Promise<Scene> {
  const sim = simRuntime({ maxSteps: 500_000 });
  let bev: SocketBufferEvent | null = null;
  let closed = 0;
  const server = await serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, {
    open: (opened) => void (bev = opened),
    close: () => void closed++,
  });
  const peer = Socket.connect(sim, { hostname: "127.0.0.1", port: portOf(server) });
  await sim.advance(10);
  assert(bev !== null);
  return {
    sim,
    server,
    bev,
    peer,
    closed: () => closed,
    async end() {
      peer.close();
      await sim.run(server.close({ graceMs: 0 }));
      await sim.advance(40_000);
      assertEquals([server.connections, closed, sim.openHandles, sim.pending], [0, 1, 0, 0]);
    },
  };
}

/** The result of a promise: "" or the code; undefined while it is pending. */
function outcomeOf(promise: Promise<unknown>): () => string | undefined {
  let outcome: string | undefined;
  promise.then(() => outcome = "", (error) => outcome = (error as EventError | undefined)?.code ?? String(error));
  return () => outcome;
}

function end(ending: Ending, { bev, peer, server }: Scene): void {
  switch (ending) {
    case "a reset of the peer":
      return peer.reset();
    case "free()":
      return bev.free();
    case "reset()":
      return bev.reset();
    case "close()":
      void bev.close({ timeoutMs: 1000 });
      return;
    case "server.close() without grace":
      void server.close({ graceMs: 0 });
  }
}

/** Counts unhandled rejections while `act` runs. */
async function unheard(act: () => Promise<void>): Promise<unknown[]> {
  const reasons: unknown[] = [];
  const listener = (reason: unknown): void => void reasons.push(reason);
  process.on("unhandledRejection", listener);
  try {
    await act();
    // The runtime reports it after all microtasks.
    await new Promise((resolve) => setTimeout(resolve, 5));
  } finally {
    process.removeListener("unhandledRejection", listener);
  }
  return reasons;
}

describe("the streams of a connection", () => {
  for (const ending of Object.keys(ENDINGS) as Ending[]) {
    it(`settle all promises after ${ending}`, async () => {
      for (const state of STATES) {
        let told: unknown;
        const reasons = await unheard(async () => {
          const stage = await scene();
          told = await settledAfter(ending, state, stage);
          await stage.end();
        });
        assertEquals(reasons, [], state);
        const { reading, writing } = ENDINGS[ending];
        const expected: { [name: string]: string } = { "reader.closed": reading, "writer.closed": writing };
        if (state.includes("reading")) expected["read()"] = reading;
        if (state.includes("writing")) expected["write()"] = writing;
        if (state !== "closing") expected["writer.ready"] = writing;
        else {
          // bev.close() delivers earlier output, which settles this at once.
          expected["writer.closed"] = expected["writer.close()"] = ending === "close()" ? "" : writing;
        }
        assertEquals(told, expected, state);
      }
    });
  }
});

/** Brings the streams to a state, ends the connection, and returns the result of each promise. */
async function settledAfter(
  ending: Ending,
  state: State,
  stage: Scene,
): Promise<{ [name: string]: string | undefined }> {
  const { sim, bev, peer } = stage;
  const reader = bev.readable.getReader();
  const writer = bev.writable.getWriter();
  if (state === "used") {
    await sim.run(writer.write("out"));
    assertEquals(peer.send(new Uint8Array(2)), 2);
    await sim.run(reader.read());
  }
  const outcomes: { [name: string]: () => string | undefined } = {
    "reader.closed": outcomeOf(reader.closed),
    "writer.closed": outcomeOf(writer.closed),
  };
  if (state.includes("reading")) outcomes["read()"] = outcomeOf(reader.read());
  if (state.includes("writing")) outcomes["write()"] = outcomeOf(writer.write(new Uint8Array(1_000_000)));
  if (state === "closing") {
    while (bev.output.length < 1000) {
      bev.write(new Uint8Array(200_000));
      await sim.advance(2);
    }
    outcomes["writer.close()"] = outcomeOf(writer.close());
  }
  await sim.advance(10);
  assertEquals(Object.values(outcomes).map((outcome) => outcome()), Object.values(outcomes).map(() => undefined));
  end(ending, stage);
  await sim.advance(20);
  if (state !== "closing") outcomes["writer.ready"] = outcomeOf(writer.ready);
  await sim.advance(1);
  return Object.fromEntries(Object.entries(outcomes).map(([name, outcome]) => [name, outcome()]));
}

describe("a handler that stays pending", () => {
  it("leaves no timer behind when its connection fails", async () => {
    const sim = simRuntime();
    const base = new EventBase({ runtime: sim });
    const looping = base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    const server = await serve({ base, hostname: "127.0.0.1", port: 0 }, {
      async open(bev) {
        const reader = bev.readable.getReader();
        reader.read().then(() => {}, () => {});
        await new Promise(() => {});
      },
    });
    const peer = Socket.connect(sim, { hostname: "127.0.0.1", port: portOf(server) });
    await sim.advance(10);
    peer.reset();
    await sim.advance(10);
    assertEquals(server.connections, 0);
    await sim.run(server.close());
    base.loopBreak();
    await sim.run(looping);
    assertEquals([base.numEvents(EVENT_BASE_COUNT_ADDED), sim.openHandles], [0, 0]);
  });
});

describe("the end of a peer that has sent everything before the first read", () => {
  for (const writes of [false, true]) {
    it(`reaches the reader of the stream${writes ? ", while the other stream is being written" : ""}`, async () => {
      const stage = await scene();
      const { sim, bev, peer } = stage;
      const reader = bev.readable.getReader();
      const writer = bev.writable.getWriter();
      if (writes) await sim.run(writer.write("hello, "));
      assertEquals(peer.send(new TextEncoder().encode("question")), 8);
      peer.shutdown();
      await sim.advance(20);
      assertEquals([stage.closed(), bev.input.toString()], [0, "question"]);
      assertEquals(text((await sim.run(reader.read())).value!), "question");
      assertEquals((await sim.run(reader.read())).done, true);
      await sim.run(writer.write("answer"));
      await sim.run(writer.close());
      await sim.advance(20);
      const { bytes, ended } = receiveAll(peer);
      assertEquals([text(bytes), ended], [writes ? "hello, answer" : "answer", true]);
      assertEquals([stage.closed(), stage.server.connections], [1, 0]);
      await stage.end();
    });
  }
});

describe("a handler that rethrows the error of a stream", () => {
  for (const ending of Object.keys(ENDINGS) as Ending[]) {
    it(`has not failed after ${ending}`, async () => {
      for (const what of ["read", "write", "pipe", "write a second time"] as const) {
        const errors: unknown[] = [];
        const sim = simRuntime({ maxSteps: 500_000 });
        let bev: SocketBufferEvent | null = null;
        const server = await serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, {
          error: (error) => void errors.push(error),
          async open(opened) {
            bev = opened;
            if (what === "read") await opened.readable.getReader().read();
            else if (what === "pipe") await opened.readable.pipeTo(opened.writable);
            else {
              const writer = opened.writable.getWriter();
              const writing = writer.write(new Uint8Array(1_000_000));
              if (what === "write") await writing;
              else await writing.catch(() => writer.write("again"));
            }
          },
        });
        const peer = Socket.connect(sim, { hostname: "127.0.0.1", port: portOf(server) });
        await sim.advance(10);
        assert(bev !== null);
        end(ending, { sim, bev, peer, server, closed: () => 0, end: () => Promise.resolve() });
        await sim.advance(20);
        peer.close();
        await sim.run(server.close({ graceMs: 0 }));
        await sim.advance(40_000);
        assertEquals([errors, sim.openHandles, sim.pending], [[], 0, 0], what);
      }
    });
  }
});
