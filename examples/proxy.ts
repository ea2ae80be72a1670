/**
 * A TCP proxy: `proxy PORT HOST:PORT [--max CONNECTIONS] [--rate BYTES] [--idle SECONDS] [--grace SECONDS]`.
 *
 * What arrives on one side is sent on the other, both ways, until both have finished. A side that does not read makes the
 * other wait, and a failure of one cuts the other. At `kill` it accepts nobody any more, and lets connections finish.
 */

import {
  BEV_OPT_CLOSE_ON_FREE,
  type BufferEvent,
  EventBase,
  EventError,
  pipe,
  RateLimitGroup,
  serve,
  SocketBufferEvent,
  TokenBucketConfig,
} from "../mod.ts";
import { announce, main, onStop, port, refuse } from "./_common.ts";

const USAGE = "proxy PORT HOST:PORT [--max CONNECTIONS] [--rate BYTES] [--idle SECONDS] [--grace SECONDS]";
const CONNECT_TIMEOUT_MS = 10_000;
const TICKS_PER_SECOND = 10;

/** The arguments that are numbers, and what they are when not given. */
const NUMBERS = {
  /** How many clients there may be at a time; further ones wait. */
  "--max": 1000,
  /** How many bytes a second all clients together may send, and receive. */
  "--rate": Infinity,
  /** After how many seconds without a byte a connection is cut. */
  "--idle": 300,
  /** How many seconds connections may go on after `kill`. */
  "--grace": 10,
};

await main(USAGE, async ([listenPort, target, ...args]) => {
  if (listenPort === undefined || target === undefined) refuse("Cannot do without a port and where to");
  const upstream = endpoint(target);
  const limits = numbers(args);
  const base = new EventBase();
  const group = limits["--rate"] === Infinity ? null : rateLimit(base, limits["--rate"]);

  const server = await serve(
    { base, hostname: "127.0.0.1", port: port(listenPort, 0), maxConnections: limits["--max"] },
    {
      open(client) {
        if (group !== null) client.joinRateLimitGroup(group);
        const there = new SocketBufferEvent(base, null, BEV_OPT_CLOSE_ON_FREE);
        there.connect(upstream);
        carry(client, there, limits["--idle"] * 1000);
      },
      error: (error) => console.error(error.message),
    },
  );

  onStop(base, () => void server.close({ graceMs: limits["--grace"] * 1000 }));
  announce(server.address);
  await base.dispatch();
});

/** Couples the two connections; one that fails is told, and touches no other. */
async function carry(client: BufferEvent, there: BufferEvent, idleTimeoutMs: number): Promise<void> {
  try {
    await pipe(client, there, { idleTimeoutMs });
  } catch (error) {
    if (!(error instanceof EventError)) throw error;
    console.error(error.message);
  }
}

function rateLimit(base: EventBase, bytesPerSecond: number): RateLimitGroup {
  const rate = Math.max(1, Math.floor(bytesPerSecond / TICKS_PER_SECOND));
  const tickMs = 1000 / TICKS_PER_SECOND;
  return new RateLimitGroup(
    base,
    new TokenBucketConfig({ readRate: rate, readBurst: rate, writeRate: rate, writeBurst: rate, tickMs }),
  );
}

/** Where a client is connected to. */
function endpoint(text: string): { hostname: string; port: number; timeoutMs: number } {
  const colon = text.lastIndexOf(":");
  const hostname = text.slice(0, Math.max(colon, 0)).replace(/^\[(.*)\]$/, "$1");
  if (hostname === "") refuse(`Cannot take "${text}" for where to: it is no HOST:PORT`);
  return { hostname, port: port(text.slice(colon + 1), 1), timeoutMs: CONNECT_TIMEOUT_MS };
}

function numbers(args: readonly string[]): typeof NUMBERS {
  const all = { ...NUMBERS };
  for (let i = 0; i < args.length; i += 2) {
    const name = args[i] as keyof typeof NUMBERS;
    const value = args[i + 1] ?? "";
    if (!(name in all)) refuse(`Cannot take the argument "${name}"`);
    if (!/^\d+$/.test(value)) refuse(`Cannot take "${value}" for ${name}: it is no number`);
    all[name] = Number(value);
  }
  if (all["--max"] === 0 || all["--rate"] === 0) refuse("Cannot serve nobody: --max and --rate are positive numbers");
  return all;
}
