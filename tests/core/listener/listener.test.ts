// Connection listeners: every function and flag, and rules N1 to N8.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import {
  EAGAIN,
  EVENT_BASE_COUNT_ADDED,
  LEV_OPT_BIND_IPV4_AND_IPV6,
  LEV_OPT_BIND_IPV6ONLY,
  LEV_OPT_CLOSE_ON_EXEC,
  LEV_OPT_CLOSE_ON_FREE,
  LEV_OPT_DEFERRED_ACCEPT,
  LEV_OPT_DISABLED,
  LEV_OPT_LEAVE_SOCKETS_BLOCKING,
  LEV_OPT_REUSEABLE,
  LEV_OPT_REUSEABLE_PORT,
  LEV_OPT_THREADSAFE,
} from "../../../core/flags.ts";
import { ConnListener, type ListenerCallback } from "../../../core/api/listener.ts";
import { EventBase } from "../../../core/api/event_base.ts";
import type {
  AcceptSink,
  Address,
  Capabilities,
  ListenerBinding,
  ListenOptions,
  Runtime,
} from "../../../core/runtime.ts";
import { ListeningSocket } from "../../../core/api/listening_socket.ts";
import { Socket } from "../../../core/api/socket.ts";
import type { SimRuntime } from "../../../runtimes/sim.ts";
import { BusyHost, nothingLeft, type World, world } from "../loop/harness.ts";
import { isOver, portOf, receiveAll } from "../socket/pairs.ts";

const LOCAL: ListenOptions = { hostname: "127.0.0.1", port: 0 };

/** A runtime whose listeners can be made to fail, and whose capabilities can be changed. */
class Host extends BusyHost {
  sink: AcceptSink | undefined;
  readonly listened: ListenOptions[] = [];
  readonly #capabilities: Partial<Capabilities>;

  constructor(sim: SimRuntime, capabilities: Partial<Capabilities> = {}) {
    super(sim);
    this.#capabilities = capabilities;
  }

  override get capabilities(): Runtime["capabilities"] {
    return { ...super.capabilities, ...this.#capabilities };
  }

  override listen(options: ListenOptions, sink: AcceptSink): Promise<ListenerBinding> {
    this.sink = sink;
    this.listened.push(options);
    return super.listen(options, sink);
  }
}

async function during({ sim, base }: World, ms: number): Promise<void> {
  base.loopExit(ms);
  await sim.run(base.dispatch());
}

/** Connects a number of clients, one after the other. */
async function clients({ sim }: World, listener: ConnListener, count: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  for (let i = 0; i < count; i++) {
    const socket = Socket.connect(sim, { port: portOf(listener) });
    sockets.push(socket);
    while (!socket.connected) await sim.advance(1);
  }
  await sim.advance(2);
  return sockets;
}

function codeOf(fn: () => unknown): string {
  return (assertThrows(fn, EventError) as EventError).code;
}

describe("a listener", () => {
  it("calls back with each connection and the peer's address, in order", async () => {
    const made = world();
    const calls: { listener: ConnListener; socket: Socket; address: Address }[] = [];
    const listener = await ConnListener.bind(
      made.base,
      (listener, socket, address) => calls.push({ listener, socket, address }),
      LEV_OPT_CLOSE_ON_FREE,
      -1,
      LOCAL,
    );
    const sockets = await clients(made, listener, 3);
    assertEquals(calls, []);
    await during(made, 1);
    assertEquals(calls.map(({ address }) => address), sockets.map((socket) => socket.localAddress));
    for (const call of calls) {
      assertStrictEquals(call.listener, listener);
      assert(call.socket.connected);
      call.socket.send("hello");
      call.socket.close();
    }
    await made.sim.advance(5);
    for (const socket of sockets) {
      assertEquals(receiveAll(socket).bytes.length, 5);
      socket.close();
    }
    listener.free();
    assertEquals(made.base.numEvents(EVENT_BASE_COUNT_ADDED), 0);
    await nothingLeft(made);
  });

  it("keeps dispatch() running only while it is enabled and has a callback", async () => {
    const made = world();
    const listener = await ConnListener.bind(made.base, null, LEV_OPT_CLOSE_ON_FREE, -1, LOCAL);
    assertEquals(await made.sim.run(made.base.dispatch()), "empty");
    listener.setCallback(() => {});
    let ended = false;
    const done = made.base.dispatch().then(() => ended = true);
    await made.sim.advance(1000);
    assertEquals(ended, false);
    listener.disable();
    await made.sim.run(done);
    listener.enable();
    const again = made.base.dispatch();
    await made.sim.advance(1000);
    listener.free();
    assertEquals(await made.sim.run(again), "empty");
    await nothingLeft(made);
  });

  it("knows its base, its socket and its address, with the chosen port (N8)", async () => {
    const made = world();
    const listener = await ConnListener.bind(made.base, () => {}, LEV_OPT_CLOSE_ON_FREE, -1, LOCAL);
    assertStrictEquals(listener.base, made.base);
    assert(listener.socket instanceof ListeningSocket);
    assertEquals(listener.address, listener.socket.address);
    assert(portOf(listener) > 0);
    await listener.close();
    assert(portOf(listener) > 0);
    await nothingLeft(made);
  });
});

describe("new ConnListener()", () => {
  it("takes the connections of a listening socket, including those that already wait", async () => {
    const made = world();
    const socket = await made.base.listen(LOCAL);
    const client = Socket.connect(made.sim, { port: portOf(socket) });
    await made.sim.advance(5);
    const accepted: Socket[] = [];
    const listener = new ConnListener(made.base, (_, each) => accepted.push(each), 0, 0, socket);
    assertStrictEquals(listener.socket, socket);
    await during(made, 1);
    assertEquals(accepted.length, 1);
    // Without LEV_OPT_CLOSE_ON_FREE the socket stays open.
    listener.free();
    const second = Socket.connect(made.sim, { port: portOf(socket) });
    await made.sim.advance(5);
    const byHand = socket.accept();
    assert(byHand !== EAGAIN);
    for (const each of [client, second, byHand, ...accepted]) each.close();
    await socket.close();
    await nothingLeft(made);
  });

  it("refuses values that are not sockets or callbacks, and unknown flags", async () => {
    const made = world();
    const socket = await made.base.listen(LOCAL);
    const make = (cb: unknown, flags: number, each: unknown = socket) => (): unknown =>
      new ConnListener(made.base, cb as ListenerCallback, flags, 0, each as ListeningSocket);
    assertThrows(make(() => {}, 0, {}), TypeError);
    assertThrows(make("callback", 0), TypeError);
    assertThrows(make(undefined, 0), TypeError);
    for (const flags of [1 << 10, -1, 1.5]) assertThrows(make(null, flags), RangeError);
    await socket.close();
    await nothingLeft(made);
  });
});

describe("the backlog (N1)", () => {
  it("is 128 if negative, itself if positive, and a RangeError if 0", async () => {
    const made = world();
    const host = new Host(made.sim);
    const base = new EventBase({ runtime: host });
    for (const backlog of [-1, -5, 7]) {
      await (await ConnListener.bind(base, null, LEV_OPT_CLOSE_ON_FREE, backlog, LOCAL)).close();
    }
    assertEquals(host.listened.map(({ backlog }) => backlog), [128, 128, 7]);
    for (const backlog of [0, 1.5, NaN]) {
      await assertRejects(() => ConnListener.bind(base, null, 0, backlog, LOCAL), RangeError);
    }
    await nothingLeft(made);
  });
});

describe("enable() and disable() (N2, N3, N6)", () => {
  it("with LEV_OPT_DISABLED it begins disabled: connections wait, and come in order", async () => {
    const made = world();
    const accepted: Socket[] = [];
    const flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_DISABLED;
    const listener = await ConnListener.bind(made.base, (_, socket) => accepted.push(socket), flags, -1, LOCAL);
    const sockets = await clients(made, listener, 3);
    await during(made, 5);
    assertEquals(accepted, []);
    // Setting a callback does not enable it.
    listener.setCallback((_, socket) => accepted.push(socket));
    await during(made, 5);
    assertEquals(accepted, []);
    listener.enable();
    listener.enable();
    await during(made, 1);
    assertEquals(accepted.map((socket) => socket.remoteAddress), sockets.map((socket) => socket.localAddress));
    listener.disable();
    listener.disable();
    for (const socket of [...sockets, ...accepted]) socket.close();
    listener.free();
    await nothingLeft(made);
  });

  it("disable() in the callback stops after this connection; enable() delivers the others", async () => {
    const made = world();
    const accepted: Socket[] = [];
    const listener = await ConnListener.bind(
      made.base,
      (listener, socket) => {
        accepted.push(socket);
        listener.disable();
      },
      LEV_OPT_CLOSE_ON_FREE,
      -1,
      LOCAL,
    );
    const sockets = await clients(made, listener, 3);
    for (let i = 1; i <= 3; i++) {
      await during(made, 5);
      assertEquals(accepted.length, i);
      listener.enable();
    }
    assertEquals(accepted.map((socket) => socket.remoteAddress), sockets.map((socket) => socket.localAddress));
    for (const socket of [...sockets, ...accepted]) socket.close();
    listener.free();
    await nothingLeft(made);
  });

  it("connections wait without a callback; setCallback() starts delivery, and null stops it", async () => {
    const made = world();
    const accepted: Socket[] = [];
    const listener = await ConnListener.bind(made.base, null, LEV_OPT_CLOSE_ON_FREE, -1, LOCAL);
    const sockets = await clients(made, listener, 2);
    await during(made, 5);
    listener.setCallback((listener, socket) => {
      accepted.push(socket);
      listener.setCallback(null);
    });
    await during(made, 5);
    assertEquals(accepted.length, 1);
    listener.setCallback((_, socket) => accepted.push(socket));
    await during(made, 5);
    assertEquals(accepted.length, 2);
    for (const socket of [...sockets, ...accepted]) socket.close();
    listener.free();
    await nothingLeft(made);
  });

  it("during a flood of connections take each once", async () => {
    const made = world();
    let accepted = 0;
    const listener = await ConnListener.bind(
      made.base,
      (_, socket) => {
        accepted++;
        socket.close();
      },
      LEV_OPT_CLOSE_ON_FREE,
      -1,
      LOCAL,
    );
    const sockets = Array.from({ length: 1000 }, () => Socket.connect(made.sim, { port: portOf(listener) }));
    await during(made, 100);
    assertEquals([accepted, sockets.filter((socket) => socket.connected).length], [1000, 1000]);
    for (const socket of sockets) socket.close();
    listener.free();
    await nothingLeft(made);
  });
});

describe("free() and close()", () => {
  it("free() in the callback is safe, and the last call (N3)", async () => {
    const made = world();
    const accepted: Socket[] = [];
    const listener = await ConnListener.bind(
      made.base,
      (listener, socket) => {
        accepted.push(socket);
        listener.free();
      },
      LEV_OPT_CLOSE_ON_FREE,
      -1,
      LOCAL,
    );
    const sockets = await clients(made, listener, 3);
    assertEquals([await made.sim.run(made.base.dispatch()), accepted.length], ["empty", 1]);
    await made.sim.advance(5);
    // Waiting connections are closed with it.
    assertEquals(sockets.map((socket) => receiveAll(socket).ended), [false, true, true]);
    for (const socket of [...sockets, ...accepted]) socket.close();
    await nothingLeft(made);
  });

  it("with LEV_OPT_CLOSE_ON_FREE releases the port and closes the waiting connections of a disabled listener", async () => {
    const made = world();
    const flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_DISABLED;
    const listener = await ConnListener.bind(made.base, () => {}, flags, -1, LOCAL);
    const port = portOf(listener);
    const sockets = await clients(made, listener, 2);
    listener.free();
    listener.free();
    listener[Symbol.dispose]();
    await made.sim.advance(5);
    assertEquals(sockets.map(isOver), [true, true]);
    const again = await ConnListener.bind(made.base, () => {}, LEV_OPT_CLOSE_ON_FREE, -1, { ...LOCAL, port });
    await again.close();
    for (const socket of sockets) socket.close();
    await nothingLeft(made);
  });

  it("close() closes the socket whatever the flags, and resolves when the port is free", async () => {
    const made = world();
    const listener = await ConnListener.bind(made.base, () => {}, 0, -1, LOCAL);
    const port = portOf(listener);
    await Promise.all([listener.close(), listener.close()]);
    await using again = await ConnListener.bind(made.base, () => {}, 0, -1, { ...LOCAL, port });
    assertEquals(portOf(again), port);
    await again.close();
    await nothingLeft(made);
  });

  it("a freed listener does nothing, and refuses to be enabled", async () => {
    const made = world();
    const listener = await ConnListener.bind(made.base, () => {}, LEV_OPT_CLOSE_ON_FREE, -1, LOCAL);
    listener.free();
    listener.disable();
    listener.setErrorCallback(null);
    assertEquals([codeOf(() => listener.enable()), codeOf(() => listener.setCallback(null))], ["EV_FREED", "EV_FREED"]);
    assertEquals(await made.sim.run(made.base.dispatch()), "empty");
    await nothingLeft(made);
  });

  it("of its socket stops the callbacks of the listener", async () => {
    const made = world();
    const listener = await ConnListener.bind(made.base, () => {}, 0, -1, LOCAL);
    await listener.socket.close();
    assertEquals(await made.sim.run(made.base.dispatch()), "empty");
    listener.disable();
    listener.enable();
    assertEquals(await made.sim.run(made.base.dispatch()), "empty");
    listener.free();
    await nothingLeft(made);
  });

  it("work after base.free(), too", async () => {
    const made = world();
    const listener = await ConnListener.bind(made.base, () => {}, LEV_OPT_CLOSE_ON_FREE, -1, LOCAL);
    made.base.free();
    listener.free();
    await nothingLeft(made);
  });
});

describe("errors of accepting (N5)", () => {
  it("are passed to the error callback, once each, and the listener goes on", async () => {
    const made = world();
    const host = new Host(made.sim);
    const base = new EventBase({ runtime: host });
    const errors: string[] = [];
    const accepted: Socket[] = [];
    const listener = await ConnListener.bind(
      base,
      (_, socket) => accepted.push(socket),
      LEV_OPT_CLOSE_ON_FREE,
      -1,
      LOCAL,
    );
    listener.setErrorCallback((each, error) => {
      assertStrictEquals(each, listener);
      errors.push(error.code);
    });
    for (let i = 1; i <= 2; i++) {
      host.sink?.onError(new EventError("Cannot accept: input/output error", { code: "EIO" }));
      await during({ sim: made.sim, base }, 5);
      assertEquals(errors.length, i);
    }
    const [socket] = await clients(made, listener, 1);
    await during({ sim: made.sim, base }, 5);
    assertEquals([errors, accepted.length], [["EIO", "EIO"], 1]);
    socket?.close();
    accepted[0]?.close();
    listener.free();
    await nothingLeft(made);
  });

  it("are dropped without an error callback, and the loop does not busy-loop", async () => {
    const made = world();
    const host = new Host(made.sim);
    const base = new EventBase({ runtime: host });
    const listener = await ConnListener.bind(base, () => {}, LEV_OPT_CLOSE_ON_FREE, -1, LOCAL);
    host.sink?.onError(new EventError("Cannot accept", { code: "EMFILE" }));
    await during({ sim: made.sim, base }, 100);
    assert(base.stats().turns < 10);
    listener.free();
    await nothingLeft(made);
  });

  it("the error callback may disable or free the listener", async () => {
    for (const end of ["disable", "free"] as const) {
      const made = world();
      const host = new Host(made.sim);
      const base = new EventBase({ runtime: host });
      let calls = 0;
      const listener = await ConnListener.bind(base, () => {}, LEV_OPT_CLOSE_ON_FREE, -1, LOCAL);
      listener.setErrorCallback((each) => {
        calls++;
        each[end]();
      });
      for (let i = 0; i < 2; i++) host.sink?.onError(new EventError("Cannot accept", { code: "EMFILE" }));
      assertEquals([await made.sim.run(base.dispatch()), calls], ["empty", 1]);
      listener.free();
      await nothingLeft(made);
    }
  });

  it("a callback that throws makes dispatch() reject, and the next dispatch() delivers the other connections", async () => {
    const made = world();
    const accepted: Socket[] = [];
    const failure = new Error("in the callback");
    const listener = await ConnListener.bind(
      made.base,
      (_, socket) => {
        accepted.push(socket);
        if (accepted.length === 1) throw failure;
      },
      LEV_OPT_CLOSE_ON_FREE,
      -1,
      LOCAL,
    );
    const sockets = await clients(made, listener, 3);
    assertStrictEquals(await made.sim.run(made.base.dispatch().catch((error) => error)), failure);
    assertEquals(accepted.length, 1);
    await during(made, 5);
    assertEquals(accepted.length, 3);
    for (const socket of [...sockets, ...accepted]) socket.close();
    listener.free();
    await nothingLeft(made);
  });
});

describe("bind()", () => {
  it("rejects with the runtime's error, and leaves nothing open", async () => {
    const made = world();
    const listener = await ConnListener.bind(made.base, () => {}, LEV_OPT_CLOSE_ON_FREE, -1, LOCAL);
    const taken = { ...LOCAL, port: portOf(listener) };
    const code = async (address: ListenOptions): Promise<string> =>
      (await assertRejects(() => ConnListener.bind(made.base, () => {}, 0, -1, address), EventError) as EventError)
        .code;
    assertEquals([await code(taken), await code({ hostname: "10.9.9.9", port: 0 })], ["EADDRINUSE", "EADDRNOTAVAIL"]);
    assertEquals(made.sim.openHandles, 1);
    listener.free();
    await nothingLeft(made);
  });

  it("rejects values that are not addresses, callbacks or flags", async () => {
    const { base, sim } = world();
    const bind = (cb: unknown, flags: number, address: unknown) => (): Promise<unknown> =>
      ConnListener.bind(base, cb as ListenerCallback, flags, -1, address as ListenOptions);
    await assertRejects(bind(() => {}, 0, null), TypeError, "received null");
    await assertRejects(bind(() => {}, 0, "127.0.0.1:80"), TypeError, 'received "127.0.0.1:80"');
    await assertRejects(() => ConnListener.bind({} as EventBase, null, 0, -1, LOCAL), TypeError, "not an EventBase");
    await assertRejects(bind(5, 0, LOCAL), TypeError);
    await assertRejects(bind(null, 1 << 10, LOCAL), RangeError);
    await assertRejects(bind(null, 0, { hostname: "127.0.0.1", port: -1 }), RangeError);
    assertEquals(sim.openHandles, 0);
  });

  it("rejects with EV_FREED on a base that was freed, before or meanwhile, and leaves nothing open", async () => {
    const { base, sim } = world();
    const meanwhile = ConnListener.bind(base, () => {}, 0, -1, LOCAL);
    base.free();
    const before = ConnListener.bind(base, () => {}, 0, -1, LOCAL);
    const rejected = [meanwhile, before].map((bound) => assertRejects(() => bound, EventError));
    for (const error of rejected) assertEquals((await sim.run(error)).code, "EV_FREED");
    assertEquals(sim.openHandles, 0);
    const socket = await sim.run(base.listen(LOCAL));
    assertEquals(codeOf(() => new ConnListener(base, null, 0, -1, socket)), "EV_FREED");
    await sim.run(socket.close());
  });
});

describe("the flags", () => {
  it("without meaning here are accepted (N4)", async () => {
    const made = world();
    const flags = LEV_OPT_LEAVE_SOCKETS_BLOCKING | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_THREADSAFE | LEV_OPT_REUSEABLE;
    const listener = await ConnListener.bind(made.base, () => {}, flags | LEV_OPT_CLOSE_ON_FREE, -1, LOCAL);
    listener.free();
    await nothingLeft(made);
  });

  it("LEV_OPT_DEFERRED_ACCEPT is EV_UNSUPPORTED on every runtime", async () => {
    const made = world();
    const socket = await made.base.listen(LOCAL);
    assertEquals(codeOf(() => new ConnListener(made.base, null, LEV_OPT_DEFERRED_ACCEPT, 0, socket)), "EV_UNSUPPORTED");
    const error = await assertRejects(
      () => ConnListener.bind(made.base, null, LEV_OPT_DEFERRED_ACCEPT, -1, LOCAL),
      EventError,
    ) as EventError;
    assertEquals(error.code, "EV_UNSUPPORTED");
    await socket.close();
    await nothingLeft(made);
  });

  it("LEV_OPT_REUSEABLE_PORT shares a port if the runtime supports it, and is EV_UNSUPPORTED elsewhere", async () => {
    const made = world();
    const flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_REUSEABLE_PORT;
    let accepted = 0;
    const accept: ListenerCallback = (_, socket) => {
      accepted++;
      socket.close();
    };
    const first = await ConnListener.bind(made.base, accept, flags, -1, LOCAL);
    const second = await ConnListener.bind(made.base, accept, flags, -1, { ...LOCAL, port: portOf(first) });
    const sockets = await clients(made, first, 6);
    await during(made, 5);
    assertEquals(accepted, 6);
    for (const socket of sockets) socket.close();
    first.free();
    second.free();
    const base = new EventBase({ runtime: new Host(made.sim, { reusePort: false }) });
    const error = await assertRejects(() => ConnListener.bind(base, null, flags, -1, LOCAL), EventError) as EventError;
    assertEquals(error.code, "EV_UNSUPPORTED");
    await nothingLeft(made);
  });

  it("LEV_OPT_REUSEABLE and LEV_OPT_REUSEABLE_PORT with a path are a RangeError (N7)", async () => {
    const made = world();
    for (const flag of [LEV_OPT_REUSEABLE, LEV_OPT_REUSEABLE_PORT]) {
      await assertRejects(() => ConnListener.bind(made.base, null, flag, -1, { path: "/run/app" }), RangeError);
    }
    const listener = await ConnListener.bind(made.base, () => {}, LEV_OPT_CLOSE_ON_FREE, -1, { path: "/run/app" });
    assertEquals(listener.address, { path: "/run/app" });
    listener.free();
    await nothingLeft(made);
  });

  it("LEV_OPT_BIND_IPV6ONLY excludes IPv4; with LEV_OPT_BIND_IPV4_AND_IPV6 both are included (N7)", async () => {
    const made = world();
    const both = LEV_OPT_BIND_IPV6ONLY | LEV_OPT_BIND_IPV4_AND_IPV6;
    for (
      const [flags, v4] of [[LEV_OPT_BIND_IPV6ONLY, false], [LEV_OPT_BIND_IPV4_AND_IPV6, true], [both, true]] as const
    ) {
      let accepted = 0;
      const listener = await ConnListener.bind(
        made.base,
        (_, socket) => {
          accepted++;
          socket.close();
        },
        flags | LEV_OPT_CLOSE_ON_FREE,
        -1,
        { hostname: "::", port: 0 },
      );
      const port = portOf(listener);
      const sockets = ["127.0.0.1", "::1"].map((hostname) => Socket.connect(made.sim, { hostname, port }));
      await during(made, 10);
      assertEquals([accepted, sockets[0]?.connected, sockets[1]?.connected], [v4 ? 2 : 1, v4, true]);
      for (const socket of sockets) socket.close();
      listener.free();
      await made.sim.advance(10);
    }
    await nothingLeft(made);
  });

  it("for IPv6 with an IPv4 address, a name, a path or no address are a RangeError (N7)", async () => {
    const made = world();
    for (const flag of [LEV_OPT_BIND_IPV6ONLY, LEV_OPT_BIND_IPV4_AND_IPV6]) {
      for (const address of [LOCAL, { port: 0 }, { hostname: "localhost", port: 0 }, { path: "/run/app" }]) {
        await assertRejects(() => ConnListener.bind(made.base, null, flag, -1, address), RangeError);
      }
    }
    await nothingLeft(made);
  });

  it("for IPv6 on a runtime without a choice: both families work, IPv6 alone is EV_UNSUPPORTED", async () => {
    const made = world();
    const base = new EventBase({ runtime: new Host(made.sim, { ipv6Only: false }) });
    const address = { hostname: "::", port: 0 };
    const flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_BIND_IPV4_AND_IPV6;
    const listener = await ConnListener.bind(base, () => {}, flags, -1, address);
    listener.free();
    const error = await assertRejects(
      () => ConnListener.bind(base, () => {}, LEV_OPT_BIND_IPV6ONLY, -1, address),
      EventError,
    ) as EventError;
    assertEquals(error.code, "EV_UNSUPPORTED");
    await nothingLeft(made);
  });
});
