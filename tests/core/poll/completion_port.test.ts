// CompletionPort: keys, posts, errors, and several waiters that take each completion once, without
// a loop.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { EventError } from "../../../core/errors.ts";
import { type Completion, CompletionPort } from "../../../core/api/completion_port.ts";
import { Overlapped } from "../../../core/api/overlapped.ts";
import type { Pollable } from "../../../core/api/pollable.ts";
import type { Socket } from "../../../core/api/socket.ts";
import { portOf } from "../socket/pairs.ts";
import { bytes, received, Stage, Watched } from "./stage.ts";

async function rig(): Promise<{ stage: Stage; port: CompletionPort<string>; client: Socket; server: Socket }> {
  const stage = new Stage();
  const [client, server] = await stage.pair();
  const port = new CompletionPort<string>(stage.base);
  port.associate(server, "server");
  return { stage, port, client, server };
}

/** A completion as `key bytes` or `key code`. */
function told(completion: Completion<string> | null | undefined): string {
  if (!completion) return String(completion);
  const { key, bytes, error } = completion;
  return `${key} ${error === null ? bytes : error.code}`;
}

describe("CompletionPort.wait()", () => {
  it("with a timeout of 0 only checks, with a number waits that long, without one waits for ever", async () => {
    const { stage, port, client, server } = await rig();
    const { sim } = stage;
    const began = sim.now();
    assertEquals(await sim.run(port.wait(0)), null);
    assertEquals(sim.now(), began);
    assertEquals(await sim.run(port.wait(250)), null);
    assertEquals(sim.now() - began, 250);
    const wait = new Watched(port.wait());
    await sim.advance(1e9);
    assertEquals([wait.state, sim.pending], ["pending", 0]);
    port.post("go", 7);
    await sim.advance(0);
    assertEquals(wait.value, { key: "go", bytes: 7, overlapped: null, error: null });
    await stage.end(client, server);
  });

  it("gives the key of the socket, the bytes, the status and no error", async () => {
    const { stage, port, client, server } = await rig();
    const ov = new Overlapped();
    const buffer = new Uint8Array(9);
    server.recvOverlapped(buffer, ov);
    const wait = port.wait();
    client.send("abc");
    const completion = await stage.sim.run(wait);
    assertEquals(told(completion), "server 3");
    assert(completion?.overlapped === ov && completion.error === null);
    assertEquals(ov.result(), { bytes: 3 });
    assertEquals(await stage.sim.run(port.wait(100)), null);
    await stage.end(client, server);
  });

  it("gives failures as completions, each operation one", async () => {
    const { stage, port, client, server } = await rig();
    const ovs = [new Overlapped(), new Overlapped(), new Overlapped()] as const;
    server.recvOverlapped(new Uint8Array(9), ovs[0]);
    server.recvOverlapped(new Uint8Array(9), ovs[1]);
    server.sendOverlapped(new Uint8Array(500_000), ovs[2]);
    await stage.sim.advance(5);
    client.reset();
    const completions: (Completion<string> | null)[] = [];
    for (let i = 0; i < 3; i++) completions.push(await stage.sim.run(port.wait()));
    assertEquals(completions.map(told), ["server ECONNRESET", "server ECONNRESET", "server ECONNRESET"]);
    assert(ovs.every((ov) => completions.some((completion) => completion?.overlapped === ov)));
    assertEquals(await stage.sim.run(port.wait(100)), null);
    await stage.end(server);
  });

  it("takes completions in their order, and each goes to one waiter", async () => {
    const { stage, port, client, server } = await rig();
    const waits = [1, 2, 3, 4].map(() => new Watched(port.wait()));
    server.recvOverlapped(new Uint8Array(1), new Overlapped());
    server.recvOverlapped(new Uint8Array(2), new Overlapped());
    client.send("abc");
    await stage.sim.advance(1);
    port.post("posted", 3);
    await stage.sim.advance(0);
    assertEquals(waits.map(({ value }) => told(value)), ["server 1", "server 2", "posted 3", "undefined"]);
    port.post("last");
    await stage.sim.advance(0);
    assertEquals(told(waits[3]?.value), "last 0");
    await stage.end(client, server);
  });

  it("lets several workers share the work: nothing twice, nothing lost", async () => {
    const stage = new Stage();
    const port = new CompletionPort<number>(stage.base);
    const taken: number[] = [];
    const worker = async (): Promise<number> => {
      let own = 0;
      for (;;) {
        const completion = await port.wait(50);
        if (completion === null) return own;
        taken.push(completion.key);
        own++;
        await Promise.resolve();
      }
    };
    const workers = Promise.all([worker(), worker(), worker()]);
    for (let i = 0; i < 3000; i++) {
      port.post(i);
      if (i % 100 === 0) await stage.sim.advance(1);
    }
    const shares = await stage.sim.run(workers);
    assertEquals(taken, Array.from({ length: 3000 }, (_, i) => i));
    assert(shares.every((share) => share > 500), shares.join());
    await stage.end();
  });

  it("refuses to post a value that is not a number of bytes", () => {
    const port = new CompletionPort<string>(new Stage().base);
    for (const bytes of [-1, 1.5, NaN, Infinity, "7", null] as number[]) {
      assertThrows(() => port.post("k", bytes), RangeError, "received ");
    }
    port.close();
  });

  it("keeps what completed while nobody waited", async () => {
    const { stage, port, client, server } = await rig();
    for (let i = 0; i < 3; i++) server.recvOverlapped(new Uint8Array(1), new Overlapped());
    client.send("abc");
    await stage.sim.advance(10);
    for (let i = 0; i < 3; i++) assertEquals(told(await stage.sim.run(port.wait(0))), "server 1");
    assertEquals(await stage.sim.run(port.wait(0)), null);
    await stage.end(client, server);
  });

  it("ends with the reason of a signal that is aborted, and leaves the completion to the others", async () => {
    const { stage, port, client, server } = await rig();
    const reason = new Error("enough");
    const controller = new AbortController();
    const cut = new Watched(port.wait(1000, { signal: controller.signal }));
    const other = new Watched(port.wait());
    port.post("go");
    controller.abort(reason);
    await stage.sim.advance(0);
    assertEquals([cut.state, cut.reason, told(other.value)], ["rejected", reason, "go 0"]);
    assertEquals(await assertRejects(() => port.wait(0, { signal: AbortSignal.abort(reason) })), reason);
    await stage.end(client, server);
  });

  it("does not starve the runtime in a loop of waits", async () => {
    const { stage, port, client, server } = await rig();
    server.recvOverlapped(new Uint8Array(1), new Overlapped());
    client.send("x");
    port.post("round");
    let key = "";
    const circle = async (): Promise<void> => {
      while (key !== "server") {
        key = (await port.wait())?.key as string;
        port.post("round");
      }
    };
    await stage.sim.run(circle());
    await stage.end(client, server);
  });

  it("refuses wrong timeouts", async () => {
    const { stage, port, client, server } = await rig();
    for (const ms of [-1, NaN, Infinity]) await assertRejects(() => port.wait(ms), RangeError);
    await assertRejects(() => port.wait("1" as unknown as number), TypeError);
    await assertRejects(() => port.wait(0, { signal: null as unknown as AbortSignal }), TypeError, "received null");
    await stage.end(client, server);
  });
});

describe("CompletionPort.associate()", () => {
  it("gives each socket its own key, listening and connecting ones too", async () => {
    const stage = new Stage();
    const { sim } = stage;
    const port = new CompletionPort<object | string>(stage.base);
    const listening = await stage.listen();
    const key = { the: "listener" };
    port.associate(listening, key);
    const accepted = new Overlapped();
    listening.acceptOverlapped(accepted);
    const client = stage.base.connectOverlapped({ port: portOf(listening) }, new Overlapped());
    // Before it is connected.
    port.associate(client, "client");
    const completions = [await sim.run(port.wait()), await sim.run(port.wait())];
    assertEquals(completions.map((completion) => completion?.key), ["client", key]);
    assert(completions[1]?.overlapped === accepted && completions[1].key === key);
    const server = accepted.socket as Socket;
    port.associate(server, "server");
    server.sendOverlapped(bytes("hello"), new Overlapped());
    client.recvOverlapped(new Uint8Array(9), new Overlapped());
    const more = [await sim.run(port.wait()), await sim.run(port.wait())];
    assertEquals(more.map((completion) => `${completion?.key} ${completion?.bytes}`), ["server 5", "client 5"]);
    await stage.end(client, server, listening);
  });

  it("delivers completions of operations that were begun before", async () => {
    const stage = new Stage();
    const [client, server] = await stage.pair();
    const port = new CompletionPort<string>(stage.base);
    server.recvOverlapped(new Uint8Array(1), new Overlapped());
    port.associate(server, "late");
    client.send("x");
    assertEquals(told(await stage.sim.run(port.wait())), "late 1");
    await stage.end(client, server);
  });

  it("accepts a socket for one port, and again when that port is closed", async () => {
    const { stage, port, client, server } = await rig();
    const other = new CompletionPort<string>(stage.base);
    assertEquals(assertThrows(() => port.associate(server, "again"), EventError).code, "EEXIST");
    assertEquals(assertThrows(() => other.associate(server, "other"), EventError).code, "EEXIST");
    port.close();
    other.associate(server, "other");
    server.recvOverlapped(new Uint8Array(1), new Overlapped());
    client.send("x");
    assertEquals(told(await stage.sim.run(other.wait())), "other 1");
    await stage.end(client, server);
  });

  it("refuses closed objects, and values that are not sockets", async () => {
    const { stage, port, client, server } = await rig();
    client.close();
    assertEquals(assertThrows(() => port.associate(client, "c"), EventError).code, "EBADF");
    assertThrows(() => port.associate({} as Pollable, "x"), TypeError);
    await stage.end(server);
  });

  it("calls the callback of an operation as well", async () => {
    const { stage, port, client, server } = await rig();
    let calls = 0;
    server.recvOverlapped(new Uint8Array(9), new Overlapped(() => calls++));
    client.send("x");
    assertEquals(told(await stage.sim.run(port.wait())), "server 1");
    await stage.sim.advance(0);
    assertEquals(calls, 1);
    await stage.end(client, server);
  });
});

describe("closing", () => {
  it("a socket completes what is pending on it with ECANCELED, to the port", async () => {
    const { stage, port, client, server } = await rig();
    const ovs = [new Overlapped(), new Overlapped()];
    for (const ov of ovs) server.recvOverlapped(new Uint8Array(9), ov);
    server.close();
    const completions = [await stage.sim.run(port.wait()), await stage.sim.run(port.wait())];
    assertEquals(completions.map(told), ["server ECANCELED", "server ECANCELED"]);
    assert(completions.every((completion, i) => completion?.overlapped === ovs[i] && completion?.error !== null));
    assertEquals(await stage.sim.run(port.wait(100)), null);
    await stage.end(client);
  });

  it("a port rejects its waits with ECANCELED, and every later call with EBADF; operations go on", async () => {
    const { stage, port, client, server } = await rig();
    const waits = [new Watched(port.wait()), new Watched(port.wait(1000))];
    const ov = new Overlapped();
    const buffer = new Uint8Array(9);
    server.recvOverlapped(buffer, ov);
    port.close();
    port.close();
    await stage.sim.advance(0);
    for (const { reason } of waits) assertEquals((reason as EventError).code, "ECANCELED");
    assertEquals(stage.sim.pending, 0);
    assertEquals((await assertRejects(() => port.wait(), EventError)).code, "EBADF");
    assertEquals(assertThrows(() => port.post("x"), EventError).code, "EBADF");
    assertEquals(assertThrows(() => port.associate(client, "c"), EventError).code, "EBADF");
    client.send("abc");
    await stage.sim.advance(1);
    assertEquals([ov.result().bytes, received(server)], [3, ""]);
    await stage.end(client, server);
  });

  it("happens at the end of a scope", async () => {
    const { stage, port, client, server } = await rig();
    port[Symbol.dispose]();
    assertEquals((await assertRejects(() => port.wait(), EventError)).code, "EBADF");
    await stage.end(client, server);
  });
});
