// The laws of core/runtime.ts in random runs.
//
// 1. A seed decides latency, faults, the number of clients of one listener, and the actions of each
// end.
// 2. Each end writes bytes that count up, pauses, resumes, finishes, closes, releases or resets,
// between steps of time and inside its callbacks. It checks each callback against its own actions
// and those of its peer.
// 3. At the end all are closed: each has got one onClose(), and nothing is open or scheduled.
//
// A failure names its seed: `SEEDS` may be set to that one.

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import type { EventError } from "../../../core/errors.ts";
import type { InetAddress, TransportBinding, TransportSink } from "../../../core/runtime.ts";
import { simRuntime } from "../../../runtimes/sim.ts";
import { counting } from "./ends.ts";

const SEEDS = Array.from({ length: 40 }, (_, i) => i + 1);
const STEPS = 150;

type Dice = (below: number) => number;

function dice(seed: number): Dice {
  let state = seed * 7919 + 13;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (state >>> 8) % below;
  };
}

class Player implements TransportSink {
  peer: Player | undefined;
  got = 0;
  taken = 0;
  connected = false;
  owed = false;
  ended = false;
  finished = false;
  ending: "closed" | "released" | "reset" | undefined;
  /** Whether it only receives from now on. */
  calm = false;
  heard: { error: string | undefined } | undefined;
  readonly #roll: Dice;
  readonly #label: string;
  #binding: TransportBinding | undefined;
  #inMethod = false;

  constructor(label: string, roll: Dice) {
    this.#label = label;
    this.#roll = roll;
  }

  begin(binding: TransportBinding): void {
    this.#binding = binding;
  }

  get binding(): TransportBinding {
    assert(this.#binding !== undefined);
    return this.#binding;
  }

  onSecure(): void {}

  onConnect(): void {
    this.#check(!this.connected, "onConnect() once");
    this.connected = true;
    this.act(2);
  }

  onData(chunk: Uint8Array): void {
    this.#check(this.connected && !this.ended && this.ending === undefined && chunk.length > 0, "onData()");
    for (const byte of chunk) this.#check(byte === this.got++ % 256, `byte ${this.got}`);
    this.#check(this.got <= (this.peer?.taken ?? 0), "no more than was accepted");
    this.act(2);
  }

  onEnd(): void {
    this.#check(!this.ended && this.ending === undefined, "onEnd() once");
    this.#check(this.got === this.peer?.taken, `the end after all: ${this.got} of ${this.peer?.taken}`);
    this.ended = true;
    this.act(3);
  }

  onWritable(): void {
    this.#check(this.owed, "onWritable() after a 0");
    this.owed = false;
    this.act(2);
  }

  onClose(error?: EventError): void {
    this.#check(error === undefined || this.ending !== "reset", "no error after reset()");
    const finished = this.ending !== undefined || (this.ended && this.finished);
    this.#check(error !== undefined || finished, "onClose() has a reason");
    this.heard = { error: error?.code };
    this.act(5);
  }

  /** Acts at random, once in `oneIn` times. */
  act(oneIn: number): void {
    if (this.#binding === undefined || this.calm || this.#roll(oneIn) !== 0) return;
    const what = this.#roll(200);
    if (what < 30) this.#call(() => this.binding.pauseRead());
    else if (what < 75) this.#call(() => this.binding.resumeRead());
    else if (what < 78) this.#finish(undefined, () => this.binding.shutdownWrite());
    else if (what < 80) this.close();
    else if (what < 81) this.#finish("reset", () => this.binding.reset());
    else if (what < 82) this.#finish("released", () => this.binding.release());
    else this.#write();
  }

  close(): void {
    this.#finish("closed", () => this.binding.close());
  }

  /** From now on it only receives. */
  resume(): void {
    this.calm = true;
    this.#call(() => this.binding.resumeRead());
  }

  #write(): void {
    const chunk = counting(this.#roll(3) === 0 ? this.#roll(10) : this.#roll(40_000), this.taken);
    const half = chunk.length >> 1;
    const several = [chunk.subarray(0, half), chunk.subarray(half)];
    const taken = this.#call(() =>
      this.#roll(3) === 0 ? this.binding.writev?.(several) ?? 0 : this.binding.write(chunk)
    );
    chunk.fill(255);
    const over = this.finished || this.heard !== undefined;
    this.#check(taken <= chunk.length && (taken === 0 || !over), "write() accepts what it may");
    this.taken += taken;
    if (chunk.length > 0) this.owed = taken === 0 && !over;
  }

  #finish(ending: Player["ending"], call: () => void): void {
    if (this.heard === undefined) this.ending = ending ?? this.ending;
    this.finished = true;
    this.#call(call);
  }

  #call<T>(fn: () => T): T {
    this.#inMethod = true;
    try {
      return fn();
    } finally {
      this.#inMethod = false;
    }
  }

  #check(holds: boolean, law: string): void {
    assert(holds, `${this.#label}: ${law}`);
    assert(this.heard === undefined || law.startsWith("write"), `${this.#label}: nothing after onClose()`);
    assert(!this.#inMethod || law.startsWith("write"), `${this.#label}: nothing from inside a method`);
  }
}

/** Whether all bytes of a player must arrive. */
function mustArrive(from: Player, to: Player): boolean {
  return [from, to].every(({ heard, ending }) => heard?.error === undefined && ending !== "reset") &&
    from.ending !== "released" && to.ending === undefined;
}

async function play(seed: number): Promise<void> {
  const roll = dice(seed);
  const chaos = { jitterMs: roll(20), segmentCut: roll(5) / 5, connectionReset: roll(4) === 0 ? 0.01 : 0 };
  const sim = simRuntime({ seed, latencyMs: roll(4) / 2, faults: roll(2) === 0 ? {} : chaos });
  const players: Player[] = [];
  const listener = await sim.listen({ port: 80, backlog: 2 }, {
    onAccept: (binding) => {
      const server = new Player(`seed ${seed} server ${players.length}`, roll);
      const { port } = binding.remote as InetAddress;
      const client = players.find((player) => (player.binding.local as InetAddress | undefined)?.port === port);
      assert(client !== undefined);
      server.peer = client;
      client.peer = server;
      server.connected = true;
      server.begin(binding);
      players.push(server);
      server.act(1);
      return server;
    },
    onError: (error) => {
      throw error;
    },
  });
  for (let clients = 1 + roll(5); clients > 0; clients--) {
    const client = new Player(`seed ${seed} client ${players.length}`, roll);
    client.begin(sim.connect({ port: 80 }, client));
    players.push(client);
  }
  for (let step = 0; step < STEPS; step++) {
    players[roll(players.length)]?.act(1);
    if (roll(10) === 0) listener.pauseAccept();
    if (roll(5) === 0) listener.resumeAccept();
    await sim.advance(roll(3));
  }
  listener.resumeAccept();
  for (const player of players) player.resume();
  await sim.advance(1000);
  for (const player of players) {
    if (player.peer === undefined || !mustArrive(player, player.peer)) continue;
    assertEquals(player.peer.got, player.taken, `seed ${seed}: what was taken arrives`);
  }
  for (const player of players) player.close();
  await sim.advance(1000);
  await listener.close();
  assert(players.every(({ heard }) => heard !== undefined), `seed ${seed}: every end hears onClose()`);
  assertEquals([sim.openHandles, sim.pending], [0, 0], `seed ${seed}: nothing is left`);
}

describe("random runs", () => {
  it("keep the laws of a connection, and leave nothing", async () => {
    for (const seed of SEEDS) await play(seed);
  });
});
