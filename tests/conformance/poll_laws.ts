/**
 * select, Poller, CompletionPort and overlapped operations over real sockets: the same tests on
 * every runtime.
 */

import { describe, it } from "./suite.ts";
import { assert, assertEquals, assertGreaterOrEqual, assertRejects, assertThrows } from "./assert.ts";
import {
  type Completion,
  CompletionPort,
  EAGAIN,
  ENOTCONN,
  EV_CLOSED,
  EV_ET,
  EV_READ,
  EV_WRITE,
  EventError,
  Overlapped,
  Poller,
  select,
  type Socket,
} from "../../core/mod.ts";
import { assertSame, bytes, pattern, type PollScene, pollScene, portOf, receive, sendAll, text } from "./poll_scene.ts";
import type { FullSubject } from "./subject.ts";

/** The time in which nothing should happen. */
const QUIET_MS = 40;

/** Tests one runtime. */
export function pollLaws(name: string, makeSubject: () => FullSubject): void {
  const law = (what: string, body: (scene: PollScene) => Promise<void>): void => {
    it(what, () => pollScene(makeSubject(), body));
  };
  describe(`${name}: select()`, () => selectLaws(law));
  describe(`${name}: Poller`, () => pollerLaws(law));
  describe(`${name}: overlapped operations`, () => overlappedLaws(law));
  describe(`${name}: CompletionPort`, () => portLaws(law));
}

type Law = (what: string, body: (scene: PollScene) => Promise<void>) => void;

function selectLaws(law: Law): void {
  law("checks, waits for a time, or waits for ever", async (scene) => {
    const [client, server] = await scene.pair();
    assertEquals((await select({ read: [server] }, 0)).read.length, 0);
    const began = scene.runtime.now();
    assertEquals((await select({ read: [server] }, QUIET_MS)).read.length, 0);
    assertGreaterOrEqual(scene.runtime.now() - began, QUIET_MS);
    client.send("x");
    assert((await select({ read: [client, server] })).read[0] === server);
    // It stays readable, and a check without waiting reports it.
    const { read, write, except } = await select({ read: [client, server], write: [server], except: [server] }, 0);
    assert(read.length === 1 && read[0] === server && write[0] === server);
    assertEquals(except.length, 0);
  });

  law(
    "reports accept as reading and connect as writing, and a send of 0 bytes shows whether it is connected",
    async (scene) => {
      const listening = await scene.listen();
      const client = scene.connect(listening);
      assertEquals([client.send(""), client.send("x")], [ENOTCONN, EAGAIN]);
      assert((await select({ write: [client] })).write[0] === client);
      assertEquals([client.send(""), client.connected], [0, true]);
      assert((await select({ read: [listening] })).read[0] === listening);
      scene.keep(listening.accept() as Socket);
      assertEquals(listening.accept(), EAGAIN);
    },
  );

  law("puts a refused connection into all three sets, and a send of 0 bytes throws the reason", async (scene) => {
    const client = scene.keep(scene.base.connect({ port: await scene.freePort() }));
    assertEquals(client.send(""), ENOTCONN);
    const sets = await select({ read: [client], write: [client], except: [client] });
    assert([sets.read, sets.write, sets.except].every((set) => set[0] === client));
    assertEquals(assertThrows(() => client.send(""), EventError).code, "ECONNREFUSED");
    assertEquals(assertThrows(() => client.recv(new Uint8Array(1)), EventError).code, "ECONNREFUSED");
  });

  law("does not starve the runtime in a loop of checks", async (scene) => {
    const listening = await scene.listen();
    const client = scene.connect(listening);
    let looks = 0;
    while ((await select({ read: [listening] }, 0)).read.length === 0) looks++;
    const server = scene.keep(listening.accept() as Socket);
    client.close();
    while (server.recv(new Uint8Array(1)) === EAGAIN) {
      await select({ write: [server] });
      looks++;
    }
    assertGreaterOrEqual(looks, 1);
  });

  law("serves a server of many clients", async (scene) => {
    const listening = await scene.listen();
    const CLIENTS = 30;
    const served = (async () => {
      const sockets = new Set<Socket>();
      for (let ended = 0; ended < CLIENTS;) {
        const { read } = await select({ read: [listening, ...sockets] });
        for (const ready of read) {
          if (ready === listening) {
            for (let socket = listening.accept(); socket !== EAGAIN; socket = listening.accept()) {
              sockets.add(scene.keep(socket));
            }
            continue;
          }
          const socket = ready as Socket;
          const buffer = new Uint8Array(1024);
          const n = socket.recv(buffer);
          if (n > 0) await sendAll(socket, buffer.subarray(0, n));
          else if (n === 0) {
            socket.close();
            sockets.delete(socket);
            ended++;
          }
        }
      }
    })();
    await Promise.all(Array.from({ length: CLIENTS }, async (_, i) => {
      const client = scene.connect(listening);
      const data = pattern(5000, i);
      await select({ write: [client] });
      await Promise.all([
        sendAll(client, data).then(() => client.shutdown()),
        receive(client, data.length).then((got) => assertSame(got, data)),
      ]);
    }));
    await served;
  });
}

function pollerLaws(law: Law): void {
  law("reports a level at each wait, and an edge once", async (scene) => {
    const [client, server] = await scene.pair();
    const level = scene.keep(new Poller<string>(scene.base));
    const edge = scene.keep(new Poller<string>(scene.base));
    level.add(server, EV_READ, "level");
    edge.add(server, EV_READ | EV_ET, "edge");
    assertEquals([await level.wait(0), await edge.wait(QUIET_MS)], [[], []]);
    client.send("abc");
    const [event] = await edge.wait();
    assert(event?.source === server);
    assertEquals([event.what, event.data], [EV_READ, "edge"]);
    assertEquals(await edge.wait(QUIET_MS), []);
    for (let i = 0; i < 3; i++) assertEquals((await level.wait()).map(({ data }) => data), ["level"]);
    server.recv(new Uint8Array(2));
    assertEquals((await level.wait(0)).length, 1);
    assertEquals((await edge.wait(QUIET_MS)).length, 0);
    client.send("d");
    assertEquals((await edge.wait()).length, 1);
    assertEquals(text(await receive(server, 2)), "cd");
    assertEquals([await level.wait(QUIET_MS), await edge.wait(0)], [[], []]);
  });

  law("reports the peer's end, and EV_CLOSED without reading", async (scene) => {
    const [client, server] = await scene.pair();
    const poller = scene.keep(new Poller<string>(scene.base));
    poller.add(server, EV_CLOSED, "s");
    client.send("abc");
    assertEquals(await poller.wait(QUIET_MS), []);
    client.shutdown();
    assertEquals((await poller.wait())[0]?.what, EV_CLOSED);
    poller.modify(server, EV_READ | EV_CLOSED);
    assertEquals((await poller.wait())[0]?.what, EV_READ | EV_CLOSED);
    assertEquals(text(await receive(server, 9)), "abc");
    assertEquals((await poller.wait())[0]?.what, EV_READ | EV_CLOSED);
  });

  law("reports accept as reading and connect as writing", async (scene) => {
    const listening = await scene.listen();
    const poller = scene.keep(new Poller<string>(scene.base));
    poller.add(listening, EV_READ, "listener");
    const client = scene.connect(listening);
    poller.add(client, EV_WRITE | EV_ET, "client");
    const seen: string[] = [];
    while (seen.length < 2) {
      for (const { data } of await poller.wait()) {
        seen.push(data);
        if (data === "listener") scene.keep(listening.accept() as Socket);
      }
    }
    assertEquals(seen.sort(), ["client", "listener"]);
    assertEquals(await poller.wait(QUIET_MS), []);
    const refused = scene.keep(scene.base.connect({ port: await scene.freePort() }));
    poller.add(refused, EV_WRITE, "refused");
    assertEquals((await poller.wait()).map(({ data, what }) => [data, what]), [["refused", EV_WRITE]]);
    assertEquals(refused.error?.code, "ECONNREFUSED");
  });

  law("reports when there is space to send again", async (scene) => {
    const [client, server] = await scene.pair();
    const poller = scene.keep(new Poller(scene.base));
    poller.add(client, EV_WRITE | EV_ET);
    assertEquals((await poller.wait()).length, 1);
    let sent = 0;
    const chunk = new Uint8Array(65_536);
    for (let full = false; !full;) {
      for (let n = client.send(chunk); n !== EAGAIN; n = client.send(chunk)) sent += n;
      full = (await poller.wait(QUIET_MS)).length === 0;
    }
    assert(sent < 64 << 20, "a peer that does not read is not sent without end");
    const [got] = await Promise.all([
      receive(server, sent),
      poller.wait().then((events) => assertEquals(events[0]?.what, EV_WRITE)),
    ]);
    assertEquals(got.length, sent);
    assertGreaterOrEqual(client.send(chunk), 1);
  });

  law("gives at most maxEvents, to several waiters, and forgets a socket that was closed", async (scene) => {
    const poller = scene.keep(new Poller<number>(scene.base));
    const pairs = [await scene.pair(), await scene.pair(), await scene.pair()];
    pairs.forEach(([, server], i) => poller.add(server, EV_READ | EV_ET, i));
    const waits = [poller.wait(undefined, 1), poller.wait(undefined, 1), poller.wait(undefined, 1)];
    for (const [client] of pairs) client.send("x");
    const told = (await Promise.all(waits)).flat().map(({ data }) => data);
    assertEquals(told.sort(), [0, 1, 2]);
    const wait = poller.wait(QUIET_MS);
    for (const [client, server] of pairs) {
      client.send("y");
      server.close();
    }
    assertEquals(await wait, []);
    assertEquals(poller.size, 0);
  });

  law("ends its waits when it is closed", async (scene) => {
    const [, server] = await scene.pair();
    const poller = new Poller<string>(scene.base);
    poller.add(server, EV_READ, "s");
    const wait = assertRejects(() => poller.wait(), EventError);
    poller.close();
    assertEquals((await wait).code, "ECANCELED");
  });

  law("serves a server of many clients, edge-triggered", async (scene) => {
    const listening = await scene.listen();
    const CLIENTS = 50;
    const served = (async () => {
      const poller = scene.keep(new Poller<{ unsent: Uint8Array; ended: boolean } | null>(scene.base));
      poller.add(listening, EV_READ | EV_ET, null);
      for (let ended = 0; ended < CLIENTS;) {
        for (const { source, data: state } of await poller.wait(undefined, 8)) {
          if (state === null) {
            for (let socket = listening.accept(); socket !== EAGAIN; socket = listening.accept()) {
              poller.add(scene.keep(socket), EV_READ | EV_WRITE | EV_ET, { unsent: new Uint8Array(0), ended: false });
            }
            continue;
          }
          const socket = source as Socket;
          for (;;) {
            if (state.unsent.length > 0) {
              const n = socket.send(state.unsent);
              if (n === EAGAIN) break;
              state.unsent = state.unsent.subarray(n);
              continue;
            }
            const buffer = new Uint8Array(4096);
            const n = socket.recv(buffer);
            if (n === EAGAIN) break;
            state.unsent = buffer.subarray(0, Math.max(n, 0));
            if (n > 0) continue;
            socket.close();
            ended++;
            break;
          }
        }
      }
    })();
    await Promise.all(Array.from({ length: CLIENTS }, async (_, i) => {
      const client = scene.connect(listening);
      const data = pattern(50_000, i);
      await select({ write: [client] });
      await Promise.all([
        sendAll(client, data).then(() => client.shutdown()),
        receive(client, data.length).then((got) => assertSame(got, data)),
      ]);
    }));
    await served;
  });
}

/** Records the completions of several operations. */
class Heard {
  readonly lines: string[] = [];
  inside = 0;

  overlapped(name: string): Overlapped {
    return new Overlapped((_ov, count, error) => {
      this.lines.push(`${name} ${error?.code ?? count}${this.inside > 0 ? " inside a call" : ""}`);
    });
  }

  call(fn: () => void): void {
    this.inside++;
    fn();
    this.inside--;
  }
}

function overlappedLaws(law: Law): void {
  law("can accept with the first data and both addresses in one completion", async (scene) => {
    const listening = await scene.listen();
    const buffer = new Uint8Array(16);
    const { ov, bytes: n } = await new Promise<{ ov: Overlapped; bytes: number }>((resolve, reject) => {
      listening.acceptOverlapped(
        new Overlapped((ov, bytes, error) => error === null ? resolve({ ov, bytes }) : reject(error)),
        buffer,
      );
      const client = scene.keep(scene.base.connectOverlapped(
        { port: portOf(listening) },
        new Overlapped((_ov, _bytes, error) => {
          if (error !== null) reject(error);
          else client.sendOverlapped(bytes("hello"), new Overlapped());
        }),
      ));
    });
    assertEquals(text(buffer.subarray(0, n)), "hello");
    const server = scene.keep(ov.socket as Socket);
    assertEquals(server.localAddress, listening.address);
    assertEquals((server.remoteAddress as { hostname: string }).hostname, "127.0.0.1");
  });

  law("complete once each, in their order, and never inside a call", async (scene) => {
    const [client, server] = await scene.pair();
    const heard = new Heard();
    heard.call(() => {
      for (const n of [1, 2, 3]) server.recvOverlapped(new Uint8Array(n), heard.overlapped(`recv ${n}`));
      for (const n of [2, 4]) client.sendOverlapped(pattern(n), heard.overlapped(`send ${n}`));
    });
    await scene.until(() => heard.lines.length === 5, () => heard.lines.join());
    client.shutdown();
    heard.call(() => server.recvOverlapped(new Uint8Array(9), heard.overlapped("end")));
    await scene.until(() => heard.lines.length === 6, () => heard.lines.join());
    await scene.sleep(QUIET_MS);
    assertEquals(heard.lines.filter((line) => line.startsWith("send")), ["send 2 2", "send 4 4"]);
    // TCP may deliver the six bytes in two pieces.
    const got = heard.lines.filter((line) => line.startsWith("recv")).map((line) => line.slice(0, 6));
    assertEquals(got, ["recv 1", "recv 2", "recv 3"]);
    assertEquals(heard.lines.length, 6);
    assert(heard.lines.every((line) => !line.includes("inside")), heard.lines.join());
  });

  law("send any number of bytes to a slow peer", async (scene) => {
    const [client, server] = await scene.pair();
    const heard = new Heard();
    const data = pattern(8 << 20);
    client.sendOverlapped(data, heard.overlapped("send"));
    await scene.sleep(QUIET_MS);
    assertEquals(heard.lines, []);
    assertSame(await receive(server, data.length), data);
    await scene.until(() => heard.lines.length > 0, () => "the completion");
    assertEquals(heard.lines, [`send ${data.length}`]);
  });

  law("do not change the buffer before and after", async (scene) => {
    const [client, server] = await scene.pair();
    const buffer = new Uint8Array(8).fill(0xee);
    const ov = new Overlapped();
    server.recvOverlapped(buffer, ov);
    await scene.sleep(QUIET_MS);
    assert(buffer.every((byte) => byte === 0xee));
    client.send("abc");
    await scene.until(() => !ov.pending, () => "the completion");
    client.send("defgh");
    await select({ read: [server] });
    assertEquals([...buffer], [97, 98, 99, 0xee, 0xee, 0xee, 0xee, 0xee]);
    assertEquals(ov.result(), { bytes: 3 });
  });

  law("give failures as completions", async (scene) => {
    const heard = new Heard();
    const port = await scene.freePort();
    scene.keep(scene.base.connectOverlapped({ port }, heard.overlapped("connect")));
    await scene.until(() => heard.lines.length === 1, () => "the refusal");
    assertEquals(heard.lines, ["connect ECONNREFUSED"]);
    const [client, server] = await scene.pair();
    server.recvOverlapped(new Uint8Array(1), heard.overlapped("recv"));
    client.reset();
    await scene.until(() => heard.lines.length === 2, () => "the reset");
    assertEquals(heard.lines[1], scene.runtime.capabilities.reset ? "recv ECONNRESET" : "recv 0");
  });

  law("are cancelled when their socket is closed, once and not inside the call", async (scene) => {
    const [client, server] = await scene.pair();
    const listening = await scene.listen();
    const heard = new Heard();
    server.recvOverlapped(new Uint8Array(1), heard.overlapped("recv"));
    server.sendOverlapped(new Uint8Array(32 << 20), heard.overlapped("send"));
    listening.acceptOverlapped(heard.overlapped("accept"));
    const connecting = scene.base.connectOverlapped({ port: portOf(listening) }, heard.overlapped("connect"));
    heard.call(() => {
      connecting.close();
      server.close();
      listening.close();
    });
    await scene.until(() => heard.lines.length === 4, () => heard.lines.join());
    await scene.sleep(QUIET_MS);
    assertEquals(heard.lines.sort(), ["accept ECANCELED", "connect ECANCELED", "recv ECANCELED", "send ECANCELED"]);
    client.reset();
  });
}

function portLaws(law: Law): void {
  law("checks, waits for a time, and returns posted completions", async (scene) => {
    const port = scene.keep(new CompletionPort<string>(scene.base));
    assertEquals(await port.wait(0), null);
    const began = scene.runtime.now();
    assertEquals(await port.wait(QUIET_MS), null);
    assertGreaterOrEqual(scene.runtime.now() - began, QUIET_MS);
    const waits = [port.wait(), port.wait()];
    port.post("a", 1);
    port.post("b", 2);
    const told = (await Promise.all(waits)).map((completion) => `${completion?.key} ${completion?.bytes}`);
    assertEquals(told, ["a 1", "b 2"]);
    const cut = assertRejects(() => port.wait(), EventError);
    port.close();
    assertEquals((await cut).code, "ECANCELED");
  });

  law("serves a server of many clients with several waiters", async (scene) => {
    const listening = await scene.listen();
    const CLIENTS = 40;
    type Key = { socket: Socket | null; buffer: Uint8Array };
    const port = scene.keep(new CompletionPort<Key>(scene.base));
    const listener: Key = { socket: null, buffer: new Uint8Array(0) };
    port.associate(listening, listener);
    const accepts = [new Overlapped(), new Overlapped(), new Overlapped()];
    for (const accept of accepts) listening.acceptOverlapped(accept);
    let ended = 0;
    let completions = 0;
    const sends = new Set<Overlapped>();
    const handle = ({ key, bytes, overlapped, error }: Completion<Key>): void => {
      if (overlapped === null) return;
      assertEquals(error, null);
      completions++;
      if (key === listener) {
        const socket = scene.keep(overlapped.socket as Socket);
        listening.acceptOverlapped(overlapped);
        const own: Key = { socket, buffer: new Uint8Array(1024) };
        port.associate(socket, own);
        socket.recvOverlapped(own.buffer, new Overlapped());
      } else if (sends.delete(overlapped)) {
        key.socket?.recvOverlapped(key.buffer, overlapped);
      } else if (bytes === 0) {
        key.socket?.close();
        if (++ended === CLIENTS) { for (let i = 0; i < 3; i++) port.post(listener); }
      } else {
        sends.add(overlapped);
        key.socket?.sendOverlapped(key.buffer.subarray(0, bytes), overlapped);
      }
    };
    const worker = async (): Promise<void> => {
      while (ended < CLIENTS) handle(await port.wait() as Completion<Key>);
    };
    const workers = Promise.all([worker(), worker(), worker()]);
    await Promise.all(Array.from({ length: CLIENTS }, async (_, i) => {
      const client = scene.connect(listening);
      const data = pattern(10_000, i);
      await select({ write: [client] });
      await Promise.all([
        sendAll(client, data).then(() => client.shutdown()),
        receive(client, data.length).then((got) => assertSame(got, data)),
      ]);
    }));
    await workers;
    assertGreaterOrEqual(completions, CLIENTS * 3);
  });
}
