// The seed gives the same run each time; each fault has its effect.

import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { type SimOptions, type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { connect, counting, type Door, type End, listen, pair } from "./ends.ts";

/** Random numbers for the tests, independent of the simulator's own. */
function dice(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (state >>> 8) % below;
  };
}

/**
 * Clients of several hosts that send, pause, resume, finish and reset at random. Returns all
 * callbacks.
 */
async function scramble(options: SimOptions, seed: number): Promise<string> {
  const sim = simRuntime(options);
  const roll = dice(seed);
  const { door, port } = await listen(sim);
  door.accept = (end) => {
    end.on.onData = (chunk) => void end.binding.write(chunk);
    end.on.onEnd = () => end.binding.close();
  };
  const clients: End[] = [];
  for (let step = 0; step < 400; step++) {
    if (roll(8) === 0) clients.push(connect(sim.host(`host${roll(3)}`), { hostname: "10.0.0.1", port }));
    const client = clients[roll(clients.length || 1)];
    switch (client === undefined ? -1 : roll(9)) {
      case 0:
        client?.binding.pauseRead();
        break;
      case 1:
        client?.binding.resumeRead();
        break;
      case 2:
        if (roll(5) === 0) client?.binding.reset();
        break;
      case 3:
        if (roll(5) === 0) client?.binding.close();
        break;
      case -1:
        break;
      default:
        client?.binding.write(counting(roll(30_000), step));
    }
    await sim.advance(roll(4));
  }
  return everything(sim, clients, door);
}

function everything(sim: SimRuntime, clients: readonly End[], door: Door): string {
  const ends = [...clients, ...door.ends];
  return [...ends.map((end) => end.log.join(", ")), `${sim.now()} ${sim.pending} ${sim.openHandles}`].join("\n");
}

describe("the same seed", () => {
  it("gives exactly the same run, with and without faults", async () => {
    const faults = { jitterMs: 5, connectRefused: 0.1, connectionReset: 0.01, segmentCut: 0.5, datagramLost: 0.5 };
    for (const options of [{}, { seed: 5, faults }, { seed: -1.5e9, latencyMs: 0.3, faults }]) {
      assertEquals(await scramble(options, 1), await scramble(options, 1));
    }
  });

  it("gives another run than another seed", async () => {
    const faults = { jitterMs: 5 };
    assert(await scramble({ seed: 1, faults }, 1) !== await scramble({ seed: 2, faults }, 1));
    assertEquals(await scramble({ seed: 1 }, 1), await scramble({ seed: 2 }, 1));
  });

  it("gives numbers that are the same on every engine", async () => {
    const sim = simRuntime({ seed: 42, latencyMs: 0, faults: { jitterMs: 1000 } });
    const times: number[] = [];
    for (let i = 0; i < 3; i++) void sim.resolve("nobody").catch(() => times.push(Math.floor(sim.now())));
    await sim.advance(1000);
    assertEquals(times, [88, 542, 714]);
  });
});

describe("the received bytes", () => {
  it("are the accepted bytes, in order, whatever the faults, the pauses and the sizes", async () => {
    for (let seed = 1; seed <= 8; seed++) {
      const roll = dice(seed);
      const faults = seed % 2 === 0 ? {} : { jitterMs: roll(20), segmentCut: roll(10) / 10 };
      const sim = simRuntime({ seed, latencyMs: roll(3), faults });
      const [client, server] = await slowPair(sim);
      const sent: [number, number] = [0, 0];
      for (let step = 0; step < 300; step++) {
        const [i, end] = roll(2) === 0 ? [0, client] as const : [1, server] as const;
        if (roll(4) === 0) end.binding.pauseRead();
        else if (roll(3) === 0) end.binding.resumeRead();
        sent[i] += end.binding.write(counting(roll(20_000), sent[i]));
        await sim.advance(roll(5));
      }
      for (const end of [client, server]) {
        end.binding.resumeRead();
        end.binding.shutdownWrite();
      }
      await sim.advance(10_000);
      for (const [i, end] of [server, client].entries()) {
        assertEquals(end.bytes.length, sent[i], `seed ${seed}`);
        assert(end.bytes.every((byte, at) => byte === at % 256), `seed ${seed}`);
        assertEquals(end.events.slice(-2).sort(), ["close ok", "end"], `seed ${seed}`);
        assertEquals(end.events.filter((event) => event === "end").length, 1);
      }
      assertEquals([sim.openHandles, sim.pending], [0, 0], `seed ${seed}`);
    }
  });
});

async function slowPair(sim: SimRuntime): Promise<[End, End]> {
  const { door, listener, port } = await listen(sim);
  const client = connect(sim, { port });
  await sim.advance(1000);
  await listener.close();
  return [client, door.first];
}

describe("faults", () => {
  it("connectRefused refuses attempts", async () => {
    const sim = simRuntime({ faults: { connectRefused: 0.5 } });
    const { port } = await listen(sim);
    const clients = Array.from({ length: 1000 }, () => connect(sim, { port }));
    await sim.advance(10);
    const refused = clients.filter((client) => client.closed === "ECONNREFUSED").length;
    assert(refused > 400 && refused < 600, `${refused} of 1000`);
  });

  it("connectionReset resets both ends instead of delivering the data", async () => {
    const sim = simRuntime({ faults: { connectionReset: 1 } });
    const [client, server] = await pair(sim);
    client.binding.write(counting(3));
    await sim.advance(10);
    assertEquals([client.events, server.events], [["connect", "close ECONNRESET"], ["close ECONNRESET"]]);
    assertEquals([sim.openHandles, sim.pending], [0, 0]);
  });

  it("segmentCut delivers a write in pieces", async () => {
    const sim = simRuntime({ faults: { segmentCut: 1 } });
    const [client, server] = await pair(sim);
    client.binding.write(counting(200));
    await sim.advance(10);
    assert(server.events.length > 3);
    assertEquals(server.bytes, [...counting(200)]);
  });

  it("jitterMs changes the times and not the order", async () => {
    const sim = simRuntime({ faults: { jitterMs: 50 } });
    const [client, server] = await slowPair(sim);
    for (let i = 0; i < 100; i++) {
      client.binding.write(counting(1, i));
      await sim.advance(1);
    }
    await sim.advance(100);
    assertEquals(server.bytes, [...counting(100)]);
    assert(server.log.length < 100);
  });

  it("datagramLost loses datagrams", async () => {
    const sim = simRuntime({ faults: { datagramLost: 0.5 } });
    let got = 0;
    const sink = { onMessage: () => void got++, onWritable: () => {}, onError: () => {} };
    const socket = await sim.datagram?.({ port: 53 }, sink);
    for (let i = 0; i < 1000; i++) socket?.send(counting(1), { hostname: "127.0.0.1", port: 53, family: "IPv4" });
    await sim.advance(10);
    assert(got > 400 && got < 600, `${got} of 1000`);
  });

  it("out of range are a RangeError, like other options", () => {
    const wrong: SimOptions[] = [
      { seed: NaN },
      { latencyMs: -1 },
      { latencyMs: Infinity },
      { maxSteps: 0 },
      { faults: { jitterMs: -1 } },
      { faults: { connectRefused: 1.1 } },
      { faults: { datagramLost: -0.1 } },
    ];
    for (const options of wrong) assertThrows(() => simRuntime(options), RangeError);
  });
});

describe("a latency of 0", () => {
  it("delivers everything in one instant, and an endless conversation still lets the time pass", async () => {
    const sim = simRuntime({ latencyMs: 0 });
    const { door, port } = await listen(sim);
    door.accept = (end) => (end.on.onData = (chunk) => void end.binding.write(chunk));
    const client = connect(sim, { port });
    client.on.onConnect = () => void client.binding.write(counting(1));
    client.on.onData = (chunk) => void client.binding.write(chunk);
    await sim.advance(0);
    assert(client.bytes.length > 10);
    await sim.advance(1);
    assertEquals(sim.now(), 1);
  });
});
