/** Laws 6 and 7 of `serve()` (docs/rules.md): every client is opened or refused. */

import { assert, assertEquals, assertMatch } from "./assert.ts";
import {
  type Address,
  connect,
  ConnListener,
  EAGAIN,
  EventBase,
  type EventError,
  LEV_OPT_CLOSE_ON_FREE,
  type RejectReason,
  type ServeCallbacks,
  type Socket,
} from "../../core/mod.ts";
import { bytes, portOf, receive, sendAll, text } from "./poll_scene.ts";
import { isCut, receiveText, type ServeScene, trust } from "./serve_scene.ts";

type Law = (what: string, body: (here: ServeScene) => Promise<void>) => void;

const echo: ServeCallbacks = { line: (bev, line) => (bev.write(line), void bev.write("\n")) };

/** Blocks the program, on runtimes where time passes meanwhile. */
function block({ scene: { runtime, subject } }: ServeScene, ms: number): void {
  if (subject.virtual) return;
  for (const end = runtime.now() + ms; runtime.now() < end;);
}

/** A client that sends, half-closes and reads to the end. */
async function ask({ scene: { runtime } }: ServeScene, port: number): Promise<string> {
  try {
    const client = await connect({ runtime, port }, {});
    client.write("abc\ndef");
    client.shutdown();
    let answer = "";
    for await (const chunk of client) answer += text(chunk);
    await client.close();
    return answer;
  } catch (error) {
    return (error as EventError).code;
  }
}

function counted(answers: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const answer of answers) counts[answer] = (counts[answer] ?? 0) + 1;
  return counts;
}

/** Whether a client was refused: by a reset, or where the runtime has none, by the end. */
async function isRefused(here: ServeScene, socket: Socket): Promise<boolean> {
  return isCut(await receiveText(socket), here.scene.runtime.capabilities.reset);
}

/** Clients whose connections are established on their side. */
async function connected(here: ServeScene, clients: readonly Socket[]): Promise<void> {
  const settled = (): number => clients.filter((each) => each.connected || each.error !== null).length;
  await here.until(() => settled() === clients.length, () => `${settled()} of ${clients.length} connected`);
}

export function acceptLaws(law: Law): void {
  law("rounds of 500 clients, each of which sends and half-closes, from one process without a pause", async (here) => {
    const { server } = await here.serve({}, echo);
    const [rounds, clients] = here.scene.subject.virtual ? [2, 150] : [12, 500];
    for (let round = 0; round < rounds; round++) {
      const answers = await Promise.all(Array.from({ length: clients }, () => ask(here, server.port as number)));
      assertEquals(counted(answers), { "abc\ndef\n": clients }, `round ${round}`);
    }
    assertEquals(server.rejected, 0);
  });

  law("a burst of 400 while the program is busy, with one priority and with two", async (here) => {
    const clients = here.scene.subject.virtual ? 200 : 400;
    for (const priorities of [1, 2]) {
      const base = new EventBase({ runtime: here.scene.runtime, priorities });
      const { server } = await here.serve({ base }, echo);
      const dispatching = base.dispatch();
      await here.sleep(5);
      const answers = Array.from({ length: clients }, () => ask(here, server.port as number));
      block(here, 300);
      assertEquals(counted(await Promise.all(answers)), { "abc\ndef\n": clients }, `${priorities} priorities`);
      assertEquals(server.rejected, 0);
      await server.close();
      base.loopBreak();
      await dispatching;
      base.free();
    }
  });

  law("delivers bytes and the half-close that a client has sent before there was space for it", async (here) => {
    const { server, opened } = await here.serve({ maxConnections: 1 }, echo);
    const first = here.scene.keep(here.scene.base.connect({ port: server.port as number }));
    await here.until(() => opened.length === 1, () => "not opened");
    const answers = Array.from({ length: 5 }, () => ask(here, server.port as number));
    await here.sleep(50);
    assertEquals([opened.length, server.connections], [1, 1]);
    first.close();
    assertEquals(counted(await Promise.all(answers)), { "abc\ndef\n": 5 });
  });

  law("works with TLS, too: a client may complete its handshake while it waits", async (here) => {
    if (here.tls === undefined) return;
    const { cert, key } = here.tls;
    const { server, opened } = await here.serve({ maxConnections: 1, tls: { cert, key } }, echo);
    const to = { runtime: here.scene.runtime, port: server.port as number, tls: trust(here.tls) };
    const first = await connect(to, {});
    const answers = Array.from({ length: 3 }, async () => {
      const client = await connect(to, {});
      client.write("abc\ndef");
      client.shutdown();
      let answer = "";
      for await (const chunk of client) answer += text(chunk);
      await client.close();
      return answer;
    });
    await here.sleep(100);
    assertEquals([opened.length, server.connections], [1, 1]);
    await first.close();
    assertEquals(counted(await Promise.all(answers)), { "abc\ndef\n": 3 });
  });

  law(
    "makes further clients wait at maxConnections, in the system if the runtime can, and serves them later",
    async (here) => {
      const { server, opened, client } = await here.serve({ maxConnections: 60 }, echo);
      const { runtime } = here.scene;
      const clients = Array.from({ length: 80 }, client);
      await connected(here, clients);
      await here.until(() => opened.length === 60, () => `${opened.length} opened`);
      // The listener, the clients' ends, and the server's.
      const held = (): number => runtime.openHandles - 1 - 80;
      const most = runtime.capabilities.pauseAccept ? 60 : 80;
      await here.until(() => held() >= most, () => `${held()} held`);
      await here.sleep(50);
      assertEquals([opened.length, server.rejected, held()], [60, 0, most]);
      for (const socket of clients) {
        await sendAll(socket, bytes("hello\n"));
        socket.shutdown();
      }
      // Each client that leaves lets one in.
      const answers = await Promise.all(clients.map(async (socket) => {
        const answer = await receiveText(socket);
        socket.close();
        return answer;
      }));
      assertEquals(counted(answers), { "hello\n": 80 });
      assertEquals([opened.length, server.rejected], [80, 0]);
    },
  );

  law("leaves clients beyond the backlog to the system, or refuses, counts and reports them once", async (here) => {
    const reasons: RejectReason[] = [];
    const { server, opened, errors } = await here.serve({ maxConnections: 2, backlog: 4 }, {
      reject: (_address, reason) => {
        reasons.push(reason);
        return "421 full\n";
      },
      error: () => {},
    });
    const { runtime, base } = here.scene;
    if (runtime.capabilities.pauseAccept) return;
    const clients: Socket[] = [];
    for (let i = 0; i < 12; i++) {
      const socket = here.scene.keep(base.connect({ port: server.port as number }));
      clients.push(socket);
      await here.until(() => socket.connected || socket.error !== null, () => "not connected");
      await here.sleep(10);
    }
    await here.until(() => server.rejected === 6, () => `${server.rejected} rejected`);
    assertEquals(opened.length, 2);
    const words = await Promise.all(clients.slice(6).map((socket) => receiveText(socket)));
    assertEquals(words, Array(6).fill("421 full\n"));
    assertEquals(reasons, Array(6).fill("maxConnections"));
    assertEquals(errors.map(([error, bev]) => [(error as EventError).code, bev]), [["EV_BACKLOG_FULL", null]]);
    assertMatch((errors[0]?.[0] as EventError).message, /^Cannot let more connections wait on 127\.0\.0\.1:\d+: /);
  });

  law("whenFull reject refuses them", async (here) => {
    const { server, opened, client } = await here.serve({ maxConnections: 3, whenFull: "reject" }, echo);
    const clients: Socket[] = [];
    for (let i = 0; i < 8; i++) {
      const socket = client();
      clients.push(socket);
      await here.until(() => opened.length + server.rejected === i + 1, () => `${opened.length} opened`);
    }
    assertEquals([opened.length, server.connections, server.rejected], [3, 3, 5]);
    for (const socket of clients.slice(3)) assert(await isRefused(here, socket));
    clients[0]?.reset();
    await here.until(() => server.connections === 2, () => `${server.connections} connections`);
    const next = client();
    await sendAll(next, bytes("hello\n"));
    assertEquals(text(await receive(next, 6)), "hello\n");
  });

  law("accept refuses a client before there is an object for it", async (here) => {
    const asked: Address[] = [];
    const { server, opened, client, errors } = await here.serve({}, {
      ...echo,
      accept: (address) => {
        asked.push(address);
        if (asked.length === 2) throw new Error("in accept");
        return asked.length > 2;
      },
      error: () => {},
    });
    const clients = [client(), client()];
    for (const socket of clients) assert(await isRefused(here, socket));
    const third = client();
    await sendAll(third, bytes("hello\n"));
    assertEquals(text(await receive(third, 6)), "hello\n");
    assertEquals([opened.length, server.rejected, asked.length], [1, 2, 3]);
    assertEquals(asked.map((address) => "hostname" in address && address.hostname), Array(3).fill("127.0.0.1"));
    assertEquals(errors.map(([error, bev]) => [(error as Error).message, bev]), [["in accept", null]]);
    assertEquals(here.reported, []);
  });

  law("reject gives a last message, which arrives although the client has sent unread bytes", async (here) => {
    const reasons: RejectReason[] = [];
    const { server, client } = await here.serve({ maxConnectionsPerAddress: 1 }, {
      reject: (_address, reason) => {
        reasons.push(reason);
        return "421 too many connections\r\n";
      },
    });
    const first = client();
    await here.until(() => server.connections === 1, () => "not opened");
    const others = Array.from({ length: 20 }, async () => {
      const socket = client();
      await sendAll(socket, bytes("x".repeat(50_000)));
      return receiveText(socket);
    });
    assertEquals(counted(await Promise.all(others)), { "421 too many connections\r\n": 20 });
    assertEquals([server.connections, server.rejected], [1, 20]);
    assertEquals(reasons, Array(20).fill("maxConnectionsPerAddress"));
    first.close();
  });

  law("with tls there is no last message", async (here) => {
    if (here.tls === undefined) return;
    const { cert, key } = here.tls;
    const { server, client } = await here.serve({ tls: { cert, key } }, { accept: () => false, reject: () => "no" });
    assert(await isRefused(here, client()));
    assertEquals(server.rejected, 1);
  });

  law("a port scan of a TLS server opens no connection, throws nothing and leaves nothing", async (here) => {
    if (here.tls === undefined) return;
    const { cert, key } = here.tls;
    const callbacks = { ...echo, error: () => {} };
    const options = { tls: { cert, key }, maxConnectionsPerAddress: 1000 };
    const { server, opened, errors, client } = await here.serve(options, callbacks);
    for (let i = 0; i < 200; i++) {
      const socket = client();
      if (i % 2 === 0) await here.until(() => socket.connected || socket.error !== null, () => "not connected");
      socket.reset();
    }
    await here.until(() => server.connections === 0, () => `${server.connections} connections`);
    assertEquals([opened.length, errors, here.reported, server.rejected], [0, [], [], 0]);
    const secure = await connect({
      runtime: here.scene.runtime,
      port: server.port as number,
      tls: trust(here.tls),
    }, {});
    secure.write("hello\n");
    let answer = "";
    for await (const chunk of secure) if ((answer += text(chunk)).length === 6) break;
    assertEquals(answer, "hello\n");
    await secure.close();
  });

  law("the stop of a server ends waiting clients", async (here) => {
    const { server, opened, client } = await here.serve({ maxConnections: 1 }, echo);
    const clients = Array.from({ length: 10 }, client);
    await connected(here, clients);
    await here.until(() => opened.length === 1, () => "not opened");
    await server.close({ graceMs: 0 });
    const ends = await Promise.all(clients.map((socket) => receiveText(socket)));
    for (const end of ends) assert(["", "ECONNRESET"].includes(end), end);
    assertEquals(opened.length, 1);
  });

  law("a disabled listener leaves connections to the system, or queues them up to the backlog", async (here) => {
    const { runtime, base } = here.scene;
    const accepted: Socket[] = [];
    const told: string[] = [];
    const flags = LEV_OPT_CLOSE_ON_FREE;
    const listener = here.scene.keep(
      await ConnListener.bind(base, (_listener, socket) => void accepted.push(here.scene.keep(socket)), flags, 4, {
        hostname: "127.0.0.1",
        port: 0,
      }),
    );
    listener.setErrorCallback((_listener, error) => told.push(error.code));
    listener.disable();
    const { pauseAccept } = runtime.capabilities;
    const count = pauseAccept ? 4 : 10;
    const clients = Array.from({ length: count }, () => here.scene.keep(base.connect({ port: portOf(listener) })));
    await connected(here, clients);
    /** Runs the loop for a while, and for longer until something holds. */
    const dispatching = async (holds: () => boolean): Promise<void> => {
      const deadline = runtime.now() + 20_000;
      do {
        base.loopExit(100);
        await base.dispatch();
      } while (!holds() && runtime.now() < deadline);
    };
    await dispatching(() => pauseAccept || listener.socket.rejected === 6 && told.length > 0);
    const held = runtime.openHandles - 1 - clients.filter((socket) => socket.error === null).length;
    // If it can pause, one accept may have been in progress.
    assert(pauseAccept ? held <= 1 : held >= 4, `${held} are held`);
    assertEquals([listener.socket.rejected, told], pauseAccept ? [0, []] : [6, ["EV_BACKLOG_FULL"]]);
    listener.enable();
    await dispatching(() => accepted.length >= 4);
    assertEquals(accepted.length, 4);
    assertEquals(listener.socket.accept(), EAGAIN);
  });
}
