// The messages of wrong calls that people make first.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  bufferEventPair,
  connect,
  type ConnectOptions,
  EvBuffer,
  EventBase,
  serve,
  type ServeCallbacks,
  type ServeOptions,
} from "../../../mod.ts";
import { show } from "../../../core/checks.ts";
import { simRuntime } from "../../../runtimes/sim.ts";

const AT: ServeOptions = { hostname: "127.0.0.1", port: 0 };

describe("serve()", () => {
  it("suggests hostname for host, and opens nothing", async () => {
    const sim = simRuntime();
    const wrong = { runtime: sim, host: "127.0.0.1", port: 0 } as ServeOptions;
    await assertRejects(() => serve(wrong, {}), TypeError, "Cannot serve: unknown option host: did you mean hostname?");
    const tls = { ...AT, runtime: sim, tls: { certificate: "x" } } as unknown as ServeOptions;
    await assertRejects(() => serve(tls, {}), TypeError, "unknown option tls.certificate: did you mean tls.cert?");
    assertEquals(sim.openHandles, 0);
  });

  it("suggests read for a data callback, and so do connect() and setCallbacks()", async () => {
    const sim = simRuntime();
    const wrong = { data() {} } as ServeCallbacks;
    await assertRejects(
      () => serve({ ...AT, runtime: sim }, wrong),
      TypeError,
      "Cannot serve: unknown callback data: did you mean read?",
    );
    await assertRejects(
      () => connect({ port: 9, runtime: sim }, wrong),
      TypeError,
      "Cannot connect: unknown callback data: did you mean read?",
    );
    const [near] = bufferEventPair(new EventBase({ runtime: sim }));
    assertThrows(() => near.setCallbacks(wrong as never), TypeError, "unknown callback data: did you mean read?");
  });

  it("takes an object of a class that has more methods", async () => {
    const sim = simRuntime();
    class Echo {
      lines = 0;
      #prefix = "> ";
      line(bev: { write(text: string): boolean }, line: Uint8Array): void {
        bev.write(this.answerTo(new TextDecoder().decode(line)));
      }
      answerTo(line: string): string {
        return `${this.#prefix}${++this.lines} ${line}\n`;
      }
    }
    const server = await sim.run(serve({ ...AT, runtime: sim }, new Echo()));
    const client = await sim.run(connect({ port: server.port, runtime: sim }));
    client.write("a\nb\n");
    await sim.advance(10);
    assertEquals(client.input.toString(), "> 1 a\n> 2 b\n");
    await sim.run(client.close());
    await sim.run(server.close());
  });
});

describe("connect()", () => {
  it("refuses a wrong timeout in the call, before it connects", async () => {
    const sim = simRuntime();
    const server = await sim.run(serve({ ...AT, runtime: sim }, {}));
    const options = { port: server.port, runtime: sim, idleTimeoutMs: {} } as unknown as ConnectOptions;
    await assertRejects(() => sim.run(connect(options)), TypeError, "received Object");
    await sim.run(server.close());
    assertEquals(sim.openHandles, 0);
  });
});

describe("a buffer", () => {
  it("refuses to reserve 2^33 bytes, and allocates nothing", () => {
    const buffer = new EvBuffer();
    for (const n of [2 ** 31, 2 ** 33, 2 ** 53]) {
      assertThrows(() => buffer.expand(n), RangeError, "Cannot expand: the count is above 2147483647");
      assertThrows(
        () => buffer.reserveSpace(n),
        RangeError,
        "Cannot reserve space: the count is above 2147483647",
      );
      assertThrows(() => buffer.reserveSpace(n, 2), RangeError, "above 2147483647");
      assertEquals(buffer.pullup(n), null);
      assertEquals(buffer.peek(n), []);
      buffer.drain(n);
    }
  });

  it("accepts the limit of a line only under its right name", () => {
    const buffer = new EvBuffer();
    buffer.add("one\ntwo\n");
    const wrong = { maxbytes: 1 } as { maxBytes?: number };
    for (let i = 0; i < 2; i++) {
      assertThrows(() => buffer.readln(3, wrong), TypeError, "unknown option maxbytes: did you mean maxBytes?");
      assertThrows(() => buffer.eachLine(3, () => {}, wrong), TypeError, "did you mean maxBytes?");
    }
    assertEquals(buffer.readln(3, { maxBytes: 10 })?.length, 3);
    assertEquals(buffer.readln(3, { maxBytes: undefined })?.length, 3);
  });
});

describe("a value in a message", () => {
  it("is shown whatever its type, and is always short", () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    const hostile = {
      get constructor(): never {
        throw new Error("mine");
      },
      toString: () => {
        throw new Error("mine");
      },
    };
    const shown = [null, undefined, NaN, -0, true, Symbol("s"), 1n, 1n << 200n, "a\n", {}, [], proxy, hostile, () => {}]
      .map(show);
    assertEquals(
      shown,
      'null|undefined|NaN|0|true|Symbol(s)|1n|a large bigint|"a\\n"|Object|Array|an object|an object|a function'.split(
        "|",
      ),
    );
    class Named {
      static readonly name: string = "x".repeat(1000);
    }
    for (const long of ["x".repeat(100_000), Symbol("x".repeat(100_000)), new Named()]) assert(show(long).length < 60);
  });
});
