// A process that has run out of descriptors: accepting pauses for longer and longer, reports that
// once, and resumes by itself.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { EV_READ, LEV_OPT_CLOSE_ON_FREE } from "../../../core/flags.ts";
import { ConnListener } from "../../../core/api/listener.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type { AcceptSink, ListenerBinding, ListenOptions } from "../../../core/runtime.ts";
import { ListeningSocket } from "../../../core/api/listening_socket.ts";
import { Socket } from "../../../core/api/socket.ts";
import { serve } from "../../../core/serve/serve.ts";
import { type SimHost, type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { BusyHost, nothingLeft, world } from "../loop/harness.ts";
import { portOf } from "../socket/pairs.ts";

const LOCAL = { hostname: "127.0.0.1", port: 0 };

/**
 * Two hosts: one serves, and the other has the clients, so that they use none of the server's
 * handles.
 */
function hosts(): { sim: SimRuntime; server: SimHost; connect(port: number): Socket } {
  const sim = simRuntime();
  const server = sim.host("server");
  return { sim, server, connect: (port) => Socket.connect(sim, { hostname: server.addresses[0]!, port }) };
}

/** Records when accepting is paused and resumed, and lets a test make it fail. */
class FailingHost extends BusyHost {
  sink!: AcceptSink;
  readonly log: string[] = [];
  readonly #sim: SimRuntime;

  constructor(sim: SimRuntime) {
    super(sim);
    this.#sim = sim;
  }

  override async listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding> {
    this.sink = sink;
    const binding = await super.listen(options, sink);
    for (const name of ["pauseAccept", "resumeAccept"] as const) {
      const call = binding[name].bind(binding);
      binding[name] = (): void => {
        this.log.push(`${name} ${this.#sim.now()}`);
        call();
      };
    }
    return binding;
  }

  fail(code: string): void {
    this.sink.onError(new EventError("Cannot accept", { code }));
  }
}

describe("accepting without descriptors", () => {
  it("waits 10 ms, and twice as long each time up to a second, and starts again after a success", async () => {
    const made = world();
    const { sim } = made;
    const host = new FailingHost(sim);
    const listening = await ListeningSocket.listen(host, LOCAL);
    const waits: number[] = [];
    for (let i = 0; i < 10; i++) {
      host.fail("EMFILE");
      const begin = sim.now();
      await sim.advance(1500);
      const resumed = Number(host.log.at(-1)?.split(" ")[1]);
      assertEquals(host.log.splice(0).map((line) => line.split(" ")[0]), ["pauseAccept", "resumeAccept"]);
      waits.push(resumed - begin);
    }
    assertEquals(waits, [10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000]);
    const client = Socket.connect(sim, { port: portOf(listening) });
    await sim.advance(5);
    client.close();
    const begin = sim.now();
    host.fail("ENOMEM");
    await sim.advance(100);
    assertEquals(host.log, [`pauseAccept ${begin}`, `resumeAccept ${begin + 10}`]);
    await listening.close();
    await sim.advance(6000);
    await nothingLeft(made);
  });

  it("follows EMFILE, ENFILE, ENOBUFS and ENOMEM, and no other error", async () => {
    for (const code of ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EIO", "EPERM"]) {
      const made = world();
      const host = new FailingHost(made.sim);
      const base = new EventBase({ runtime: host });
      const errors: string[] = [];
      const listener = await ConnListener.bind(base, () => {}, LEV_OPT_CLOSE_ON_FREE, -1, LOCAL);
      listener.setErrorCallback((_, error) => errors.push(error.code));
      for (let i = 0; i < 3; i++) {
        host.fail(code);
        base.loopExit(30);
        await made.sim.run(base.dispatch());
      }
      const once = !code.startsWith("EI") && !code.startsWith("EP");
      assertEquals([errors.length, host.log.length > 0], once ? [1, true] : [3, false], code);
      listener.free();
      await nothingLeft(made);
    }
  });

  it("is forgotten when the listener is closed", async () => {
    const made = world();
    const host = new FailingHost(made.sim);
    const listening = await ListeningSocket.listen(host, LOCAL);
    host.fail("EMFILE");
    await listening.close();
    assertEquals(made.sim.pending, 0);
    await made.sim.advance(100);
    assertEquals(host.log.length, 1);
    await nothingLeft(made);
  });

  it("is paused as long as there is an error or a full queue", async () => {
    const made = world();
    const { sim } = made;
    const host = new FailingHost(sim);
    const listening = await ListeningSocket.listen(host, { ...LOCAL, backlog: 1 });
    const clients = [0, 1].map(() => Socket.connect(sim, { port: portOf(listening) }));
    await sim.advance(5);
    host.fail("EMFILE");
    await sim.advance(15);
    assertEquals(host.log.map((line) => line.split(" ")[0]), ["pauseAccept", "pauseAccept"], "the queue is full");
    host.fail("EMFILE");
    const first = listening.accept() as Socket;
    assertEquals(host.log.length, 3, "there is space, but no descriptor");
    await sim.advance(25);
    assertEquals(host.log.at(-1)?.split(" ")[0], "pauseAccept", "the second connection has filled it again");
    assert(host.log.some((line) => line.startsWith("resumeAccept")));
    const second = listening.accept() as Socket;
    for (const socket of [first, second, ...clients]) socket.close();
    await listening.close();
    await sim.advance(6000);
    await nothingLeft(made);
  });
});

describe("a server whose host has a limit of handles", () => {
  it("serves as many clients as it can, reports the limit once, and accepts the others when there is space", async () => {
    const { sim, server: host, connect } = hosts();
    host.handleLimit = 4;
    const errors: string[] = [];
    const server = await serve({ runtime: host, hostname: "0.0.0.0", port: 0 }, {
      read: (bev) => bev.writeBuffer(bev.input),
      error: (error) => errors.push((error as EventError).code),
    });
    const clients = Array.from({ length: 6 }, () => connect(portOf(server)));
    await sim.advance(3000);
    assertEquals([server.connections, errors], [3, ["EMFILE"]], "one handle is the listener's");
    for (const client of clients) client.send("hello");
    await sim.advance(3000);
    const into = new Uint8Array(9);
    assertEquals(clients.map((client) => client.recv(into)), [5, 5, 5, -11, -11, -11]);
    // Three clients leave; waiting clients are served within a second.
    for (const client of clients.slice(0, 3)) client.close();
    await sim.advance(1100);
    assertEquals([server.connections, errors], [3, ["EMFILE"]]);
    assertEquals(clients.slice(3).map((client) => client.recv(into)), [5, 5, 5]);
    // The next episode is reported again.
    const late = connect(portOf(server));
    await sim.advance(100);
    assertEquals(errors, ["EMFILE", "EMFILE"]);
    for (const client of [...clients.slice(3), late]) client.close();
    await sim.advance(6000);
    await sim.run(server.close());
    await sim.advance(6000);
    assertEquals([sim.openHandles, host.openHandles, sim.pending], [0, 0, 0]);
  });

  it("does not busy-loop: a minute without descriptors takes about a turn a second", async () => {
    const { sim, server: host, connect } = hosts();
    const base = new EventBase({ runtime: host });
    const listener = await ConnListener.bind(base, () => {}, LEV_OPT_CLOSE_ON_FREE, -1, {
      hostname: "0.0.0.0",
      port: 0,
    });
    host.handleLimit = 1;
    const client = connect(portOf(listener));
    base.loopExit(60_000);
    await sim.run(base.dispatch());
    assert(base.stats().turns < 100, `${base.stats().turns} turns`);
    client.close();
    listener.free();
    await sim.advance(6000);
    assertEquals([sim.openHandles, host.openHandles], [0, 0]);
  });

  it("refuses to listen or connect beyond it: EMFILE", async () => {
    const { sim, server: host } = hosts();
    host.handleLimit = 0;
    const error = await assertRejects(() => sim.run(ListeningSocket.listen(host, LOCAL)), EventError) as EventError;
    assertEquals(error.code, "EMFILE");
    const base = new EventBase({ runtime: host });
    const socket = base.connect({ port: 9 });
    base.event(socket, EV_READ, () => socket.close()).add();
    await sim.run(base.dispatch());
    assertEquals([socket.error?.code, host.openHandles], ["EMFILE", 0]);
  });
});
