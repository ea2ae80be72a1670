// A server whose program is busy for a while: bytes that its clients sent in time count.

import { describe, it } from "node:test";
import { assertEquals } from "@std/assert";
import { EventBase } from "../../../core/api/event_base.ts";
import { EV_READ } from "../../../core/flags.ts";
import { Socket } from "../../../core/api/socket.ts";
import { serve, type ServeCallbacks, type ServeOptions, type Server } from "../../../core/serve/serve.ts";
import { type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";
import { OneThread } from "../loop/one_thread.ts";
import { pattern, portOf, receiveAll, text } from "../socket/pairs.ts";

interface Busy {
  readonly sim: SimRuntime;
  readonly host: OneThread;
  readonly server: Server;
  /** The reasons why connections have ended. */
  readonly ends: (string | undefined)[];
  client(): Socket;
  /** Ends the server and checks that nothing is left. */
  end(...clients: Socket[]): Promise<void>;
}

async function busy(options: ServeOptions, callbacks: ServeCallbacks): Promise<Busy> {
  const sim = simRuntime();
  const host = new OneThread(sim);
  const ends: (string | undefined)[] = [];
  const server = await serve({ runtime: host, port: 0, ...options }, {
    ...callbacks,
    close: (_, reason) => void ends.push(reason?.code),
  });
  return {
    sim,
    host,
    server,
    ends,
    client: () => Socket.connect(sim, { port: portOf(server) }),
    async end(...clients) {
      for (const client of clients) client.close();
      await sim.run(server.close({ graceMs: 100 }));
      await sim.advance(6000);
      assertEquals(sim.openHandles, 0);
    },
  };
}

describe("a server that was busy until a deadline had passed", () => {
  it("accepts a line that was complete in time, and ends a connection whose line was not (messageTimeoutMs)", async () => {
    const lines: string[] = [];
    const made = await busy({ messageTimeoutMs: 250 }, { line: (_, line) => void lines.push(text(line)) });
    const { sim, host } = made;
    const [whole, half] = [made.client(), made.client()];
    await sim.advance(10);
    for (const client of [whole, half]) client.send("half a line");
    await sim.advance(10);
    sim.setTimer(sim.now() + 100, () => whole.send(" and the rest\n"));
    host.setTimer(host.now() + 10, () => host.defer(() => host.block(500)));
    await sim.advance(1000);
    assertEquals([lines, made.ends], [["half a line and the rest"], ["ETIMEDOUT"]]);
    await made.end(whole, half);
  });

  it("keeps connections that were not silent, and ends silent ones (readTimeoutMs, idleTimeoutMs)", async () => {
    const made = await busy({ readTimeoutMs: 300, idleTimeoutMs: 250 }, {
      read: (bev) => void bev.writeBuffer(bev.input),
    });
    const { sim, host } = made;
    const [loud, silent] = [made.client(), made.client()];
    await sim.advance(10);
    const send = (): void => {
      loud.send("x");
      if (sim.now() < 900) sim.setTimer(sim.now() + 100, send);
    };
    send();
    host.setTimer(host.now() + 50, () => host.defer(() => host.block(500)));
    await sim.advance(900);
    assertEquals([made.ends, made.server.connections], [["ETIMEDOUT"], 1]);
    await made.end(loud, silent);
  });

  it("counts handlerTimeoutMs from the promise on, and not from the beginning of the turn", async () => {
    const log: string[] = [];
    const made = await busy({ handlerTimeoutMs: 150 }, {
      read(bev) {
        bev.base.now();
        bev.input.drain(bev.input.length);
        made.host.block(500);
        return new Promise(() => log.push(`busy at ${made.host.now()}`));
      },
      event: (bev) => {
        log.push(`the end is reported at ${made.sim.now()}`);
        bev.free();
      },
    });
    const client = made.client();
    await made.sim.advance(9);
    client.send("x");
    client.shutdown();
    await made.sim.advance(1000);
    assertEquals(log, ["busy at 510", "the end is reported at 660"]);
    await made.end(client);
  });
});

describe("a closed connection that waits for its peer", () => {
  it("goes on if the peer took bytes while the program was busy", async () => {
    const sim = simRuntime();
    const host = new OneThread(sim);
    const base = new EventBase({ runtime: host });
    const listening = await base.listen({ hostname: "127.0.0.1", port: 0 });
    const peer = Socket.connect(sim, { port: portOf(listening) });
    base.once(listening, EV_READ, () => {
      const socket = listening.accept() as Socket;
      const data = pattern(1 << 20);
      for (let sent = 0, n = 1; n > 0; sent += n) n = socket.send(data.subarray(sent, sent + 65_536));
      socket.close();
    });
    await sim.run(base.dispatch());
    await listening.close();
    let received = 0;
    let ended = false;
    const read = (): void => {
      const { bytes, ended: over } = receiveAll(peer);
      received += bytes.length;
      ended = over;
      if (!over && peer.error === null) sim.setTimer(sim.now() + 1000, read);
    };
    sim.setTimer(sim.now() + 30_000, read);
    // Longer than the time that a peer without progress gets.
    host.block(70_000);
    await sim.advance(100_000);
    assertEquals([ended, peer.error], [true, null]);
    assertEquals(received > 65_536, true);
    peer.close();
    await sim.advance(6000);
    assertEquals(sim.openHandles, 0);
  });
});
