// libevent's `test-ratelim` on the simulator, with its tolerances. 30 clients write as much as they
// can for five seconds and count the answers. An echo server limits each connection, all of them
// together, or both. Ticks are 100 ms.

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { RateLimitGroup } from "../../../core/api/rate_limit_group.ts";
import { TokenBucketConfig } from "../../../core/bufferevent/rate_limit.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import {
  BEV_EVENT_CONNECTED,
  BEV_OPT_CLOSE_ON_FREE,
  EV_PERSIST,
  EV_READ,
  EV_WRITE,
  LEV_OPT_CLOSE_ON_FREE,
} from "../../../core/flags.ts";
import { ConnListener } from "../../../core/api/listener.ts";
import type { EventHandle } from "../../../core/api/event_handle.ts";
import type { InetAddress } from "../../../core/runtime.ts";
import type { SimOptions } from "../../../runtimes/sim.ts";
import { Stage } from "./stage.ts";

const CONNECTIONS = 30;
const DURATION_MS = 5000;
const TICK_MS = 100;
const BLOCK = new Uint8Array(1024);

interface Load {
  /** Bytes a tick of one connection. */
  connectionLimit?: number;
  /** Bytes a tick of all. */
  groupLimit?: number;
  minShare?: number;
  /** Bytes that something else takes from the group at each tick. */
  groupDrain?: number;
}

interface Result {
  /** Bytes a second of all clients. */
  total: number;
  /** Bytes a second of a client. */
  mean: number;
  deviation: number;
  /** In bytes, of the group. */
  read: number;
  written: number;
}

function limits(rate: number): TokenBucketConfig {
  return new TokenBucketConfig({
    readRate: rate,
    readBurst: rate * 4,
    writeRate: rate,
    writeBurst: rate * 4,
    tickMs: TICK_MS,
  });
}

async function measure(load: Load, simOptions: SimOptions = {}): Promise<Result> {
  const { connectionLimit, groupLimit, minShare, groupDrain = 0 } = load;
  const stage = new Stage({}, { maxSteps: 5_000_000, ...simOptions });
  const { sim, base } = stage;
  const limit = connectionLimit === undefined ? null : limits(connectionLimit);
  const group = groupLimit === undefined ? null : new RateLimitGroup(base, limits(groupLimit));
  if (minShare !== undefined) group?.setMinShare(minShare);
  const echoes: SocketBufferEvent[] = [];
  const listener = await sim.run(ConnListener.bind(
    base,
    (_listener, socket) => {
      const bev = new SocketBufferEvent(base, socket, BEV_OPT_CLOSE_ON_FREE);
      echoes.push(bev);
      bev.setCallbacks({
        read: () => {
          bev.output.addBuffer(bev.input);
          if (bev.output.length > 1_024_000) bev.disable(EV_READ);
        },
        write: () => {
          if (bev.output.length < 512_000) bev.enable(EV_READ);
        },
      });
      bev.setRateLimit(limit);
      if (group !== null) bev.joinRateLimitGroup(group);
      bev.enable(EV_READ | EV_WRITE);
    },
    LEV_OPT_CLOSE_ON_FREE,
    -1,
    { hostname: "127.0.0.1", port: 0 },
  ));
  const received = new Map<SocketBufferEvent, number>();
  const fill = (bev: SocketBufferEvent): void => {
    while (bev.output.length < 8192) bev.output.add(BLOCK);
  };
  for (let i = 0; i < CONNECTIONS; i++) {
    const bev = new SocketBufferEvent(base, null, BEV_OPT_CLOSE_ON_FREE);
    received.set(bev, 0);
    bev.setCallbacks({
      read: () => {
        received.set(bev, received.get(bev) as number + bev.input.length);
        bev.input.drain(bev.input.length);
      },
      write: () => fill(bev),
      event: (_bev, what) => {
        if (what === BEV_EVENT_CONNECTED) fill(bev);
      },
    });
    bev.enable(EV_READ | EV_WRITE);
    bev.connect(listener.address as InetAddress);
  }
  const timers: EventHandle[] = [];
  if (group !== null && groupDrain > 0) {
    const timer = base.event(null, EV_PERSIST, () => {
      group.decrementRead(groupDrain);
      group.decrementWrite(groupDrain);
    });
    timer.add(TICK_MS);
    timers.push(timer);
  }
  await stage.during(DURATION_MS - 5);
  assertEquals(echoes.length, CONNECTIONS);
  const rates = [...received.values()].map((bytes) => bytes / (DURATION_MS / 1000));
  const totals = group?.totals ?? { read: 0, written: 0 };
  for (const timer of timers) timer.free();
  listener.free();
  await stage.end(...echoes, ...received.keys());
  group?.free();
  const total = rates.reduce((sum, rate) => sum + rate, 0);
  const mean = total / CONNECTIONS;
  const variance = rates.reduce((sum, rate) => sum + (rate - mean) ** 2, 0) / CONNECTIONS;
  return { total, mean, deviation: Math.sqrt(variance), ...totals };
}

function near(what: string, actual: number, expected: number, tolerance: number): void {
  assert(Math.abs(actual - expected) <= tolerance, `${what}: ${actual} is not within ${tolerance} of ${expected}`);
}

describe("30 connections that write as much as they can (test-ratelim)", () => {
  it("under a limit of the group share it evenly", async () => {
    const { total, deviation, read, written } = await measure({ groupLimit: 30_000 });
    near("total", total, 300_000, 1000);
    near("deviation", deviation, 0, 100);
    near("read", read, 1_500_000, 1000);
    near("written", written, 1_500_000, 1000);
  });

  it("each reach their own limit", async () => {
    const { mean, deviation } = await measure({ connectionLimit: 1000 });
    near("mean", mean, 10_000, 50);
    near("deviation", deviation, 0, 50);
  });

  it("keep to both limits", async () => {
    const { total, mean, deviation } = await measure({ connectionLimit: 1000, groupLimit: 30_000 });
    near("total", total, 300_000, 1000);
    near("mean", mean, 10_000, 50);
    near("deviation", deviation, 0, 50);
  });

  it("under both, with something else that drains the group, get the rest", async () => {
    const { total, mean, deviation } = await measure({ connectionLimit: 1000, groupLimit: 35_000, groupDrain: 500 });
    near("total", total, 300_000, 1000);
    near("mean", mean, 10_000, 50);
    near("deviation", deviation, 0, 50);
  });

  it("share evenly whatever the least share, the latency and its changes", async () => {
    for (const minShare of [0, 1, 500]) {
      const { total, deviation } = await measure({ groupLimit: 30_000, minShare }, {
        latencyMs: 7,
        seed: minShare + 1,
        faults: { jitterMs: 20 },
      });
      near("total", total, 300_000, 6000);
      near("deviation", deviation, 0, 400);
    }
  });
});
