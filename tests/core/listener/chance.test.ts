// Random runs of listeners.
//
// 1. A seed decides latency, faults, TLS or not, the backlog, the limits of a server, and the
// actions of its clients.
// 2. At random moments, clients connect, complete the handshake or not, send, finish, reset, time
// out or fall silent. The listener is disabled and enabled meanwhile. Its host accepts every
// connection, can pause accepting, or has few handles.
// 3. Each connection of the server must have an address and, with TLS, a handshake. At the end, no
// handle, timer or event is left.
//
// A failure names its seed: `TRIVENT_SEEDS=<first>,<count>` runs others.

import process from "node:process";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { EV_READ, EV_WRITE, LEV_OPT_CLOSE_ON_FREE } from "../../../core/flags.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { BEV_OPT_CLOSE_ON_FREE } from "../../../core/flags.ts";
import { ConnListener } from "../../../core/api/listener.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { ConnectOptions, Runtime } from "../../../core/runtime.ts";
import { connectionOf, Socket } from "../../../core/api/socket.ts";
import { serve, type Server } from "../../../core/serve/serve.ts";
import { type SimHost, type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { ALL_COUNTS, EagerHost } from "../loop/harness.ts";
import { portOf } from "../socket/pairs.ts";

const [FIRST = 1, COUNT = 100] = (process.env.TRIVENT_SEEDS ?? "").split(",").filter(Boolean).map(Number);
const STEPS = 40;

type Dice = (below: number) => number;

function dice(seed: number): Dice {
  let state = (seed * 7919 + 13) & 0x7fff_ffff;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (state >>> 8) % below;
  };
}

/** Clients of a listener that act at random. */
class Crowd {
  readonly #sim: SimRuntime;
  readonly #roll: Dice;
  readonly #to: ConnectOptions;
  readonly #clients: Socket[] = [];

  constructor(sim: SimRuntime, roll: Dice, to: ConnectOptions) {
    this.#sim = sim;
    this.#roll = roll;
    this.#to = to;
  }

  act(): void {
    const roll = this.#roll;
    const client = this.#clients[roll(this.#clients.length + 1)];
    if (client === undefined || roll(3) === 0) {
      const timeoutMs = roll(4) === 0 ? { timeoutMs: roll(6) } : {};
      // Some clients do not speak TLS although the server does: they only connect.
      const { tls: _tls, ...plain } = this.#to;
      this.#clients.push(Socket.connect(this.#sim, { ...(roll(5) === 0 ? plain : this.#to), ...timeoutMs }));
      return;
    }
    try {
      const what = roll(12);
      if (what < 4) client.send(new Uint8Array(roll(30_000) + 1));
      else if (what < 5) client.shutdown();
      else if (what < 7) client.reset();
      else if (what < 9) client.close();
      else client.recv(new Uint8Array(40_000));
    } catch (error) {
      if (!(error instanceof EventError)) throw error;
    }
  }

  leave(): void {
    for (const client of this.#clients) this.#roll(2) === 0 ? client.close() : client.reset();
  }
}

/** A network. Its server host may be unable to pause accepting. */
function network(seed: number, roll: Dice): { sim: SimRuntime; host: SimHost; runtime: Runtime } {
  const chaos = {
    jitterMs: roll(5),
    segmentCut: roll(3) / 5,
    connectionReset: roll(3) / 50,
    connectRefused: roll(3) / 30,
  };
  const faults = roll(2) === 0 ? {} : chaos;
  const sim = simRuntime({ seed, latencyMs: roll(4) / 2, faults, maxSteps: 1_000_000 });
  const host = sim.host("server");
  if (roll(4) === 0) host.handleLimit = 2 + roll(5);
  return { sim, host, runtime: roll(2) === 0 ? host : new EagerHost(host as SimRuntime) };
}

function tlsOf(roll: Dice): { at: object; from: object; secure: boolean } {
  if (roll(2) === 0) return { at: {}, from: {}, secure: false };
  const tls = { cert: "server signed by a CA", key: "a key", handshakeTimeoutMs: 5 + roll(50) };
  const client = { ca: roll(4) === 0 ? "another CA" : "a CA", serverName: "server", handshakeTimeoutMs: 5 + roll(50) };
  return { at: { tls }, from: { tls: client }, secure: true };
}

/**
 * With TLS, the listener gives connections during or after the handshake, but none whose handshake
 * has failed.
 */
function assertInTls(socket: Socket, secure: boolean, seed: number): void {
  if (!secure) return;
  const { handshake, binding, error } = connectionOf(socket);
  assert(handshake !== null || binding?.tls !== undefined, `seed ${seed}: given without a handshake: ${error}`);
}

async function assertNothingLeft(sim: SimRuntime, host: SimHost, base: EventBase, seed: number): Promise<void> {
  await sim.advance(6_000);
  assertEquals(
    [sim.openHandles, host.openHandles, sim.pending, base.numEvents(ALL_COUNTS)],
    [0, 0, 0, 0],
    `seed ${seed}: handles, the server's handles, what is scheduled, events`,
  );
}

async function playListener(seed: number): Promise<void> {
  const roll = dice(seed);
  const { sim, host, runtime } = network(seed, roll);
  const base = new EventBase({ runtime, priorities: 1 + roll(2) });
  const { at, from, secure } = tlsOf(roll);
  const open = new Set<SocketBufferEvent>();
  const listener = await ConnListener.bind(
    base,
    (_listener, socket, address) => {
      assert("hostname" in address, `seed ${seed}: an address`);
      assert(socket.localAddress !== undefined, `seed ${seed}: an address of our own`);
      assertInTls(socket, secure, seed);
      const bev = new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE);
      bev.setCallbacks({
        event: () => {
          open.delete(bev);
          bev.free();
        },
        read: (bev) => bev.writeBuffer(bev.input),
      });
      bev.enable(EV_READ | EV_WRITE);
      open.add(bev);
    },
    LEV_OPT_CLOSE_ON_FREE,
    1 + roll(4),
    { hostname: "0.0.0.0", port: 0, ...at },
  );
  listener.setErrorCallback(() => {});
  let dispatching: Promise<unknown> | null = null;
  const crowd = new Crowd(sim, roll, { hostname: host.addresses[0] as string, port: portOf(listener), ...from });
  for (let step = 0; step < STEPS; step++) {
    crowd.act();
    const what = roll(20);
    if (what === 0) listener.disable();
    else if (what < 3) listener.enable();
    else if (what === 3 && dispatching === null) {
      dispatching = base.dispatch().finally(() => dispatching = null);
    } else if (what === 4) base.loopExit();
    if (roll(3) > 0) await sim.advance(roll(4));
  }
  crowd.leave();
  if (roll(2) === 0) await sim.advance(roll(30));
  if (dispatching === null) void base.dispatch();
  await sim.advance(1);
  for (const bev of open) bev.free();
  await listener.close();
  base.loopBreak();
  await assertNothingLeft(sim, host, base, seed);
}

async function playServer(seed: number): Promise<void> {
  const roll = dice(seed);
  const { sim, host, runtime } = network(seed, roll);
  const { at, from, secure } = tlsOf(roll);
  let opened = 0;
  const server: Server = await serve({
    runtime,
    hostname: "0.0.0.0",
    port: 0,
    backlog: 1 + roll(4),
    ...(roll(2) === 0
      ? {}
      : { maxConnections: 1 + roll(3), whenFull: roll(2) === 0 ? "reject" as const : "wait" as const }),
    ...(roll(2) === 0 ? {} : { maxConnectionsPerAddress: 1 + roll(3) }),
    ...(roll(2) === 0 ? {} : { idleTimeoutMs: 10 + roll(30) }),
    ...at,
  }, {
    accept: () => roll(10) > 0,
    ...(roll(2) === 0 ? {} : { reject: () => "not now\r\n" }),
    open: (bev) => {
      opened++;
      assert(bev.remoteAddress !== undefined && bev.localAddress !== undefined, `seed ${seed}: addresses`);
      assertInTls(bev.socket as Socket, secure, seed);
      if (roll(10) === 0) bev.reset();
    },
    read: (bev) => void bev.writeBuffer(bev.input),
    close: (bev) => {
      opened--;
      assert(bev.remoteAddress !== undefined && bev.localAddress !== undefined, `seed ${seed}: addresses to the end`);
    },
    error: (error) => assert(error instanceof EventError, String(error)),
  });
  const crowd = new Crowd(sim, roll, { hostname: host.addresses[0] as string, port: portOf(server), ...from });
  for (let step = 0; step < STEPS; step++) {
    crowd.act();
    if (roll(3) > 0) await sim.advance(roll(4));
  }
  crowd.leave();
  if (roll(2) === 0) await sim.advance(roll(30));
  const closing = server.close({ graceMs: roll(50) });
  await sim.advance(100);
  await closing;
  assertEquals([server.connections, opened], [0, 0], `seed ${seed}: connections`);
  await assertNothingLeft(sim, host, server.base, seed);
}

describe("random runs of listeners", () => {
  for (const [name, play] of [["a listener", playListener], ["a server", playServer]] as const) {
    it(`${name} gives only valid connections, and nothing is left at the end`, async () => {
      for (let seed = FIRST; seed < FIRST + COUNT; seed++) {
        try {
          await play(seed);
        } catch (error) {
          throw new Error(`seed ${seed} of ${name}`, { cause: error });
        }
      }
    });
  }
});
