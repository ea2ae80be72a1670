// A seed repeats a run exactly: after other work in the process, beside other simulators, and
// however a program cuts its output into pieces. tests/programs/sim_everywhere.test.ts tests that
// all runtimes give the same run.

import { describe, it } from "node:test";
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import {
  BEV_OK,
  type BufferEventFilter,
  bufferEventPair,
  connect,
  EV_READ,
  EvBuffer,
  EventBase,
  FilterBufferEvent,
  serve,
  type SimRuntime,
  simRuntime,
} from "../../../mod.ts";
import { connect as connectEnd, listen } from "./ends.ts";

const SEEDS = 500;
const FAULTS = {
  jitterMs: 3,
  segmentCut: 0.2,
  connectionReset: 0.01,
  connectRefused: 0.05,
  datagramLost: 0.1,
  datagramDoubled: 0.1,
};

/** A small program: an echo of lines with several clients, over a network with faults. */
async function play(sim: SimRuntime): Promise<string> {
  const server = await sim.run(
    serve({ hostname: "127.0.0.1", port: 80, runtime: sim }, {
      line(bev, line) {
        bev.write(line);
        bev.write("\n");
      },
      error() {},
    }),
  );
  const host = sim.host("client");
  const dice = (below: number): number => Math.floor(sim.random() * below);
  for (let i = 0; i < 3; i++) {
    const client = connect({ hostname: "127.0.0.1", port: 80, runtime: host }, {
      open(bev) {
        for (let lines = dice(30); lines > 0; lines--) bev.write(`${"x".repeat(dice(2000))}\n`);
      },
      error() {},
    });
    client.catch(() => {});
    await sim.advance(dice(10));
  }
  await sim.advance(50);
  await sim.run(server.close({ graceMs: 20 }));
  return sim.hash;
}

function hashOf(seed: number): Promise<string> {
  return play(simRuntime({ seed, faults: FAULTS }));
}

/** Other work of the process, which changes the memory positions of the next chunks. */
function otherWork(seed: number): void {
  const buffer = new EvBuffer();
  for (let i = seed % 17; i >= 0; i--) buffer.add("other work".repeat(1 + seed % 61));
}

/**
 * A program whose traffic depends on the chunks that it sees, over a pair, a filter and a socket,
 * and with its own buffers. It yields after each part of its work, so that other programs can run.
 *
 * @returns The chunks that it has seen, its trace and its hash
 */
async function* look(seed: number): AsyncGenerator<undefined, string> {
  const sim = simRuntime({ seed, faults: { jitterMs: 3, segmentCut: 0.2 } });
  sim.trace = true;
  const base = new EventBase({ runtime: sim });
  const [near, far] = bufferEventPair(base);
  const pass: BufferEventFilter = (from, to) => {
    to.addBuffer(from);
    return BEV_OK;
  };
  const filter = new FilterBufferEvent(far, pass, pass);
  filter.enable(EV_READ);
  const seen: string[] = [];
  const kept = new EvBuffer();
  const keep = (): void => {
    kept.add("kept".repeat(10 + seed));
    if (kept.length < 2000) sim.setTimer(sim.now() + 1, keep);
  };
  const server = await sim.run(
    serve({ hostname: "127.0.0.1", port: 80, runtime: sim }, {
      read(bev) {
        const own = new EvBuffer();
        own.add(`own ${bev.input.length} `);
        own.add("x".repeat(seed * 50));
        own.addBuffer(bev.input);
        own.add("and an end of it");
        seen.push(sizes(own));
        bev.output.addBuffer(own);
        bev.write(`${bev.output.peek().length}`);
      },
      error() {},
    }),
  );
  yield;
  const client = connect({ hostname: "127.0.0.1", port: 80, runtime: sim.host("client") }, {
    read(bev) {
      seen.push(sizes(bev.input));
      bev.input.drain(bev.input.length);
    },
    error() {},
  });
  const bev = await sim.run(client);
  for (let i = 0; i < 60; i++) {
    near.write("a".repeat(i % 4 === 0 ? 5000 : 70 + seed));
    bev.write("b".repeat(i % 7 === 0 ? 9000 : 30));
    yield;
    near.output.add(new Uint8Array(i * 10));
    if (i % 3 === 0) await sim.advance(1);
    seen.push(sizes(filter.input));
    if (i % 5 === 0) bev.write("c".repeat(filter.input.peek().length * 10));
    if (i % 11 === 0) filter.input.drain(filter.input.length);
    yield;
  }
  await sim.run(server.close({ graceMs: 20 }));
  keep();
  await sim.advance(100);
  seen.push(sizes(kept));
  filter.free();
  near.free();
  base.free();
  return [...seen, ...sim.lines, sim.hash].join("\n");
}

function sizes(buffer: EvBuffer): string {
  return buffer.peek().map(({ length }) => length).join();
}

async function drain(program: AsyncGenerator<undefined, string>): Promise<string> {
  for (;;) {
    const { value } = await program.next();
    if (value !== undefined) return value;
  }
}

describe("the same seed", () => {
  it("gives the same hash a second time in one process, after other work, 500 times", async () => {
    const first: string[] = [];
    for (let seed = 0; seed < SEEDS; seed++) first.push(await hashOf(seed));
    for (let seed = 0; seed < SEEDS; seed++) {
      otherWork(seed);
      assertEquals(await hashOf(seed), first[seed], `seed ${seed}`);
    }
    assert(new Set(first).size > SEEDS * 0.9);
  });

  it("gives a program the same chunks, after other work", () => {
    function chunks(): number[] {
      const base = new EventBase({ runtime: simRuntime() });
      const [near, far] = bufferEventPair(base);
      far.enable(EV_READ);
      for (let i = 0; i < 40; i++) near.write("x".repeat(i % 4 === 0 ? 5000 : 700));
      const sizes = far.input.peek().map(({ length }) => length);
      near.free();
      far.free();
      base.free();
      return sizes;
    }
    const first = chunks();
    for (let seed = 0; seed < 20; seed++) {
      otherWork(seed);
      new EvBuffer().add(new Uint8Array(6000 + seed));
      assertEquals(chunks(), first);
    }
  });

  it("gives a program the same chunks, beside other simulators", async () => {
    const alone = [await drain(look(1)), await drain(look(2))];
    assertNotEquals(alone[0], alone[1]);
    // In turn, from outside: each program writes after the other.
    const both = [look(1), look(2)];
    const [work] = bufferEventPair(new EventBase());
    const seen: string[] = [];
    while (seen.filter((result) => result !== undefined).length < 2) {
      for (const [i, program] of both.entries()) {
        const { value } = await program.next();
        if (value !== undefined) seen[i] ??= value;
        work.write("other work of the process");
      }
    }
    assertEquals(seen, alone);
    // At the same time: their steps and the reactions of their promises are mixed.
    assertEquals(await Promise.all([drain(look(1)), drain(look(2)), drain(look(1))]), [...alone, alone[0]]);
  });

  it("gives the same hash while other simulators run beside it", async () => {
    const alone = await hashOf(1);
    const all = await Promise.all([hashOf(2), hashOf(1), hashOf(3), hashOf(1)]);
    assertEquals([all[1], all[3]], [alone, alone]);
    assertNotEquals(all[0], alone);
  });

  it("gives the same hash however a program cuts the output of one callback into pieces", async () => {
    const hashes: string[] = [];
    for (const size of [20_000, 7000, 100, 1]) {
      const sim = simRuntime({ seed: 5, faults: FAULTS });
      const { door, port } = await listen(sim);
      const client = connectEnd(sim, { port });
      client.on.onConnect = () => {
        for (let at = 0; at < 20_000; at += size) client.binding.write(new Uint8Array(Math.min(size, 20_000 - at)));
        if (size === 7000) client.binding.writev?.([]);
      };
      door.accept = (end) => (end.on.onData = (chunk) => void end.binding.write(chunk));
      await sim.advance(100);
      hashes.push(sim.hash);
    }
    assertEquals(new Set(hashes).size, 1, hashes.join());
  });
});
