// Descriptors of listeners that are handed over, and the files of unix sockets that nobody listens on.

import { describe, it } from "node:test";
import { assertEquals, assertRejects } from "@std/assert";
import { connect, EventError, serve, type ServeOptions, type Server } from "../../../core/mod.ts";
import { simRuntime } from "../../../runtimes/sim.ts";

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => promise, EventError) as EventError).code;
}

describe("a descriptor of a simulated host", () => {
  const places: [string, ServeOptions, { hostname: string; port: number } | { path: string }][] = [
    ["a port", { hostname: "127.0.0.1", port: 80 }, { hostname: "127.0.0.1", port: 80 }],
    ["a path", { path: "/run/s", unlinkOnClose: false }, { path: "/run/s" }],
  ];
  for (const [name, where, to] of places) {
    it(`is handed over ten times under load, and no client is lost: ${name}`, async () => {
      const sim = simRuntime({ seed: 1 });
      const version = (number: number, options: ServeOptions): Promise<Server> =>
        serve({ runtime: sim, ...options }, { line: (bev) => void bev.write(`${number}\n`) });
      let server = await sim.run(version(0, where));
      const answers: string[] = [];
      const client = async (): Promise<void> => {
        const bev = await connect({ runtime: sim, ...to });
        bev.write("which?\n");
        const { value } = await bev.lines({ text: true }).next();
        answers.push(String(value));
        await bev.close();
      };
      const clients: Promise<void>[] = [];
      for (let i = 1; i <= 10; i++) {
        for (let j = 0; j < 20; j++) {
          clients.push(client());
          await sim.advance(0.3);
        }
        const next = await sim.run(version(i, { fd: server.fd }));
        assertEquals([next.fd, next.address], [server.fd, server.address]);
        for (let j = 0; j < 5; j++) clients.push(client());
        await sim.advance(0.1);
        // Some clients are still on their way.
        const old = server.close();
        for (let j = 0; j < 5; j++) clients.push(client());
        await sim.run(old);
        server = next;
      }
      await sim.run(Promise.all(clients));
      assertEquals([answers.length, answers.includes("undefined"), new Set(answers).size], [300, false, 11]);
      const { fd } = server;
      await sim.run(server.close());
      assertEquals([server.fd, sim.openHandles], [undefined, 0]);
      assertEquals(await codeOf(sim.run(serve({ runtime: sim, fd: fd as number }, {}))), "EBADF");
    });
  }

  it("keeps waiting clients for the next listener on it", async () => {
    const sim = simRuntime({ seed: 2 });
    const greet = (name: string, options: ServeOptions): Promise<Server> =>
      sim.run(serve({ runtime: sim, ...options }, { open: (bev) => bev.write(`${name}\n`) }));
    const old = await greet("old", { port: 80, maxConnections: 1, backlog: 1 });
    const to = { runtime: sim, port: 80 };
    const greetings: string[] = [];
    for (let i = 0; i < 6; i++) {
      connect({ ...to }, { line: (_bev, line) => void greetings.push(new TextDecoder().decode(line)) }).catch(() => {});
      await sim.advance(10);
    }
    assertEquals(greetings, ["old"]);
    const next = await greet("new", { fd: old.fd });
    const closing = old.close({ graceMs: 0 });
    await sim.advance(100);
    assertEquals(greetings, ["old", ...Array(5).fill("new")]);
    await sim.run(Promise.all([closing, next.close({ graceMs: 0 })]));
  });

  it("is refused with a message if it is not open, or given together with address options", async () => {
    const sim = simRuntime();
    const error = await assertRejects(() => sim.run(serve({ runtime: sim, fd: 9 }, {})), EventError) as EventError;
    assertEquals(error.message, "Cannot listen on file descriptor 9: the descriptor is not open (EBADF)");
    for (
      const options of [{ fd: 3, port: 80 }, { fd: 3, path: "/run/s" }, { fd: 3, reusePort: true }, {
        fd: 3,
        family: "IPv6" as const,
      }]
    ) {
      await assertRejects(() => sim.run(serve({ runtime: sim, ...options }, {})), TypeError);
    }
    for (const options of [{ port: 80, unlinkOnClose: false }, { fd: 3, replaceStale: true }]) {
      await assertRejects(() => sim.run(serve({ runtime: sim, ...options }, {})), TypeError, "are for a path");
    }
    sim.capabilities.listenFd = false;
    assertEquals(await codeOf(sim.run(serve({ runtime: sim, fd: 3 }, {}))), "EV_UNSUPPORTED");
  });
});

describe("the file of a simulated unix socket", () => {
  const path = "/run/s";

  it("stays with unlinkOnClose: false and after a crash, and replaceStale replaces it", async () => {
    const sim = simRuntime();
    const host = sim.host("server");
    const leave: [string, () => Promise<void>][] = [
      ["closed", async () => {
        await sim.run((await sim.run(serve({ runtime: host, path, unlinkOnClose: false }, {}))).close());
      }],
      ["crashed", async () => {
        await sim.run(serve({ runtime: host, path }, {}));
        host.crash();
        host.restart();
      }],
    ];
    for (const [how, leaveIt] of leave) {
      await leaveIt();
      assertEquals(await codeOf(sim.run(connect({ runtime: host, path }))), "ECONNREFUSED", how);
      assertEquals(await codeOf(sim.run(serve({ runtime: host, path }, {}))), "EADDRINUSE", how);
      const server = await sim.run(serve({ runtime: host, path, replaceStale: true }, {}));
      await sim.run(connect({ runtime: host, path }));
      await sim.run(server.close());
      assertEquals(await codeOf(sim.run(connect({ runtime: host, path }))), "ENOENT", how);
    }
  });

  it("is not replaced if a listener uses it or it is a regular file; a close removes only its own", async () => {
    const sim = simRuntime();
    sim.files.set("/run/notes", new Uint8Array(1));
    const first = await sim.run(serve({ runtime: sim, path }, {}));
    for (const each of [path, "/run/notes"]) {
      assertEquals(await codeOf(sim.run(serve({ runtime: sim, path: each, replaceStale: true }, {}))), "EADDRINUSE");
    }
    sim.unlink(path);
    const second = await sim.run(serve({ runtime: sim, path }, {}));
    await sim.run(first.close());
    await (await sim.run(connect({ runtime: sim, path }))).reset();
    await sim.run(second.close());
    assertEquals(await codeOf(sim.run(connect({ runtime: sim, path }))), "ENOENT");
  });
});
