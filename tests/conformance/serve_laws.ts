/**
 * The laws of the high-level API, `serve()`, `connect()` and the views: the same tests on the
 * simulator and on every runtime. The numbers are those of the laws in docs/rules.md.
 */

import { describe, it } from "./suite.ts";
import { assert, assertEquals, assertStrictEquals } from "./assert.ts";
import {
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  BEV_EVENT_READING,
  BEV_EVENT_TIMEOUT,
  BEV_OPT_CLOSE_ON_FREE,
  connect,
  EV_READ,
  EV_WRITE,
  type EvBuffer,
  EVBUFFER_EOL_LF,
  EventBase,
  type EventError,
  FilterBufferEvent,
  type FrameCodec,
  lengthPrefixed,
  type ServeCallbacks,
  type Socket,
  SocketBufferEvent,
} from "../../core/mod.ts";
import { acceptLaws } from "./accept_laws.ts";
import { bytes, pattern, receive, sendAll, text } from "./poll_scene.ts";
import { isCut, receiveText, type ServeScene, serveScene, trust } from "./serve_scene.ts";
import type { FullSubject } from "./subject.ts";

type Law = (what: string, body: (here: ServeScene) => Promise<void>) => void;

/** Tests one runtime. */
export function serveLaws(name: string, makeSubject: () => FullSubject): void {
  const law: Law = (what, body) => void it(what, () => serveScene(makeSubject(), body));
  describe(`${name}: law 1, no peer ends the process`, () => peerLaws(law));
  describe(`${name}: law 2, no handler ends the server`, () => handlerLaws(law));
  describe(`${name}: law 3, an async callback is waited for`, () => asyncLaws(law));
  describe(`${name}: law 4, memory is bounded both ways`, () => memoryLaws(law));
  describe(`${name}: law 5, no silent hang`, () => stallLaws(law));
  describe(`${name}: law 6, every accepted client is heard of`, () => {
    clientLaws(law);
    acceptLaws(law);
  });
  describe(`${name}: law 7, open comes when there is a connection`, () => openLaws(law));
  describe(`${name}: law 10, nothing that was written is lost by an early end`, () => earlyEndLaws(law));
  describe(`${name}: law 11, what is over is freed`, () => endLaws(law));
}

/** Checks that a server still serves other clients. */
async function assertServes(client: () => Socket): Promise<void> {
  const socket = client();
  await sendAll(socket, bytes("still there\n"));
  assertEquals(text(await receive(socket, 12)), "STILL THERE\n");
  socket.reset();
}

const shouting: ServeCallbacks = {
  async open(bev) {
    for await (const line of bev.lines({ maxBytes: 1000, text: true })) bev.write(`${line.toUpperCase()}\n`);
  },
};

function peerLaws(law: Law): void {
  law(
    "a line that is too long, a reset and a truncation end only their own connection, for an async open() with a view",
    async (here) => {
      const { server, opened, closed, client } = await here.serve({}, shouting);
      const [long, reset] = [client(), client()];
      await sendAll(long, pattern(1001).map((byte) => byte % 26 + 97));
      await here.until(() => closed.length === 1, () => `${closed}`);
      await sendAll(reset, bytes("half a li"));
      await here.until(() => opened.length === 2, () => `${opened.length} opened`);
      await here.sleep(20);
      reset.reset();
      await here.until(() => closed.length === 2, () => `${closed}`);
      const cutCode = here.scene.runtime.capabilities.reset ? "ECONNRESET" : undefined;
      assertEquals(closed, ["EV_LINE_TOO_LONG", cutCode]);
      await assertServes(client);
      await here.until(() => server.connections === 0, () => `${server.connections} connections`);
      assertEquals(here.reported, []);
    },
  );

  law("a truncated frame ends its connection with EV_FRAME_TRUNCATED", async (here) => {
    const { closed, client } = await here.serve({}, {
      async open(bev) {
        for await (const frame of bev.frames(lengthPrefixed({ prefixBytes: 2 }))) bev.write(frame);
      },
    });
    const socket = client();
    await sendAll(socket, Uint8Array.of(0, 3, 65, 66, 67, 0, 9, 68));
    assertEquals(text(await receive(socket, 3)), "ABC");
    socket.shutdown();
    await here.until(() => closed.length === 1, () => "not closed");
    assertEquals([closed, here.reported], [["EV_FRAME_TRUNCATED"], []]);
  });

  law(
    "an error of readln() or of a codec for the peer's bytes is not a failure of the program",
    async (here) => {
      const garbage: FrameCodec = {
        decode(input: EvBuffer): Uint8Array | null {
          if (input.length === 0) return null;
          throw new SyntaxError("not a frame of ours");
        },
        encode() {},
      };
      const lines = await here.serve({}, {
        read(bev) {
          while (bev.input.readln(EVBUFFER_EOL_LF, { maxBytes: 10 }) !== null);
        },
        error: () => {},
      });
      const frames = await here.serve({}, {
        async open(bev) {
          for await (const _ of bev.frames(garbage));
        },
        error: () => {},
      });
      await sendAll(lines.client(), bytes("hello, world!"));
      await sendAll(frames.client(), bytes("?"));
      await here.until(() => lines.closed.length + frames.closed.length === 2, () => "not closed");
      assertEquals([lines.closed, frames.closed], [["EV_LINE_TOO_LONG"], ["EV_FRAME_INVALID"]]);
      assert(frames.reasons[0]?.cause instanceof SyntaxError);
      assertEquals([lines.errors, frames.errors, here.reported], [[], [], []]);
    },
  );

  law(
    "a client that stays while the server stops is reset after the grace, and nothing is reported",
    async (here) => {
      const { server, closed, client } = await here.serve({}, shouting);
      const socket = client();
      await sendAll(socket, bytes("hello\n"));
      assertEquals(text(await receive(socket, 6)), "HELLO\n");
      await server.close({ graceMs: 100 });
      assertEquals([closed, here.reported], [["ECANCELED"], []]);
    },
  );

  law("clients that leave at once are not opened without an address, and are counted correctly", async (here) => {
    const { server, opened, closed, client } = await here.serve({ maxConnectionsPerAddress: 1000 }, shouting);
    for (let i = 0; i < 200; i++) {
      const socket = client();
      if (i % 2 === 0) socket.reset();
      else {
        await here.until(() => socket.connected || socket.error !== null, () => "not connected");
        socket.reset();
      }
    }
    await here.until(() => server.connections === 0, () => `${server.connections} connections`);
    await here.until(() => closed.length === opened.length, () => `${opened.length} opened, ${closed.length} closed`);
    await assertServes(client);
    assertEquals(here.reported, []);
  });
}

function handlerLaws(law: Law): void {
  for (const how of ["throws", "resets"] as const) {
    law(`a callback that ${how} at the peer's end, after our own, ends only its own connection`, async (here) => {
      const failing: ServeCallbacks = {
        open: (bev) => bev.shutdown(),
        event(bev) {
          if (how === "throws") throw new Error("at the end");
          bev.reset();
        },
        error: () => {},
      };
      const { closed, errors, client } = await here.serve({}, failing);
      const sockets = Array.from({ length: 5 }, () => client());
      for (const socket of sockets) {
        assertEquals(await receiveText(socket), "");
        socket.shutdown();
      }
      await here.until(() => closed.length === 5, () => `${closed}`);
      const throws = how === "throws";
      assertEquals(closed, Array.from({ length: 5 }, () => throws ? "EV_HANDLER_FAILED" : undefined));
      assertEquals([errors.length, here.reported], [throws ? 5 : 0, []]);
      const others = await here.serve({}, shouting);
      await assertServes(others.client);
    });
  }

  law("a codec whose decode() returns a promise is reported as a failure of the program", async (here) => {
    const codec = { decode: (_input: EvBuffer) => Promise.resolve(new Uint8Array(1)), encode() {} };
    const { closed, errors, client } = await here.serve({}, {
      async open(bev) {
        for await (const _ of bev.frames(codec as unknown as FrameCodec));
      },
      error: () => {},
    });
    await sendAll(client(), bytes("a"));
    await here.until(() => closed.length === 1 && errors.length === 1, () => `${closed}`);
    assertEquals(closed, ["EV_HANDLER_FAILED"]);
    assert((errors[0]?.[0] as Error).message.includes("received a promise"));
  });

  law("using the buffers of a connection that has ended is not a failure of an async handler", async (here) => {
    const uses: ((bev: SocketBufferEvent) => void)[] = [
      (bev) => bev.output.add("late"),
      (bev) => bev.output.addBuffer(bev.input),
      (bev) => bev.input.drain(1),
      (bev) => void bev.input.readln(EVBUFFER_EOL_LF),
    ];
    let begun = 0;
    const { closed, errors, opened, client } = await here.serve({}, {
      async line(bev) {
        const use = uses[begun++] as (bev: SocketBufferEvent) => void;
        await new Promise((resolve) => bev.signal.addEventListener("abort", resolve));
        use(bev);
      },
      error: () => {},
    });
    for (let i = 0; i < uses.length; i++) {
      const socket = client();
      await sendAll(socket, bytes("line\n"));
      await here.until(() => begun === i + 1, () => `${begun} lines`);
      if (here.scene.runtime.capabilities.reset) socket.reset();
      else opened[i]?.reset();
      await here.until(() => closed.length === i + 1, () => `${closed}`);
      await here.sleep(5);
    }
    assertEquals([errors, here.reported], [[], []]);
  });

  law("a reset that a stream notices first is not a failure of the handler that writes", async (here) => {
    const { closed, errors, client } = await here.serve({}, {
      async open(bev) {
        for (;;) {
          const writer = bev.writable.getWriter();
          await writer.write("tick\n");
          writer.releaseLock();
          await new Promise<void>((resolve) => here.scene.runtime.defer(resolve));
        }
      },
      error: () => {},
    });
    for (let i = 0; i < 20; i++) {
      const socket = client();
      await receive(socket, 5);
      socket.reset();
    }
    await here.until(() => closed.length === 20, () => `${closed.length} closed`);
    assertEquals([errors, here.reported], [[], []]);
  });

  const failures: [where: string, callbacks: (error: Error) => ServeCallbacks][] = [
    ["open", (error) => ({
      open() {
        throw error;
      },
    })],
    ["read", (error) => ({
      read() {
        throw error;
      },
    })],
    ["line", (error) => ({
      line() {
        throw error;
      },
    })],
    ["write", (error) => ({
      write() {
        throw error;
      },
    })],
    ["event", (error) => ({
      event() {
        throw error;
      },
    })],
    ["an async open", (error) => ({ open: () => Promise.reject(error) })],
    ["an async read", (error) => ({ read: () => Promise.reject(error) })],
    ["an async line", (error) => ({ line: () => Promise.reject(error) })],
    ["an async write", (error) => ({ write: () => Promise.reject(error) })],
    ["an async event", (error) => ({ event: () => Promise.reject(error) })],
    ["a change callback of the input", (error) => ({
      open(bev) {
        bev.input.addCallback(() => {
          throw error;
        });
      },
    })],
    ["a deferred change callback", (error) => ({
      open(bev) {
        bev.input.addCallback(() => {
          throw error;
        });
        bev.input.deferCallbacks(bev.base);
      },
    })],
    ["a filter", (error) => ({
      open(bev) {
        new FilterBufferEvent(bev, () => {
          throw error;
        }, null).enable(EV_READ);
      },
    })],
    ["a callback of a filter", (error) => ({
      open(bev) {
        const filter = new FilterBufferEvent(bev, null, null);
        filter.setCallbacks({
          read() {
            throw error;
          },
        });
        filter.enable(EV_READ);
      },
    })],
    ["callbacks that were set later", (error) => ({
      open(bev) {
        bev.setCallbacks({ read: () => Promise.reject(error) });
      },
    })],
  ];
  for (const [where, callbacksOf] of failures) {
    law(`an exception of ${where} resets its connection, calls error once, and affects no other`, async (here) => {
      const failure = new Error(`in ${where}`);
      const callbacks = callbacksOf(failure);
      let count = 0;
      // The first connection fails, the others echo.
      const { closed, reasons, errors, opened, client } = await here.serve({}, {
        ...callbacks,
        open(bev) {
          if (count++ === 0) return callbacks.open?.(bev);
          return bev.setCallbacks({ read: (bev) => bev.write(bev.input.toString().toUpperCase()) });
        },
        error: () => {},
      });
      const socket = client();
      // It may be reset before it has sent anything.
      await sendAll(socket, bytes("hello\n")).catch(() => {});
      if (where.endsWith("event")) socket.shutdown();
      const answer = await receiveText(socket);
      assert(isCut(answer, here.scene.runtime.capabilities.reset), `not cut: ${answer}`);
      await here.until(() => closed.length === 1 && errors.length > 0, () => `${closed.length} closed`);
      assertEquals([closed, errors.length, here.reported], [["EV_HANDLER_FAILED"], 1, []]);
      assertStrictEquals(reasons[0]?.cause, failure);
      assertStrictEquals(errors[0]?.[0], failure);
      assertStrictEquals(errors[0]?.[1], opened[0]);
      await assertServes(client);
    });
  }

  law("without an error callback it is reported once to the runtime", async (here) => {
    const failure = new Error("in read");
    const { closed, client } = await here.serve({}, {
      read() {
        throw failure;
      },
    });
    await sendAll(client(), bytes("x"));
    await here.until(() => closed.length === 1, () => "not closed");
    assertEquals(here.reported, [failure]);
  });

  law("exceptions of close and error are reported, and the server goes on", async (here) => {
    const [inRead, inClose, inError] = [new Error("in read"), new Error("in close"), new Error("in error")];
    const told: unknown[] = [];
    const { client, server } = await here.serve({}, {
      read() {
        throw inRead;
      },
      close() {
        throw inClose;
      },
      error(error) {
        told.push(error);
        throw inError;
      },
    });
    await sendAll(client(), bytes("x"));
    await here.until(() => told.length === 2 && here.reported.length === 2, () => `${told} ${here.reported}`);
    assertEquals([told, here.reported, server.connections], [[inRead, inClose], [inError, inError], 0]);
  });

  law("an exception of a release callback is only reported: the connection goes on", async (here) => {
    const failure = new Error("in a release callback");
    const { errors, client } = await here.serve({}, {
      read(bev) {
        bev.output.addReference(bytes(bev.input.toString().toUpperCase()), () => {
          throw failure;
        });
        bev.input.drain(bev.input.length);
      },
      error: () => {},
    });
    const socket = client();
    for (let i = 0; i < 3; i++) {
      await sendAll(socket, bytes("hello\n"));
      assertEquals(text(await receive(socket, 6)), "HELLO\n");
    }
    assertEquals([errors, here.reported], [[], [failure, failure, failure]]);
  });

  law("connect() has open, error and close too, and rejects with an exception of open()", async (here) => {
    const { server } = await here.serve({}, { read: (bev) => void bev.writeBuffer(bev.input) });
    const to = { runtime: here.scene.runtime, hostname: "127.0.0.1", port: server.port };
    const failure = new Error("in a callback");
    const log: unknown[] = [];
    const bev = await connect(to, {
      open: (bev) => void log.push("open", bev.remoteAddress !== undefined),
      read() {
        throw failure;
      },
      close: (_bev, reason) => void log.push("close", reason?.code),
      error: (error, bev) => void log.push(error, bev !== null),
    });
    bev.write("x");
    await here.until(() => log.length === 6, () => `${log}`);
    assertEquals(log, ["open", true, failure, true, "close", "EV_HANDLER_FAILED"]);
    const thrown = await connect(to, {
      open() {
        throw failure;
      },
      error: () => void log.push("told twice"),
    }).catch((error) => error);
    assertStrictEquals(thrown, failure);
    // It does not wait for a promise of open().
    let settled = false;
    const waiting = await connect(to, { open: () => here.sleep(50).then(() => void (settled = true)) });
    assertEquals(settled, false);
    await waiting.close();
    assertEquals([log.length, here.reported], [6, []]);
  });
}

function asyncLaws(law: Law): void {
  law("line gets the lines one by one, and a client that half-closes gets every answer", async (here) => {
    let now = 0;
    let most = 0;
    const { closed, client } = await here.serve({}, {
      async line(bev, line) {
        most = Math.max(most, ++now);
        await here.sleep(30);
        now--;
        bev.write(`${text(line)}!\n`);
      },
    });
    const socket = client();
    await sendAll(socket, bytes("one\ntwo\nthree"));
    socket.shutdown();
    assertEquals(await receiveText(socket), "one!\ntwo!\nthree!\n");
    await here.until(() => closed.length === 1, () => "not closed");
    assertEquals([closed, most, here.reported], [[undefined], 1, []]);
  });

  law("an async line gets all lines of one segment, one by one, from a client that stays", async (here) => {
    const { client } = await here.serve({}, {
      async line(bev, line) {
        await here.sleep(5);
        bev.write(`${text(line)}!\n`);
      },
    });
    const socket = client();
    await sendAll(socket, bytes("one\ntwo\nthree\n"));
    assertEquals(text(await receive(socket, 16)), "one!\ntwo!\nthree!\n".slice(0, 16));
  });

  law("read is not called again while its promise is pending, and then for bytes that came meanwhile", async (here) => {
    const reads: string[] = [];
    let goOn = (): void => {};
    const { opened, client } = await here.serve({}, {
      async read(bev) {
        const part = bev.input.toString();
        bev.input.drain(bev.input.length);
        reads.push(part);
        if (reads.length === 1) await new Promise<void>((resolve) => goOn = resolve);
        bev.write(part.toUpperCase());
      },
    });
    const socket = client();
    await sendAll(socket, bytes("a"));
    await here.until(() => reads.length === 1, () => "not read");
    await sendAll(socket, bytes("b"));
    await here.until(() => opened[0]!.input.length === 1, () => "b did not come");
    await sendAll(socket, bytes("c"));
    socket.shutdown();
    await here.until(() => opened[0]!.input.length === 2, () => "c did not come");
    goOn();
    assertEquals(await receiveText(socket), "ABC");
    assertEquals(reads, ["a", "bc"]);
  });

  /** A handler that never reads: it sends a tick now and then, until the signal is aborted. */
  function ticking(here: ServeScene, log: string[]): ServeCallbacks {
    return {
      async open(bev) {
        bev.signal.addEventListener("abort", () => log.push(`aborted ${(bev.signal.reason as EventError).code}`));
        while (!bev.signal.aborted) {
          bev.write("tick\n");
          await here.sleep(20);
        }
        // The server has ended the connection, which is not a failure of this handler.
        bev.write("too late\n");
      },
      line: () => void log.push("line"),
    };
  }

  law("a pending open() never delays a reset, and the signal is aborted", async (here) => {
    if (!here.scene.runtime.capabilities.reset) return;
    const log: string[] = [];
    const { closed, client } = await here.serve({ handlerTimeoutMs: null }, ticking(here, log));
    const socket = client();
    await receive(socket, 5);
    socket.reset();
    await here.until(() => closed.length === 1, () => "not closed");
    // The output may report the reset first.
    assert(closed[0] === "ECONNRESET" || closed[0] === "EPIPE", `${closed}`);
    assertEquals(log, [`aborted ${closed[0]}`]);
    await here.sleep(60);
    assertEquals(here.reported, []);
  });

  law("a pending open() delays line, and the half-close for at most handlerTimeoutMs", async (here) => {
    const log: string[] = [];
    const { closed, client } = await here.serve({ handlerTimeoutMs: 150 }, ticking(here, log));
    const socket = client();
    await sendAll(socket, bytes("hello\n"));
    socket.shutdown();
    const ticks = await receiveText(socket);
    assert(/^(tick\n){2,}$/.test(ticks), ticks);
    await here.until(() => closed.length === 1, () => "not closed");
    assertEquals([closed, log.length], [[undefined], 1]);
    await here.sleep(60);
    assertEquals(here.reported, []);
  });

  law(
    "timeouts of reading and idleness do not run while a handler is busy, and do while it waits in a view",
    async (here) => {
      const busy = await here.serve({ readTimeoutMs: 600, idleTimeoutMs: 600 }, {
        async line(bev, line) {
          await here.sleep(1500);
          bev.write(`${text(line)}!\n`);
        },
      });
      const waits = await here.serve({ readTimeoutMs: 600 }, shouting);
      const [patient, silent] = [busy.client(), waits.client()];
      await sendAll(patient, bytes("one\n"));
      assertEquals(text(await receive(patient, 5)), "one!\n");
      assertEquals(await receiveText(silent), "");
      await here.until(() => busy.closed.length + waits.closed.length === 2, () => `${busy.closed} ${waits.closed}`);
      assertEquals([busy.closed, waits.closed, here.reported], [["ETIMEDOUT"], ["ETIMEDOUT"], []]);
    },
  );

  law("when open() settles after its view gave the end, the connection is closed gracefully", async (here) => {
    const { closed, client } = await here.serve({}, {
      async open(bev) {
        let all = "";
        for await (const chunk of bev) all += text(chunk);
        await here.sleep(20);
        bev.write(all.toUpperCase());
      },
    });
    const socket = client();
    await sendAll(socket, bytes("hello"));
    socket.shutdown();
    assertEquals(await receiveText(socket), "HELLO");
    await here.until(() => closed.length === 1, () => "not closed");
    assertEquals(closed, [undefined]);
  });
}

function memoryLaws(law: Law): void {
  // More than the kernels buffer in both directions.
  const LINES = 5000;
  const flood = bytes("0123456789".repeat(800) + "\n");

  /** Sends lines as long as the server reads them, and reads nothing. */
  async function sendUnread(here: ServeScene, socket: Socket): Promise<number> {
    let sent = 0;
    let quiet = here.scene.runtime.now();
    while (sent < LINES * flood.length && here.scene.runtime.now() - quiet < 300) {
      const at = sent % flood.length;
      const n = socket.send(at === 0 ? flood : flood.subarray(at));
      if (n > 0) {
        sent += n;
        quiet = here.scene.runtime.now();
      } else await here.sleep(5);
    }
    return sent;
  }

  for (const kind of ["a view", "line"] as const) {
    law(`a client that reads no answers waits with its questions: ${kind}`, async (here) => {
      const answer = "x".repeat(8000);
      let most = 0;
      const note = (bev: SocketBufferEvent): void => void (most = Math.max(most, bev.output.length));
      const { closed, client } = await here.serve(
        {},
        kind === "line"
          ? {
            line(bev) {
              bev.write(answer);
              note(bev);
            },
          }
          : {
            async open(bev) {
              for await (const _ of bev.lines()) {
                bev.write(answer);
                note(bev);
              }
            },
          },
      );
      const socket = client();
      const sent = await sendUnread(here, socket);
      assert(sent < LINES * flood.length, "the client never had to wait");
      assert(most <= 256 * 1024 + answer.length, `${most} bytes of output`);
      assertEquals(closed, [], "nothing ends that is slow");
      // Every answer arrives when it reads.
      socket.shutdown();
      const whole = Math.floor(sent / flood.length) + (sent % flood.length > 0 ? 1 : 0);
      const all = await receive(socket, whole * answer.length + 1);
      assertEquals(all.length, whole * answer.length);
      await here.until(() => closed.length === 1, () => "not closed");
      assertEquals([closed, here.reported], [[undefined], []]);
    });
  }

  law("a client's output does not stop its reading: both go on", async (here) => {
    const { server } = await here.serve({}, { line: (bev, line) => void (bev.write(line), bev.write("\n")) });
    const line = `${"y".repeat(99)}\n`;
    const count = 20_000;
    let received = 0;
    const bev = await connect({ runtime: here.scene.runtime, port: server.port, hostname: "127.0.0.1" }, {
      read(bev) {
        received += bev.input.length;
        bev.input.drain(bev.input.length);
      },
    });
    for (let i = 0; i < count; i++) bev.write(line);
    await here.until(() => received === count * line.length, () => `${received} bytes came`);
    await bev.close();
  });

  law("a header and then a 20 MB body in one write() are accepted completely", async (here) => {
    const body = new Uint8Array(20_000_000);
    const { client } = await here.serve({}, {
      open(bev) {
        bev.write("header\n");
        assertEquals(bev.write(body), false);
        void bev.close();
      },
      error: () => {},
    });
    const socket = client();
    const all = await receive(socket, body.length + 100);
    assertEquals(all.length, body.length + 7);
  });

  law(
    "drained() resolves when the output is at its low watermark, and rejects with the error of the connection",
    async (here) => {
      const log: string[] = [];
      const { closed, client } = await here.serve({ writeHigh: 50_000, writeLow: 10_000 }, {
        async open(bev) {
          await bev.drained();
          for (let i = 0; i < 200; i++) {
            if (!bev.write(pattern(20_000, i))) await bev.drained();
            assert(bev.output.length <= 50_000, `${bev.output.length} bytes of output`);
          }
          log.push("written");
          const abort = new AbortController();
          while (bev.write(pattern(20_000)));
          const aborted = bev.drained({ signal: abort.signal });
          abort.abort("enough");
          log.push(await aborted.catch((reason) => `aborted: ${reason}`) as string);
          while (bev.write(pattern(20_000)));
          await bev.drained();
        },
      });
      const socket = client();
      assertEquals((await receive(socket, 4_000_000)).length, 4_000_000);
      await here.until(() => log.length === 2, () => `${log}`);
      socket.reset();
      await here.until(() => closed.length === 1, () => "not closed");
      assertEquals([log, here.reported], [["written", "aborted: enough"], []]);
      assert(
        closed[0] === "ECONNRESET" || closed[0] === "EPIPE" || !here.scene.runtime.capabilities.reset,
        `${closed}`,
      );
    },
  );
}

function stallLaws(law: Law): void {
  law(
    "a peer that resets while a view in batches waits for space in the output ends the connection",
    async (here) => {
      const { closed, opened, client } = await here.serve({ writeHigh: 10_000 }, {
        async open(bev) {
          for await (const lines of bev.lines({ maxBytes: 1000 }).batches()) {
            for (const line of lines) bev.write(line);
          }
        },
      });
      const socket = client();
      await here.until(() => opened.length === 1 || socket.connected, () => "not opened");
      const flood = bytes(`${"x".repeat(99)}\n`.repeat(300));
      let full = 0;
      // Until both queues of the kernel are full, too.
      while (full < 20) {
        try {
          full = socket.send(flood) < 0 ? full + 1 : 0;
        } catch {
          break;
        }
        await here.sleep(10);
      }
      socket.reset();
      await here.until(() => closed.length === 1, () => "not closed");
      assertEquals(closed, [here.scene.runtime.capabilities.reset ? "ECONNRESET" : closed[0]]);
      assertEquals(here.reported, []);
    },
  );

  for (const [what, handler] of [["open", 0], ["read", 1]] as const) {
    law(`a handler ${what}() that never settles does not hold a full connection for ever`, async (here) => {
      const never = (): Promise<void> => new Promise(() => {});
      const limits = { readHigh: 10_000, handlerTimeoutMs: 100, stallTimeoutMs: 100 };
      const { closed, client } = await here.serve(limits, handler === 0 ? { open: never, read() {} } : { read: never });
      for (const leave of ["shutdown", "reset"] as const) {
        const socket = client();
        await sendAll(socket, pattern(70_000));
        await here.sleep(10);
        socket[leave]();
      }
      await here.until(() => closed.length === 2, () => `${closed}`);
      assertEquals(here.reported, []);
    });
  }

  law("a stream whose consumer does not read the end is closed after handlerTimeoutMs", async (here) => {
    const { closed, client } = await here.serve({ handlerTimeoutMs: 100 }, {
      async open(bev) {
        await bev.readable.getReader().read();
        await new Promise(() => {});
      },
    });
    const socket = client();
    await sendAll(socket, bytes("hello"));
    await here.sleep(20);
    socket.shutdown();
    await here.until(() => closed.length === 1, () => "not closed");
    assertEquals([closed, here.reported], [[undefined], []]);
  });

  law("messageTimeoutMs limits a line that arrives a byte at a time, in batches too", async (here) => {
    for (const kind of ["line", "lines", "batches"] as const) {
      const callbacks: ServeCallbacks = kind === "line" ? { line() {} } : {
        async open(bev) {
          const lines = bev.lines({ maxBytes: 1000 });
          if (kind === "lines") { for await (const _ of lines); }
          else for await (const batch of lines.batches()) for (const _ of batch);
        },
      };
      const { closed, client } = await here.serve({ messageTimeoutMs: 300 }, callbacks);
      const socket = client();
      for (let i = 0; i < 200 && closed.length === 0; i++) {
        try {
          await sendAll(socket, bytes("x"));
        } catch {
          break;
        }
        await here.sleep(20);
      }
      await here.until(() => closed.length === 1, () => `${kind}: not closed`);
      assertEquals(closed, ["ETIMEDOUT"], kind);
    }
  });

  law(
    "a connection whose input stays full without a busy handler ends after stallTimeoutMs, whether its peer left or not",
    async (here) => {
      const { server, opened, closed, reasons, client } = await here.serve({ stallTimeoutMs: 400 }, {
        read(bev) {
          while (bev.input.readln(EVBUFFER_EOL_LF) !== null);
        },
      });
      const sockets = [client(), client(), client()];
      // A connection that is reset before it could be delivered is not opened.
      await here.until(() => opened.length === 3, () => "not opened");
      const block = new Uint8Array(70_000).fill(97);
      for (const socket of sockets) await sendAll(socket, block);
      sockets[0]!.shutdown();
      sockets[1]!.reset();
      await here.until(() => server.connections === 0, () => `${server.connections} connections`);
      await here.until(() => closed.length === 3, () => `${closed}`);
      assert(closed.filter((code) => code === "EV_INPUT_FULL").length >= 2, `${closed}`);
      const reason = reasons.find((reason) => reason?.code === "EV_INPUT_FULL");
      assert(/65536 bytes of input wait, readHigh is 65536/.test(reason?.message ?? ""), reason?.message);
      assertEquals(here.reported, []);
    },
  );

  law(
    "EV_INPUT_FULL is reported to event, and a connection that stays open is reset after the same time",
    async (here) => {
      const told: [number, string | undefined][] = [];
      const { closed, client } = await here.serve({ stallTimeoutMs: 100 }, {
        read() {},
        event: (_bev, what, error) => void told.push([what, error?.code]),
      });
      const socket = client();
      await sendAll(socket, new Uint8Array(100_000));
      await here.until(() => closed.length === 1, () => "not closed");
      assertEquals([told, closed], [[[BEV_EVENT_READING | BEV_EVENT_ERROR, "EV_INPUT_FULL"]], ["EV_INPUT_FULL"]]);
    },
  );

  law("a program that is busy with the input, or waits for a slow reader, does not count as stalled", async (here) => {
    const slowView = await here.serve({ stallTimeoutMs: 60 }, {
      async open(bev) {
        for await (const _ of bev) await here.sleep(250);
      },
    });
    const slowReader = await here.serve({ stallTimeoutMs: 60, writeHigh: 100_000 }, {
      read(bev) {
        while (bev.input.length >= 1000 && bev.write(new Uint8Array(10_000))) bev.input.drain(1000);
      },
    });
    const disabled = await here.serve({ stallTimeoutMs: 60, readHigh: 1000 }, { read: (bev) => bev.disable(EV_READ) });
    const sockets = [slowView.client(), slowReader.client(), disabled.client()];
    for (const socket of sockets) socket.send(new Uint8Array(60_000));
    for (let i = 0; i < 40; i++) {
      fill(sockets[0]!);
      fill(sockets[1]!);
      await here.sleep(20);
    }
    assertEquals([slowView.closed, slowReader.closed, disabled.closed], [[], [], []]);
    // The slow reader finally gets all of its answers, without sending another byte.
    const reader = sockets[1]!;
    const into = new Uint8Array(100_000);
    await here.until(
      () => {
        while (reader.recv(into) > 0);
        return slowReader.opened[0]!.input.length < 1000;
      },
      () => `${slowReader.opened[0]!.input.length} wait`,
    );
    for (const socket of sockets) socket.reset();
    disabled.opened[0]!.free();
  });

  law("messageTimeoutMs ends peers that send a byte at a time, for line and for views, and no others", async (here) => {
    const servers = [
      await here.serve({ messageTimeoutMs: 150 }, { line: (bev, line) => void bev.write(line) }),
      await here.serve({ messageTimeoutMs: 150 }, shouting),
    ];
    for (const { client, closed } of servers) {
      const [slow, quick] = [client(), client()];
      // It ends after the first has timed out; a busy machine may take long to accept it.
      for (let i = 0; i < 1000 && closed.length === 0; i++) {
        slow.send(bytes("x"));
        quick.send(bytes("a line\n"));
        await here.sleep(15);
      }
      assertEquals(closed, ["ETIMEDOUT"]);
      quick.reset();
      await here.until(() => closed.length === 2, () => `${closed}`);
    }
    assertEquals(here.reported, []);
  });

  law("messageTimeoutMs is reported to event as READING|TIMEOUT", async (here) => {
    const told: [number, string | undefined][] = [];
    const { client } = await here.serve({ messageTimeoutMs: 60 }, {
      line() {},
      event(bev, what, error) {
        told.push([what, error?.code]);
        bev.free();
      },
    });
    await sendAll(client(), bytes("half"));
    await here.until(() => told.length === 1, () => "not told");
    assertEquals(told, [[BEV_EVENT_READING | BEV_EVENT_TIMEOUT, "ETIMEDOUT"]]);
  });

  law("a codec that never finds a frame is stopped at 1 MiB, or at another limit", async (here) => {
    const never: FrameCodec = { decode: () => null, encode() {} };
    for (const [options, limit] of [[{}, 1024 * 1024], [{ maxBytes: 10_000 }, 10_000]] as const) {
      let most = 0;
      const { closed, client } = await here.serve({}, {
        async open(bev) {
          bev.input.addCallback((input) => void (most = Math.max(most, input.length)));
          for await (const _ of bev.frames(never, options));
        },
      });
      const socket = client();
      const block = new Uint8Array(50_000);
      for (let i = 0; i < 100_000 && closed.length === 0; i++) {
        if (socket.error !== null) break;
        try {
          if (socket.send(block) < 0) await here.sleep(1);
        } catch {
          break;
        }
      }
      await here.until(() => closed.length === 1, () => "not closed");
      assertEquals(closed, ["EV_FRAME_TOO_LONG"]);
      assert(most <= limit + 2 * 65_536, `${most} bytes of input`);
    }
    assertEquals(here.reported, []);
  });
}

function fill(socket: Socket): void {
  try {
    socket.send(new Uint8Array(20_000));
  } catch {
    // It was ended, which another check detects.
  }
}

function clientLaws(law: Law): void {
  for (const priorities of [1, 2]) {
    const on = `on a base with ${priorities === 1 ? "one priority" : "two priorities"}`;
    law(
      `clients beyond the backlog that arrive while the program is busy are all opened and served, ${on}`,
      async (here) => {
        // The backlog, 128, limits connections that no server accepts; these wait for a busy
        // server.
        const COUNT = 300;
        const base = new EventBase({ runtime: here.scene.runtime, priorities });
        const { server, opened, client } = await here.serve({ base }, shouting);
        const dispatched = base.dispatch();
        const sockets = Array.from({ length: COUNT }, client);
        const busyUntil = performance.now() + 300;
        while (performance.now() < busyUntil);
        await here.until(() => sockets.every(({ connected }) => connected), () => "not connected");
        for (const [i, socket] of sockets.entries()) socket.send(bytes(`client ${i}\n`));
        const into = new Uint8Array(100);
        const answers = sockets.map(() => "");
        const receiveAll = (): boolean => {
          for (const [i, socket] of sockets.entries()) {
            const n = answers[i] === "" ? socket.recv(into) : 0;
            if (n > 0) answers[i] = text(into.subarray(0, n));
          }
          return !answers.includes("");
        };
        await here.until(receiveAll, () => `${answers.filter((answer) => answer === "").length} got no answer`);
        assertEquals(answers, sockets.map((_, i) => `CLIENT ${i}\n`));
        assertEquals([opened.length, here.reported], [COUNT, []]);
        for (const socket of sockets) socket.reset();
        await server.close({ graceMs: 0 });
        assertEquals(await dispatched, "empty");
      },
    );
  }

  law(
    "at maxConnections a client waits until there is space, or is refused with a last message and counted",
    async (here) => {
      const waits = await here.serve({ maxConnections: 1 }, shouting);
      const [first, second] = [waits.client(), waits.client()];
      await sendAll(first, bytes("one\n"));
      assertEquals(text(await receive(first, 4)), "ONE\n");
      await here.until(() => second.connected, () => "the second is not even connected");
      second.send(bytes("two\n"));
      await here.sleep(50);
      assertEquals([waits.opened.length, waits.server.rejected], [1, 0]);
      first.shutdown();
      assertEquals(text(await receive(second, 4)), "TWO\n");
      second.reset();

      const refuses = await here.serve({ maxConnections: 1, whenFull: "reject" }, {
        ...shouting,
        reject: (address, reason) => `421 ${reason} ${"port" in address}\n`,
      });
      const taken = refuses.client();
      await sendAll(taken, bytes("one\n"));
      assertEquals(text(await receive(taken, 4)), "ONE\n");
      assertEquals(await receiveText(refuses.client()), "421 maxConnections true\n");
      assertEquals([refuses.opened.length, refuses.server.rejected, here.reported], [1, 1, []]);
      taken.reset();
    },
  );
}

function openLaws(law: Law): void {
  law("a direction that open() disables or enables stays so", async (here) => {
    let reads = 0;
    const { opened, client } = await here.serve({}, {
      open(bev) {
        assertEquals(bev.enabled, EV_READ | EV_WRITE);
        bev.disable(EV_READ);
      },
      read: (bev) => {
        reads++;
        bev.input.drain(bev.input.length);
      },
    });
    const socket = client();
    await sendAll(socket, bytes("hello"));
    await here.until(() => opened.length === 1, () => "not opened");
    await here.sleep(50);
    assertEquals([reads, opened[0]!.enabled], [0, EV_WRITE]);
    opened[0]!.enable(EV_READ);
    await here.until(() => reads === 1, () => "not read");
  });

  law("with TLS, open comes after the handshake: bev.tls is set, and event gets no CONNECTED", async (here) => {
    const { tls, scene: { runtime } } = here;
    if (tls === undefined) return;
    const events: number[] = [];
    const { server, opened, closed, client } = await here.serve({
      tls: { cert: tls.cert, key: tls.key },
      handshakeTimeoutMs: 20_000,
    }, {
      open: (bev) => void assert(bev.tls?.protocol?.startsWith("TLS")),
      read: (bev) => void bev.writeBuffer(bev.input),
      event(bev, what) {
        events.push(what);
        bev.free();
      },
    });
    // A client without TLS is not reported.
    const garbage = client();
    await sendAll(garbage, bytes("GET / HTTP/1.1\r\n\r\n"));
    const bev = await connect({ runtime, hostname: "127.0.0.1", port: server.port, tls: trust(tls) });
    bev.write("hello");
    await here.until(() => bev.input.length === 5, () => "no echo");
    assertEquals([opened.length, events], [1, []]);
    await bev.close();
    await here.until(() => closed.length === 1, () => "not closed");
    assertEquals(events, [BEV_EVENT_READING | BEV_EVENT_EOF]);
    await here.until(() => server.connections === 0, () => `${server.connections} connections`);
    assertEquals(here.reported, []);
  });
}

function earlyEndLaws(law: Law): void {
  law("close() while connecting delivers the output, and gives true", async (here) => {
    let received = "";
    const { server, closed } = await here.serve({}, {
      read(bev) {
        received += bev.input.toString();
        bev.input.drain(bev.input.length);
      },
    });
    const bev = new SocketBufferEvent(here.scene.base, null, BEV_OPT_CLOSE_ON_FREE);
    bev.connect({ hostname: "127.0.0.1", port: server.port });
    bev.write("written before there was a connection");
    assertEquals(await bev.close(), true);
    await here.until(() => closed.length === 1, () => "not closed");
    assertEquals([received, closed], ["written before there was a connection", [undefined]]);
  });

  law("free() in the write callback of a filter over filters loses nothing", async (here) => {
    const body = pattern(300_000, 7);
    const { client } = await here.serve({}, {
      open(bev) {
        let top: FilterBufferEvent | SocketBufferEvent = bev;
        for (let i = 0; i < 3; i++) top = new FilterBufferEvent(top, null, null, BEV_OPT_CLOSE_ON_FREE);
        top.setCallbacks({ write: (bev) => bev.free() });
        top.enable(EV_READ | EV_WRITE);
        top.write(body);
      },
    });
    const all = await receive(client(), body.length + 1);
    assertEquals(all, body);
  });
}

function endLaws(law: Law): void {
  law(
    "a connection whose view and shutdown() have ended both directions is closed and freed by itself",
    async (here) => {
      const { server, closed, client } = await here.serve({}, {
        open(bev) {
          // No code waits for it.
          void (async () => {
            for await (const chunk of bev) bev.write(chunk);
            bev.shutdown();
          })();
        },
      });
      const sockets = Array.from({ length: 20 }, client);
      for (const socket of sockets) {
        await sendAll(socket, bytes("hello"));
        socket.shutdown();
      }
      for (const socket of sockets) assertEquals(await receiveText(socket), "hello");
      await here.until(() => closed.length === 20, () => `${closed.length} closed`);
      assertEquals([server.connections, new Set(closed)], [0, new Set([undefined])]);
    },
  );

  law("a connection whose event callback was called with that end is not freed", async (here) => {
    const events: number[] = [];
    const { server, opened, client } = await here.serve({}, {
      open: (bev) => bev.shutdown(),
      event: (_bev, what) => void events.push(what),
    });
    const socket = client();
    assertEquals(await receiveText(socket), "");
    socket.shutdown();
    await here.until(() => events.length === 1, () => `${events}`);
    await here.sleep(50);
    assertEquals([server.connections, events], [1, [BEV_EVENT_READING | BEV_EVENT_EOF]]);
    opened[0]!.free();
  });

  law(
    "a failure that a view reports frees the connection, whether or not the program handles the error",
    async (here) => {
      if (!here.scene.runtime.capabilities.reset) return;
      const caught: unknown[] = [];
      const { server, closed, client } = await here.serve({}, {
        async open(bev) {
          try {
            for await (const _ of bev);
          } catch (error) {
            caught.push((error as EventError).code);
          }
          await here.sleep(10_000).then(() => caught.push("late"));
        },
      });
      const socket = client();
      await here.until(() => server.connections === 1, () => "not opened");
      await here.sleep(20);
      socket.reset();
      await here.until(() => closed.length === 1, () => "not closed");
      assertEquals([closed, caught, server.connections], [["ECONNRESET"], ["ECONNRESET"], 0]);
    },
  );
}
