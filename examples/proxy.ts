/**
 * A TCP proxy, with TLS on either side if wanted: `proxy PORT HOST:PORT [--cert FILE --key FILE] [--tls yes]
 * [--ca FILE] [--max CONNECTIONS] [--rate BYTES] [--idle SECONDS] [--handshake SECONDS] [--grace SECONDS]`.
 *
 * What arrives on one side is sent on the other, both ways, until both have finished. A side that does not read makes
 * the other wait, and a failure of one resets the other. At `kill` it accepts no more clients, and lets connections
 * finish.
 */

import {
  BEV_OPT_CLOSE_ON_FREE,
  type BufferEvent,
  type ConnectOptions,
  EvBuffer,
  EventBase,
  EventError,
  FileSegment,
  pipe,
  RateLimitGroup,
  serve,
  SocketBufferEvent,
  stopOnSignals,
  TokenBucketConfig,
} from "trivent";
import { announce, main, named, type Options, port, refuse } from "./_common.ts";

const USAGE = "proxy PORT HOST:PORT [--cert FILE --key FILE] [--tls yes] [--ca FILE] [--max CONNECTIONS] " +
  "[--rate BYTES] [--idle SECONDS] [--handshake SECONDS] [--grace SECONDS]";
const CONNECT_TIMEOUT_MS = 10_000;
const TICKS_PER_SECOND = 10;

/** The arguments and their defaults. */
const DEFAULTS = {
  /** The certificate and the key, for TLS with the clients. */
  "--cert": "",
  "--key": "",
  /** Whether to use TLS with the server. */
  "--tls": "no",
  /** The authorities for the server's certificate; by default those of the system. */
  "--ca": "",
  /** The largest number of clients at a time; further ones wait. */
  "--max": 1000,
  /** The number of bytes that all clients together may send, and receive, in a second. */
  "--rate": Infinity,
  /** The seconds without a byte after which a connection is reset. */
  "--idle": 300,
  /** The seconds that a client may take for the TLS handshake. */
  "--handshake": 10,
  /** The seconds that connections may go on after `kill`. */
  "--grace": 10,
};

await main(USAGE, async ([listenPort, target, ...args]) => {
  if (listenPort === undefined || target === undefined) refuse("Cannot do without a port and where to");
  const options = named(args, DEFAULTS);
  check(options);
  const upstream: ConnectOptions = { ...endpoint(target), timeoutMs: CONNECT_TIMEOUT_MS };
  if (options["--tls"] === "yes") upstream.tls = options["--ca"] === "" ? {} : { ca: await read(options["--ca"]) };
  const tls = options["--cert"] === ""
    ? undefined
    : { cert: await read(options["--cert"]), key: await read(options["--key"]) };
  const base = new EventBase();
  const group = options["--rate"] === Infinity ? null : rateLimit(base, options["--rate"]);

  const server = await serve(
    {
      base,
      hostname: "127.0.0.1",
      port: port(listenPort, 0),
      tls,
      maxConnections: options["--max"],
      handshakeTimeoutMs: options["--handshake"] * 1000,
    },
    {
      open(client) {
        if (group !== null) client.joinRateLimitGroup(group);
        const there = new SocketBufferEvent(base, null, BEV_OPT_CLOSE_ON_FREE);
        there.connect(upstream);
        carry(client, there, options["--idle"] * 1000);
      },
      error: (error) => console.error((error as Error).message),
    },
  );

  stopOnSignals(server, { graceMs: options["--grace"] * 1000 });
  announce(server.address);
  await base.dispatch();
});

/** Connects both with a pipe. A failure is printed, and affects no other client. */
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

/** The address of the server. */
function endpoint(text: string): { hostname: string; port: number } {
  const colon = text.lastIndexOf(":");
  const hostname = text.slice(0, Math.max(colon, 0)).replace(/^\[(.*)\]$/, "$1");
  if (hostname === "") refuse(`Cannot take "${text}" for where to: it is not HOST:PORT`);
  return { hostname, port: port(text.slice(colon + 1), 1) };
}

function check(options: Options<typeof DEFAULTS>): void {
  if (options["--max"] === 0 || options["--rate"] === 0) {
    refuse("Cannot serve nobody: --max and --rate are positive numbers");
  }
  if ((options["--cert"] === "") !== (options["--key"] === "")) {
    refuse("Cannot speak TLS without both --cert and --key");
  }
}

async function read(file: string): Promise<Uint8Array> {
  const buffer = new EvBuffer();
  const segment = await FileSegment.open(file);
  buffer.addFileSegment(segment);
  segment.free();
  return buffer.toUint8Array();
}
