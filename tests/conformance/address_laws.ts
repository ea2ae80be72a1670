/** Law 10: a wrong address is the same error on every runtime, before the runtime is asked. */

import { it } from "./suite.ts";
import { assertEquals, assertMatch, assertRejects, assertThrows } from "./assert.ts";
import { type Capabilities, ConnListener, EventBase, EventError } from "../../core/mod.ts";
import { scene } from "./scene.ts";
import type { FullSubject } from "./subject.ts";

const NAME = "127.0.0.1\0.example";

export function addressLaws(makeSubject: () => FullSubject, can: Readonly<Capabilities>): void {
  it("refuses a NUL inside a name with EINVAL, because a system would only read the part before it", () =>
    scene(makeSubject(), async ({ runtime, subject }) => {
      const base = new EventBase({ runtime });
      const path = `${subject.unixPath()}\0.more`;
      const tls = subject.tls;
      const calls: [string, () => unknown][] = [
        ["connect", () => base.connect({ hostname: NAME, port: 9 })],
        ["connect with a path", () => base.connect({ path })],
        ["connect with an abstract path", () => base.connect({ path: `\0${path}` })],
        ["connect from", () => base.connect({ hostname: "127.0.0.1", port: 9, localAddress: NAME })],
        ["connect with TLS", () => base.connect({ hostname: "127.0.0.1", port: 9, tls: { serverName: NAME } })],
        ["listen", () => base.listen({ hostname: NAME, port: 0 })],
        ["listen with a path", () => base.listen({ path })],
        ["listen with an abstract path", () => base.listen({ path: `\0${path}` })],
        ["listen with TLS", () => base.listen({ hostname: NAME, port: 0, tls: { cert: tls!.cert, key: tls!.key } })],
        ["bind", () => ConnListener.bind(base, null, 0, -1, { hostname: NAME, port: 0 })],
        ["resolve", () => runtime.resolve(NAME)],
        ["datagram", () => base.datagram({ hostname: NAME, port: 0 })],
      ];
      for (const [what, call] of calls) {
        if (what.includes("TLS") && (tls === undefined || !can.tls)) continue;
        // deno-lint-ignore require-await -- an exception becomes the rejection
        const error = await assertRejects(async () => call(), EventError, undefined, what) as EventError;
        assertEquals(error.code, "EINVAL", `${what}: ${error.message}`);
        assertMatch(error.message, /^Cannot [a-z ]+: .* has a NUL character in it: received ".*\\u0000/, what);
      }
    }));

  it(
    "refuses to send a datagram to such a name",
    { skip: !can.udp && "capabilities.udp is false" },
    () =>
      scene(makeSubject(), async ({ runtime }) => {
        const socket = await new EventBase({ runtime }).datagram({ hostname: "127.0.0.1" });
        const error = assertThrows(() => socket.sendTo("x", { hostname: NAME, port: 9 }), EventError) as EventError;
        socket.close();
        assertEquals(error.code, "EINVAL");
      }),
  );

  it("refuses a numeric address of another family with EINVAL and a message", () =>
    scene(makeSubject(), async ({ runtime }) => {
      const base = new EventBase({ runtime });
      for (
        const [call, message] of [
          [
            () => base.connect({ hostname: "127.0.0.1", port: 9, family: "IPv6" }),
            /127\.0\.0\.1 is not an IPv6 address/,
          ],
          [() => base.connect({ hostname: "::1", port: 9, family: "IPv4" }), /::1 is not an IPv4 address/],
          [() => base.listen({ hostname: "::1", port: 0, family: "IPv4" }), /::1 is not an IPv4 address/],
          [() => base.connect({ port: 9, family: "IPv4", localAddress: "::1" }), /not an IPv4 address: received ::1/],
        ] as const
      ) {
        // deno-lint-ignore require-await -- an exception becomes the rejection
        const error = await assertRejects(async () => call(), EventError) as EventError;
        assertEquals(error.code, "EINVAL");
        assertMatch(error.message, message);
      }
    }));

  it("listens and connects on the loopback address of the requested family", {
    skip: makeSubject().missing("::1"),
  }, () =>
    scene(makeSubject(), async (scene) => {
      const base = new EventBase({ runtime: scene.runtime });
      const listening = await base.listen({ hostname: "::1", port: 0 });
      const { port } = listening.address as { port: number };
      const socket = base.connect({ port, family: "IPv6" });
      await scene.until(() => socket.connected, () => `not connected: ${socket.error?.message}`);
      assertEquals((socket.remoteAddress as { hostname: string }).hostname, "::1");
      socket.reset();
      await listening.close();
    }));
}
