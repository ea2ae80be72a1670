/** Law 9: the places where clients wait to be accepted, according to Linux itself. */

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import process from "node:process";
import { afterEach, describe, it } from "./suite.ts";
import { assert, assertEquals } from "./assert.ts";
import { ConnListener, LEV_OPT_CLOSE_ON_FREE, LEV_OPT_DISABLED, Socket } from "../../core/mod.ts";
import { on } from "./on.ts";
import { programArguments } from "./programs.ts";
import type { FullSubject } from "./subject.ts";

/** Tests one runtime. */
export function waitingLaws(name: string, makeSubject: () => FullSubject): void {
  const { runtime: host, ownNetwork, tls } = makeSubject();
  const certificates = tls && { cert: tls.cert, key: tls.key, ca: tls.ca };
  const { serve, connect, newBase } = on(host);
  const { capabilities: can } = host;
  const skip = ownNetwork
    ? "the network is not the system's"
    : process.platform !== "linux" && "only Linux has /proc/net/tcp";
  const LOCAL = { hostname: "127.0.0.1", port: 0 };
  /** The state of a listening socket in Linux's `/proc/net/tcp`. */
  const LISTENING = "0A";
  /**
   * The sockets that a test has opened, so that a failed test leaves nothing that holds the
   * process.
   */
  const opened: { close(): unknown }[] = [];

  function keep<T extends { close(): unknown }>(each: T): T {
    opened.push(each);
    return each;
  }

  /** How many connections wait in the kernel to be accepted: its receive queue, by /proc/net/tcp. */
  function waitingInKernel(port: number): number | undefined {
    for (const line of readFileSync("/proc/net/tcp", "utf8").trim().split("\n").slice(1)) {
      const [, local = "", , state, queues = ""] = line.trim().split(/\s+/);
      const isOurs = parseInt(local.split(":")[1] as string, 16) === port && state === LISTENING;
      if (isOurs) return parseInt(queues.split(":")[1] as string, 16);
    }
    return undefined;
  }

  async function until(what: () => string, holds: () => boolean): Promise<void> {
    for (let i = 0; i < 4000 && !holds(); i++) await new Promise((resolve) => setTimeout(resolve, 10));
    assert(holds(), what());
  }

  async function connected(port: number, count: number): Promise<Socket[]> {
    const clients = Array.from({ length: count }, () => keep(Socket.connect(host, { port })));
    await until(() => "not connected", () => clients.every((client) => client.connected || client.error !== null));
    return clients;
  }

  async function nothingOpen(): Promise<void> {
    await until(() => `${host.openHandles} handles are open`, () => host.openHandles === 0);
  }

  function portOf({ address }: { readonly address: unknown }): number {
    return (address as { port: number }).port;
  }

  /**
   * Lets another process connect a number of times, and reset at once, while this one accepts
   * nothing.
   */
  function scan(port: number, clients: number): void {
    const program = `const { connect } = require("node:net");
let gone = 0;
for (let i = 0; i < ${clients}; i++) {
  const socket = connect({ port: ${port}, host: "127.0.0.1" });
  socket.on("connect", () => socket.resetAndDestroy()).on("error", () => {});
  socket.on("close", () => {
    if (++gone === ${clients}) process.exit(0);
  });
}
`;
    const { status, stderr } = spawnSync(process.execPath, [...programArguments(program)], { encoding: "utf8" });
    assertEquals([status, stderr], [0, ""]);
  }

  describe(`the kernel under ${name}`, { skip }, () => {
    afterEach(async () => {
      for (const each of opened.splice(0)) await each.close();
    });

    it("holds the connections of a disabled listener if they can be left there, and no others", async () => {
      const flags = LEV_OPT_CLOSE_ON_FREE | LEV_OPT_DISABLED;
      const listener = keep(await ConnListener.bind(newBase(), () => {}, flags, 16, LOCAL));
      const clients = await connected(portOf(listener), 10);
      await until(
        () => `${waitingInKernel(portOf(listener))} wait in the kernel, ${host.openHandles} handles are open`,
        () => {
          const waiting = waitingInKernel(portOf(listener));
          const held = host.openHandles - 1 - clients.length;
          // One accept may have been in progress.
          return can.pauseAccept ? waiting === 10 - held && held <= 1 : waiting === 0 && held === 10;
        },
      );
      await listener.close();
      for (const client of clients) client.close();
      await nothingOpen();
    });

    it("holds all clients that a server has no space for, if they can be left there", async () => {
      const server = keep(await serve({ ...LOCAL, maxConnections: 60, drainTimeoutMs: 0 }, {}));
      const port = server.port as number;
      const clients = await connected(port, 80);
      await until(() => `${server.connections} connections`, () => server.connections === 60);
      await until(
        () => `${waitingInKernel(port)} wait in the kernel, ${host.openHandles} handles are open`,
        () => waitingInKernel(port) === (can.pauseAccept ? 20 : 0),
      );
      assertEquals(host.openHandles - 1 - 80, can.pauseAccept ? 60 : 80);
      for (const client of clients) client.close();
      await server.close();
      await nothingOpen();
    });

    for (const tls of [undefined, certificates]) {
      const what = tls === undefined ? "a server" : "a server with TLS";
      const without = tls !== undefined && !can.tls ? `TLS: ${host.lacks?.tls ?? "the runtime has none"}` : false;
      it(`gives ${what} no client that has reset before it was accepted, and no error`, { skip: without }, async () => {
        const told: unknown[] = [];
        const server = keep(
          await serve(
            { ...LOCAL, maxConnectionsPerAddress: 2, drainTimeoutMs: 0, ...(tls === undefined ? {} : { tls }) },
            {
              accept: (address) => {
                told.push(address);
                return true;
              },
              open: (bev) => void bev.write("hello"),
              error: (error) => void told.push(error),
            },
          ),
        );
        scan(server.port as number, 200);
        await until(
          () => `${waitingInKernel(server.port as number)} wait`,
          () => waitingInKernel(server.port as number) === 0,
        );
        await until(() => `${server.connections} connections`, () => server.connections === 0);
        assertEquals([told, server.rejected, host.openHandles], [[], 0, 1]);
        // The address may have as many connections as before.
        for (let i = 0; i < 2; i++) {
          const client = keep(
            await connect({
              port: server.port,
              ...(tls === undefined ? {} : { tls: { ca: tls.ca, serverName: "localhost" } }),
            }),
          );
          let greeting = "";
          for await (const chunk of client) if ((greeting += new TextDecoder().decode(chunk)) === "hello") break;
        }
        assertEquals([told.length, server.connections], [2, 2]);
        for (const each of opened.splice(0).reverse()) await each.close();
        await nothingOpen();
      });
    }
  });
}
