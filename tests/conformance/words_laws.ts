/** Law 13: the messages of errors are the same on every runtime, with the code at the end. */

import { it } from "./suite.ts";
import { assertEquals, assertMatch, assertRejects, assertThrows } from "./assert.ts";
import { type Capabilities, EventError } from "../../core/mod.ts";
import { scene } from "./scene.ts";
import type { FullSubject } from "./subject.ts";

async function wordsOf(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then((value) => value, (reason) => reason);
  return error instanceof EventError ? error.message : `no EventError: ${error}`;
}

export function wordsLaws(makeSubject: () => FullSubject, can: Readonly<Capabilities>): void {
  it("of listening", () =>
    scene(makeSubject(), async (scene) => {
      const { port } = await scene.listen({ hostname: "127.0.0.1", port: 0 });
      const words = (options: Parameters<typeof scene.listen>[0]): Promise<string> => wordsOf(scene.listen(options));
      assertEquals(
        await words({ hostname: "127.0.0.1", port }),
        `Cannot listen on 127.0.0.1:${port}: the address is in use (EADDRINUSE)`,
      );
      assertEquals(
        await words({ hostname: "203.0.113.77", port: 80 }),
        "Cannot listen on 203.0.113.77:80: the address is not one of this machine (EADDRNOTAVAIL)",
      );
    }));

  it(
    "of listening on a path",
    { skip: !can.unix && "capabilities.unix is false" },
    () =>
      scene(makeSubject(), async (scene) => {
        const path = scene.subject.unixPath();
        const words = (path: string): Promise<string> => wordsOf(scene.listen({ path }));
        assertEquals(
          await words(`${path}/missing/socket`),
          `Cannot listen on ${path}/missing/socket: no such file or directory (ENOENT)`,
        );
        const long = path + "x".repeat(305);
        assertMatch(await words(long), /^Cannot listen on \S+x…?: the path is longer than \d+ bytes \(EINVAL\)$/);
        await scene.listen({ path });
        assertEquals(await words(path), `Cannot listen on ${path}: the address is in use (EADDRINUSE)`);
        assertEquals(
          await words(`${path}/socket`),
          `Cannot listen on ${path}/socket: a part of the path is not a directory (ENOTDIR)`,
        );
      }),
  );

  it("of connecting", () =>
    scene(makeSubject(), async (scene) => {
      const listener = await scene.listen({ hostname: "127.0.0.1", port: 0 });
      await listener.close();
      const words = async (to: Parameters<typeof scene.connect>[0]): Promise<string> =>
        (await scene.connect(to).closed)?.message ?? "no error";
      assertEquals(
        await words(listener.address),
        `Cannot connect to 127.0.0.1:${listener.port}: connection refused (ECONNREFUSED)`,
      );
      if (!can.unix) return;
      const path = scene.subject.unixPath();
      assertEquals(await words({ path }), `Cannot connect to ${path}: no such file or directory (ENOENT)`);
      assertEquals(
        await words({ path: `${path}/missing/socket` }),
        `Cannot connect to ${path}/missing/socket: no such file or directory (ENOENT)`,
      );
      assertMatch(
        await words({ path: path + "x".repeat(305) }),
        /^Cannot connect to \S+x…?: the path is longer than \d+ bytes \(EINVAL\)$/,
      );
    }));

  it(
    "of a connection that is reset",
    { skip: !can.reset && "capabilities.reset is false" },
    () =>
      scene(makeSubject(), async (scene) => {
        const { client, server } = await scene.pair();
        client.reset();
        const { port } = server.binding!.remote as { port: number };
        assertEquals(
          (await server.closed)?.message,
          `Cannot keep the connection with 127.0.0.1:${port}: connection reset by the peer (ECONNRESET)`,
        );
      }),
  );

  it("of a name that nobody has", () =>
    scene(makeSubject(), async (scene) => {
      assertMatch(
        await wordsOf(scene.runtime.resolve("no-such-host.invalid")),
        /^Cannot look up no-such-host.invalid: (there is no such host name \(ENOTFOUND\)|the name server did not answer \(EAI_AGAIN\))$/,
      );
      const aborted = AbortSignal.abort(new Error("no longer needed"));
      assertEquals(
        await wordsOf(scene.runtime.resolve("example.invalid", aborted)),
        "Cannot look up example.invalid: the operation was cancelled (ECANCELED)",
      );
    }));

  it(
    "of a datagram socket",
    { skip: !can.udp && "capabilities.udp is false" },
    () =>
      scene(makeSubject(), async (scene) => {
        const deaf = { onMessage() {}, onWritable() {}, onError() {} };
        const bind = (hostname: string, port: number) => scene.runtime.datagram!({ hostname, port }, deaf);
        const socket = await bind("127.0.0.1", 0);
        const { port } = socket.address;
        assertEquals(
          await wordsOf(bind("127.0.0.1", port)),
          `Cannot bind 127.0.0.1:${port}: the address is in use (EADDRINUSE)`,
        );
        assertEquals(
          await wordsOf(bind("203.0.113.77", 80)),
          "Cannot bind 203.0.113.77:80: the address is not one of this machine (EADDRNOTAVAIL)",
        );
        socket.close();
      }),
  );

  it(
    "of a datagram that is too long",
    { skip: !can.udp && "capabilities.udp is false" },
    () =>
      scene(makeSubject(), async (scene) => {
        let told: (error: EventError) => void = () => {};
        const error = new Promise<EventError>((resolve) => told = resolve);
        const sink = { onMessage() {}, onWritable() {}, onError: told };
        const socket = await scene.runtime.datagram!({ hostname: "127.0.0.1", port: 0 }, sink);
        socket.send(new Uint8Array(70_000), { hostname: "127.0.0.1", port: 9, family: "IPv4" });
        assertEquals(
          (await error).message,
          "Cannot send a datagram to 127.0.0.1:9: the datagram is too long (EMSGSIZE)",
        );
        socket.close();
      }),
  );

  it(
    "of a missing file",
    { skip: !can.files && "capabilities.files is false" },
    () =>
      scene(makeSubject(), async (scene) => {
        const path = `${scene.subject.file.path}.missing`;
        const error = await assertRejects(() => scene.runtime.readFile!(path, 0, undefined), EventError);
        assertEquals(error.message, `Cannot read ${path}: no such file or directory (ENOENT)`);
      }),
  );

  it("of a signal that cannot be caught", () =>
    scene(makeSubject(), async (scene) => {
      const error = assertThrows(() => scene.runtime.onSignal("SIGKILL", () => {}), EventError);
      assertEquals(error.message, "Cannot catch signal SIGKILL: it cannot be caught");
      await scene.settle();
    }));
}
