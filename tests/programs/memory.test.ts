// A thousand clients that never read, 64 MiB offered to each: a server that respects write() holds
// less than 1 MiB for each.

import { join } from "node:path";
import { it } from "node:test";
import { pathToFileURL } from "node:url";
import { assert, assertEquals } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { findRuntime, ROOT, type RuntimeName, RUNTIMES } from "../tools/runtimes.mjs";
import { start } from "../tools/processes.mjs";
import { eventually, openSockets, startMeasuredCommand, untilClosed, untilIdle } from "./workshop.ts";

const CLIENTS = 1000;
const WARM_UP = 50;
const OFFERED_MIB = 64;

/**
 * Connects so often to a port, says so, and reads nothing. With the segments of an Ethernet and a small receive buffer the
 * kernel holds about 0.1 MB for each, in place of 2 MB. A thousand of those would take all the memory that Linux gives to
 * TCP, and Linux would then reset connections of other tests.
 */
const NEVER_READ = `
  use strict;
  use Socket qw(:all);
  $| = 1;
  my ($port, $count) = @ARGV;
  my @open;
  for (1 .. $count) {
    socket(my $socket, PF_INET, SOCK_STREAM, 0) or die "socket: $!";
    setsockopt($socket, SOL_SOCKET, SO_RCVBUF, 4096) or die "SO_RCVBUF: $!";
    setsockopt($socket, IPPROTO_TCP, TCP_MAXSEG, 1400) or die "TCP_MAXSEG: $!";
    connect($socket, sockaddr_in($port, INADDR_LOOPBACK)) or die "connect: $!";
    push @open, $socket;
  }
  print "connected\n";
  sleep while 1;
`;

function offerCommand(runtime: RuntimeName): { file: string; args: string[] } {
  const fixture = join(ROOT, "tests", "programs", "fixtures", "offer.mjs");
  const entry = pathToFileURL(join(ROOT, runtime === "node" ? "dist/mod.js" : "mod.ts")).href;
  const flags = { node: [], deno: ["run", "--quiet", "--no-check", "-A"], bun: ["run"] }[runtime];
  return { file: findRuntime(runtime).path, args: [...flags, fixture, entry] };
}

for (const runtime of RUNTIMES) {
  it(`${CLIENTS.toLocaleString("en")} clients that never read cost a server on ${runtime} less than 1 MiB each`, {
    skip: needs("/proc", "perl"),
  }, async () => {
    const server = await startMeasuredCommand(runtime, offerCommand(runtime));
    const open = async (count: number): Promise<() => Promise<void>> => {
      const clients = await start("perl", ["-e", NEVER_READ, String(server.port), String(count)], {
        ready: /^connected$/m,
      });
      // A server without processor time looks idle, although it has not accepted all clients.
      await eventually("all are accepted", () => openSockets(server.pid) >= sockets + count);
      await untilIdle(server.pid);
      return async () => {
        await clients.stop("SIGKILL");
        await untilClosed(server.pid, sockets);
      };
    };
    const sockets = openSockets(server.pid);
    try {
      // The runtime's memory for compilers and heap does not belong to clients.
      const end = await open(WARM_UP);
      await end();
      const before = (await server.collected()).resident;
      const endAll = await open(CLIENTS);
      assertEquals(openSockets(server.pid), sockets + CLIENTS, "no client was closed");
      const each = ((await server.collected()).resident - before) / CLIENTS;
      assert(each < 1, `each holds ${each.toFixed(2)} MiB`);
      await endAll();
    } finally {
      assertEquals(await server.stop(), null);
    }
    const written = Number(/written (\d+)/.exec(server.printed())?.[1]) / 2 ** 20;
    assert(written > 0 && written < CLIENTS * OFFERED_MIB / 2, `${written} MiB were written, though nobody reads`);
  });
}
