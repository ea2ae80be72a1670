/** Connecting to a name with several addresses: the core races them on any runtime. */

import { describe, it } from "./suite.ts";
import { assert, assertEquals, assertRejects } from "./assert.ts";
import { EventError, type InetAddress, type Runtime } from "../../core/mod.ts";
import { on } from "./on.ts";
import type { FullSubject } from "./subject.ts";

/** Tests one runtime. */
export function racingLaws(name: string, makeSubject: () => FullSubject): void {
  const { runtime: host, missing, deviates, ownNetwork } = makeSubject();
  const { connect, serve } = on(host);
  /** An unanswered attempt may stay until the system ends it. */
  const STAYS = deviates("attempt-stays") ? 1 : 0;

  /** Waits until the attempts that have lost are closed, too. */
  async function assertClosed(): Promise<void> {
    for (let i = 0; i < 2000 && host.openHandles > STAYS; i++) await new Promise((resolve) => setTimeout(resolve, 10));
    assert(host.openHandles <= STAYS, `${host.openHandles} handles`);
  }

  /** The same runtime, on which every name has these addresses. */
  function resolving(...addresses: readonly string[]): Runtime {
    const found = addresses.map((hostname): InetAddress => ({
      hostname,
      port: 0,
      family: hostname.includes(":") ? "IPv6" : "IPv4",
    }));
    return new Proxy(host, {
      get(target, key): unknown {
        if (key === "resolve") return () => Promise.resolve(found);
        const value: unknown = Reflect.get(target, key);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  }

  describe(`connecting by name on ${name}`, { skip: ownNetwork && "its addresses are not the machine's" }, () => {
    it("reaches the listener on one of the addresses, and is a connection like any other", async () => {
      const server = await serve({ hostname: "127.0.0.1", port: 0 }, { read: (bev) => bev.writeBuffer(bev.input) });
      const { port } = server.address as InetAddress;
      // 192.0.2.0/24 is for documentation: no host answers there, or the system reports at once
      // that there is no route.
      const runtime = resolving("192.0.2.1", "127.0.0.1", "::1", "2001:db8::1");
      let reply = "";
      const done = new Promise<void>((resolve, reject) => {
        connect({ runtime, hostname: "several", port, attemptDelayMs: 20 }, {
          read: (bev) => {
            reply += bev.input.toString();
            bev.input.drain(bev.input.length);
          },
          event: (bev) => bev.close().then(() => resolve(), reject),
        }).then((bev) => {
          assertEquals((bev.socket?.remoteAddress as InetAddress).hostname, "127.0.0.1");
          bev.write("hello\n");
          bev.shutdown();
        }).catch(reject);
      });
      await done;
      assertEquals(reply, "hello\n");
      await server.close();
      await assertClosed();
    });

    it("reports why each address could not be reached", { skip: missing("::1") }, async () => {
      const server = await serve({ hostname: "127.0.0.1", port: 0 }, {});
      const { port } = server.address as InetAddress;
      await server.close();
      const error = await assertRejects(
        () => connect({ runtime: resolving("127.0.0.1", "::1"), hostname: "several", port }, {}),
        EventError,
      ) as EventError;
      assertEquals([error.code, error.errors?.map(({ code }) => code)], [
        "ECONNREFUSED",
        ["ECONNREFUSED", "ECONNREFUSED"],
      ]);
      assert(error.message.includes("127.0.0.1"), error.message);
      await assertClosed();
    });
  });
}
