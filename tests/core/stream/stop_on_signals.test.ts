// stopOnSignals(): the effect of signals on a server, on a simulated host that raises them.

import { describe, it } from "node:test";
import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import { Socket } from "../../../core/api/socket.ts";
import { serve, type Server } from "../../../core/serve/serve.ts";
import { stopOnSignals } from "../../../core/serve/stop_on_signals.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";

/** A simulated host that counts the signals that are caught. */
class Host {
  readonly sim: SimRuntime = simRuntime();
  caught = 0;

  constructor() {
    const onSignal = this.sim.onSignal.bind(this.sim);
    this.sim.onSignal = (name, fn) => {
      const forget = onSignal(name, fn);
      this.caught++;
      return () => {
        this.caught--;
        forget();
      };
    };
  }

  /** A server with one client, which sends nothing and stays. */
  async serve(): Promise<{ server: Server; client: Socket; log: string[] }> {
    const { sim } = this;
    const log: string[] = [];
    const server = await sim.run(serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, {
      read: () => {},
      close: (_bev, reason) => void log.push(`close ${reason?.code} at ${sim.now()}`),
    }));
    const client = Socket.connect(sim, { port: server.port });
    await sim.advance(10);
    return { server, client, log };
  }
}

describe("stopOnSignals()", () => {
  it("closes at a signal with the given grace, and leaves nothing behind", async () => {
    const host = new Host();
    const { server, client, log } = await host.serve();
    stopOnSignals(server, { graceMs: 500 });
    assertEquals(host.caught, 2);
    host.sim.raise("SIGTERM");
    await host.sim.advance(499);
    assertEquals([server.connections, host.caught], [1, 2]);
    await host.sim.advance(100);
    assertEquals([server.connections, log], [0, ["close ECANCELED at 510"]]);
    client.close();
    await host.sim.advance(10);
    assertEquals([host.caught, host.sim.openHandles, host.sim.pending], [0, 0, 0]);
  });

  it("forces the end at the second signal, whichever it is", async () => {
    const host = new Host();
    const { server, log } = await host.serve();
    stopOnSignals(server, { graceMs: Infinity });
    host.sim.raise("SIGINT");
    await host.sim.advance(100_000);
    assertEquals(server.connections, 1);
    host.sim.raise("SIGTERM");
    await host.sim.advance(5);
    assertEquals([server.connections, host.caught, log], [0, 0, ["close ECANCELED at 100010"]]);
  });

  it("releases the signals when the server was closed otherwise, and at once on request", async () => {
    const host = new Host();
    const { server } = await host.serve();
    stopOnSignals(server);
    await host.sim.run(server.close({ graceMs: 0 }));
    assertEquals(host.caught, 0);
    const other = await host.serve();
    const stop = stopOnSignals(other.server, { signals: ["SIGHUP", "SIGHUP"] });
    assertEquals(host.caught, 1);
    stop();
    stop();
    host.sim.raise("SIGHUP");
    await host.sim.advance(20_000);
    assertEquals([host.caught, other.server.connections], [0, 1]);
  });

  it("stops any object with a base and a close(), and reports its exception", async () => {
    const host = new Host();
    const base = new EventBase({ runtime: host.sim });
    const failure = new Error("cannot close");
    const reported: unknown[] = [];
    host.sim.report = (error): void => void reported.push(error);
    const given: unknown[] = [];
    const close = (options?: object): void => {
      given.push(options);
      throw failure;
    };
    stopOnSignals({ base, close }, { signals: ["SIGUSR1"] });
    host.sim.raise("SIGUSR1");
    await host.sim.advance(5);
    assertStrictEquals(reported[0], failure);
    assertEquals([given, reported.length, host.caught], [[{}], 1, 0]);
  });

  it("catches no signal if its arguments are wrong, or one of the signals cannot be caught", async () => {
    const host = new Host();
    const { server } = await host.serve();
    assertThrows(() => stopOnSignals(server, { signals: [] }), RangeError);
    assertThrows(() => stopOnSignals(server, { graceMs: -1 }), RangeError);
    assertThrows(() => stopOnSignals(server, { grace: 1 } as object), TypeError, "did you mean graceMs?");
    assertThrows(() => stopOnSignals(null as unknown as Server), TypeError);
    assertThrows(() => stopOnSignals({} as unknown as Server), TypeError);
    assertThrows(() => stopOnSignals(server, { signals: ["SIGTERM", "SIGKILL"] }), EventError);
    assertEquals(host.caught, 0);
  });
});
