// for await, lines() and frames() over a bufferevent: the items, the end of a view, and views
// together with callbacks.

import { describe, it } from "node:test";
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { bufferEventPair } from "../../../core/api/pair_bufferevent.ts";
import { pipe } from "../../../core/api/pipe.ts";
import { FilterBufferEvent } from "../../../core/api/filter_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import { EV_READ, EV_WRITE, EVBUFFER_EOL_LF, EVBUFFER_EOL_NUL } from "../../../core/flags.ts";
import { delimited, type FrameCodec, lengthPrefixed } from "../../../core/views/frames.ts";
import { world } from "../loop/harness.ts";
import { pattern, text } from "../socket/pairs.ts";
import { viewStage } from "./view_stage.ts";

/** All items of a view, as text. */
async function all(view: AsyncIterable<Uint8Array | string>): Promise<string[]> {
  const found: string[] = [];
  for await (const item of view) found.push(typeof item === "string" ? item : text(item));
  return found;
}

describe("for await over a bufferevent", () => {
  it("gives the bytes as they arrive, and ends with the end of file", async () => {
    const stage = await viewStage();
    const chunks = all(stage.rig.bev);
    await stage.peerSends("one", "two");
    stage.rig.peer.shutdown();
    assertEquals(await stage.run(chunks), ["one", "two"]);
    assertEquals(stage.rig.record.take(), []);
    await stage.end();
  });

  it("gives chunks that do not change", async () => {
    const stage = await viewStage();
    const view = stage.rig.bev[Symbol.asyncIterator]();
    await stage.peerSends(pattern(40_000));
    const kept: Uint8Array[] = [];
    for (let n = 0; n < 40_000;) {
      const { value } = await stage.run(view.next());
      assert(value !== undefined);
      kept.push(value);
      n += value.length;
    }
    await stage.peerSends(new Uint8Array(40_000));
    let at = 0;
    for (const chunk of kept) {
      assertEquals(chunk, pattern(chunk.length, at));
      at += chunk.length;
    }
    await view.return();
    await stage.end();
  });

  it("makes a peer wait if nobody reads: sets a default bound, and removes it at the end", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    const view = bev[Symbol.asyncIterator]();
    await stage.peerSends("x");
    assertEquals(text((await stage.run(view.next())).value!), "x");
    assertEquals(bev.getWatermark(EV_READ), { low: 0, high: 65_536 });
    let sent = 0;
    for (let i = 0; i < 100; i++) {
      const n = peer.send(new Uint8Array(65_536));
      if (n > 0) sent += n;
      await stage.pass(5);
    }
    assertEquals(bev.input.length, 65_536);
    assert(sent < 500_000, `${sent} bytes were taken`);
    // All bytes are there when somebody reads.
    let got = 0;
    while (got < sent) got += (await stage.run(view.next())).value!.length;
    assertEquals(got, sent);
    await view.return();
    assertEquals([bev.getWatermark(EV_READ), bev.enabled], [{ low: 0, high: 0 }, EV_WRITE]);
    await stage.end();
  });

  it("waits for as many bytes as the low watermark, except at the end", async () => {
    const stage = await viewStage();
    stage.rig.bev.setWatermark(EV_READ, 4, 0);
    const chunks = all(stage.rig.bev);
    await stage.peerSends("ab", "cd", "e");
    stage.rig.peer.shutdown();
    assertEquals((await stage.run(chunks)).join(""), "abcde");
    await stage.end();
  });
});

describe("lines()", () => {
  it("gives the lines, whatever the pieces are, and a last one without a terminator", async () => {
    const stage = await viewStage();
    const lines = all(stage.rig.bev.lines({ text: true }));
    await stage.peerSends("one\r\ntw", "o\n\r", "\nlä", "st");
    stage.rig.peer.shutdown();
    assertEquals(await stage.run(lines), ["one", "two", "", "läst"]);
    await stage.end();
  });

  it("accepts a style, and gives bytes by default", async () => {
    const stage = await viewStage();
    const view = stage.rig.bev.lines({ eol: EVBUFFER_EOL_NUL });
    await stage.peerSends("a\nb\0");
    assertEquals(await stage.run(view.next()), { done: false, value: new TextEncoder().encode("a\nb") });
    await view.return();
    await stage.end();
  });

  it("rejects with EV_LINE_TOO_LONG, takes nothing, and ends", async () => {
    const stage = await viewStage();
    const { bev } = stage.rig;
    const view = bev.lines({ maxBytes: 5 });
    await stage.peerSends("short\n123456");
    assertEquals(text((await stage.run(view.next())).value!), "short");
    assertEquals(await stage.codeOf(view.next()), "EV_LINE_TOO_LONG");
    assertEquals(await view.next(), { done: true, value: undefined });
    assertEquals(bev.input.toString(), "123456");
    await stage.end();
  });

  it("accepts a line that is longer than the high watermark, and restores the watermark", async () => {
    const stage = await viewStage();
    const { bev } = stage.rig;
    bev.setWatermark(EV_READ, 0, 100);
    const view = bev.lines({ text: true });
    const line = "x".repeat(5000);
    const next = view.next();
    await stage.peerSends(`${line}\nshort\n`);
    assertEquals((await stage.run(next)).value, line);
    assertEquals(bev.getWatermark(EV_READ).high, 100);
    assertEquals((await stage.run(view.next())).value, "short");
    await view.return();
    assertEquals(bev.getWatermark(EV_READ).high, 100);
    await stage.end();
  });

  it("keeps a line that never ends within its limit", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    const next = bev.lines({ maxBytes: 1000 }).next();
    next.catch(() => {});
    let most = 0;
    for (let i = 0; i < 40; i++) {
      peer.send(new Uint8Array(50_000).fill(65));
      await stage.pass(5);
      most = Math.max(most, bev.input.length);
    }
    assertEquals(await stage.codeOf(next), "EV_LINE_TOO_LONG");
    assert(most <= 65_536, `${most} bytes were buffered`);
    await stage.end();
  });

  it("settles calls of next() in order when several wait", async () => {
    const stage = await viewStage();
    const view = stage.rig.bev.lines({ text: true });
    const three = Promise.all([view.next(), view.next(), view.next()]);
    await stage.peerSends("1\n2", "\n");
    stage.rig.peer.shutdown();
    assertEquals((await stage.run(three)).map(({ value }) => value), ["1", "2", undefined]);
    await stage.end();
  });

  it("checks its options when it is made", async () => {
    const stage = await viewStage();
    const { bev } = stage.rig;
    assertThrows(() => bev.lines({ eol: 99 }), RangeError);
    assertThrows(() => bev.lines({ maxBytes: -1 }), RangeError);
    assertThrows(() => bev.lines({ signal: {} as AbortSignal }), TypeError);
    await stage.end();
  });
});

describe("batches()", () => {
  it("give all lines that are there at once, then the last line and the end", async () => {
    const stage = await viewStage();
    const batches: string[][] = [];
    const done = (async () => {
      for await (const lines of stage.rig.bev.lines({ text: true }).batches()) batches.push([...lines]);
    })();
    await stage.peerSends("1\n2\n3\n4", "4\n", "last");
    stage.rig.peer.shutdown();
    await stage.run(done);
    assertEquals(batches.flat(), ["1", "2", "3", "44", "last"]);
    assertEquals(batches[0], ["1", "2", "3"]);
    await stage.end();
  });

  it("lose nothing when the loop over a batch is left in the middle", async () => {
    const stage = await viewStage();
    const { bev } = stage.rig;
    await stage.peerSends("1\n2\n3\n");
    const read = (async () => {
      for await (const lines of bev.lines({ text: true }).batches()) {
        for (const line of lines) if (line === "1") return;
      }
    })();
    await stage.run(read);
    assertEquals(bev.input.toString(), "2\n3\n");
    await stage.end();
  });

  it("throw the error of a line when it is read", async () => {
    const stage = await viewStage();
    const { bev } = stage.rig;
    await stage.peerSends("ok\ntoo long\n");
    const seen: string[] = [];
    const read = (async () => {
      for await (const lines of bev.lines({ text: true, maxBytes: 3 }).batches()) {
        for (const line of lines) seen.push(line);
      }
    })();
    assertEquals(await stage.codeOf(read), "EV_LINE_TOO_LONG");
    assertEquals([seen, bev.input.toString()], [["ok"], "too long\n"]);
    await stage.end();
  });
});

describe("frames()", () => {
  it("gives frames, and the end between two of them", async () => {
    const stage = await viewStage();
    const codec = lengthPrefixed({ prefixBytes: 2 });
    const frames = all(stage.rig.bev.frames(codec));
    await stage.peerSends("\0\x03one\0", "\x05three\0\0");
    stage.rig.peer.shutdown();
    assertEquals(await stage.run(frames), ["one", "three", ""]);
    await stage.end();
  });

  it("rejects with EV_FRAME_TRUNCATED when the end comes inside one, and leaves the rest", async () => {
    const stage = await viewStage();
    const frames = all(stage.rig.bev.frames(delimited("--")));
    await stage.peerSends("one--tw");
    stage.rig.peer.shutdown();
    assertEquals(await stage.codeOf(frames), "EV_FRAME_TRUNCATED");
    assertEquals(stage.rig.bev.input.toString(), "tw");
    await stage.end();
  });

  it("treats undefined of a codec as no frame", async () => {
    const stage = await viewStage();
    const codec = lengthPrefixed({ prefixBytes: 1 });
    const frames = all(stage.rig.bev.frames({
      decode: (input) => codec.decode(input) ?? (undefined as unknown as null),
      encode: codec.encode,
    }));
    await stage.peerSends("\x03on", "e");
    stage.rig.peer.shutdown();
    assertEquals(await stage.run(frames), ["one"]);
    await stage.end();
  });

  it("refuses a value that is not a codec", async () => {
    const stage = await viewStage();
    assertThrows(() => stage.rig.bev.frames(null as unknown as FrameCodec), TypeError);
    await stage.end();
  });
});

describe("an open view", () => {
  it("keeps dispatch() running by itself: its reader is busy, or a pair waits", async () => {
    const { sim, base } = world();
    const [near, far] = bufferEventPair(base);
    const dispatched = base.dispatch();
    const lines: string[] = [];
    const read = (async () => {
      for await (const line of near.lines({ text: true })) {
        lines.push(line);
        await new Promise<void>((resolve) => sim.setTimer(sim.now() + 100, resolve));
      }
    })();
    await sim.advance(50);
    far.write("one\ntwo\n");
    await sim.advance(500);
    far.write("three\n");
    far.shutdown();
    await sim.run(read);
    assertEquals([lines, await sim.run(dispatched)], [["one", "two", "three"], "empty"]);
    near.free();
    far.free();
  });

  it("lets dispatch() end when the bufferevent was freed under it", async () => {
    const { sim, base } = world();
    const [near, far] = bufferEventPair(base);
    const next = assertRejects(() => near.lines().next());
    const dispatched = base.dispatch();
    await sim.advance(50);
    near.free();
    far.free();
    assertEquals(await sim.run(dispatched), "empty");
    await next;
  });
});

describe("the end of a view", () => {
  it("is a rejection after a reset, after the lines that came before, and once", async () => {
    const stage = await viewStage();
    const view = stage.rig.bev.lines({ text: true });
    const first = view.next();
    await stage.peerSends("whole\nhalf");
    stage.rig.peer.reset();
    await stage.pass(5);
    assertEquals((await stage.run(first)).value, "whole");
    assertEquals(await stage.codeOf(view.next()), "ECONNRESET");
    assertEquals(await view.next(), { done: true, value: undefined });
    await stage.end();
  });

  it("is a rejection with ETIMEDOUT after a timeout, and the bufferevent can still be used", async () => {
    const stage = await viewStage();
    const { bev } = stage.rig;
    bev.setTimeouts(50, null);
    assertEquals(await stage.codeOf(bev.lines().next()), "ETIMEDOUT");
    const again = bev.lines({ text: true });
    const line = again.next();
    await stage.peerSends("there\n");
    assertEquals((await stage.run(line)).value, "there");
    await again.return();
    await stage.end();
  });

  it("is reported if the end of file came before the view was opened", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    bev.enable(EV_READ);
    await stage.peerSends("late\n");
    peer.shutdown();
    await stage.pass(20);
    assertEquals(stage.rig.record.take(), ["read 5", "event READING|EOF"]);
    assertEquals(await stage.run(all(bev.lines())), []);
    assertEquals(await stage.run(all(bev.lines())), [], "and again");
    await stage.end();
  });

  it("is reported through a filter too, if it came before and in a second view", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    const top = new FilterBufferEvent(bev, null, null);
    top.enable(EV_READ);
    await stage.peerSends("one\ntwo");
    peer.shutdown();
    await stage.pass(20);
    assertEquals(await stage.run(all(top.lines())), ["one", "two"]);
    assertEquals(await stage.run(all(top.lines())), []);
    top.free();
    await stage.end();
  });

  it("is not reported to the callbacks while the view is open, however late the next read is", async () => {
    const stage = await viewStage();
    const { bev, peer, record } = stage.rig;
    const view = bev.lines({ text: true }).open();
    await stage.peerSends("one\ntwo");
    peer.shutdown();
    await stage.pass(100);
    assertEquals(await stage.run(all(view)), ["one", "two"]);
    assertEquals(record.take(), []);
    await stage.end();
  });

  it("follows close() at once, and the rest is dropped", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    const view = bev.lines({ text: true });
    const first = view.next();
    await stage.peerSends("1\n2\n");
    assertEquals((await stage.run(first)).value, "1");
    const closed = bev.close();
    assertEquals(await view.next(), { done: true, value: undefined });
    peer.shutdown();
    assertEquals(await stage.run(closed), true);
    await stage.end();
  });

  it("follows close() for a waiting reader, and for a bufferevent without a connection", async () => {
    const stage = await viewStage();
    const { bev, peer } = stage.rig;
    const waiting = bev.lines().next();
    const closed = bev.close();
    assertEquals(await waiting, { done: true, value: undefined });
    peer.shutdown();
    await stage.run(closed);
    const [near, far] = bufferEventPair(stage.rig.base);
    far.free();
    const lonely = near.lines().next();
    await near.close();
    assertEquals(await lonely, { done: true, value: undefined });
    await stage.end();
  });

  it("is a rejection with EV_FREED after free() and reset(), waiting or not", async () => {
    for (const how of ["free", "reset"] as const) {
      for (const waits of [true, false]) {
        const stage = await viewStage();
        const { bev } = stage.rig;
        const view = bev.lines();
        const first = view.next();
        await stage.peerSends("1\n2\n");
        await stage.run(first);
        if (waits) await stage.run(view.next());
        const next = waits ? view.next() : null;
        bev[how]();
        assertEquals(await stage.codeOf(next ?? view.next()), "EV_FREED");
        assertEquals(await view.next(), { done: true, value: undefined });
        assertEquals(await stage.codeOf(bev.lines().next()), "EV_FREED");
        await stage.end();
      }
    }
  });

  it("is a rejection with the reason of a signal, and loses nothing", async () => {
    const stage = await viewStage();
    const { bev } = stage.rig;
    for (const when of ["before", "waiting", "between"]) {
      const controller = new AbortController();
      const reason = new Error(when);
      if (when === "before") controller.abort(reason);
      const view = bev.lines({ signal: controller.signal });
      if (when === "between") {
        await stage.peerSends("a\nb\n");
        await stage.run(view.next());
      }
      const next = when === "between" ? null : view.next();
      controller.abort(reason);
      assertStrictEquals(await assertRejects(() => next ?? view.next()), reason);
      assertEquals(await view.next(), { done: true, value: undefined });
      assertEquals(bev.enabled, EV_WRITE);
    }
    assertEquals(bev.input.toString(), "b\n");
    await stage.end();
  });

  it("is reported to a reader and a writer if an attempt to connect fails", async () => {
    const stage = await viewStage();
    const { bev, base } = stage.rig;
    const { SocketBufferEvent } = await import("../../../core/api/socket_bufferevent.ts");
    const client = new SocketBufferEvent(base, null, 1);
    client.connect({ hostname: "127.0.0.1", port: 9 });
    assertEquals(await stage.codeOf(client.lines().next()), "ECONNREFUSED");
    client.free();
    bev.free();
    await stage.end();
  });
});

describe("leaving a view", () => {
  it("leaves remaining bytes in the input, with break and with throw", async () => {
    const stage = await viewStage();
    const { bev } = stage.rig;
    await stage.peerSends("1\n2\n3\n4\n");
    const broken = async (): Promise<void> => {
      for await (const _line of bev.lines()) break;
    };
    const thrown = async (): Promise<void> => {
      for await (const _line of bev.lines()) throw new RangeError("mine");
    };
    await stage.run(broken());
    await assertRejects(() => stage.run(thrown()), RangeError, "mine");
    assertEquals(bev.input.toString(), "3\n4\n");
    // It can still be used, with another view and then with callbacks.
    await stage.run(broken());
    bev.enable(EV_READ);
    await stage.peerSends("5\n");
    assertEquals(stage.rig.record.received.toString(), "4\n5\n");
    await stage.end();
  });

  it("restores the callbacks, which get waiting bytes if reading was enabled", async () => {
    const stage = await viewStage();
    const { bev, record } = stage.rig;
    bev.enable(EV_READ);
    const view = bev.lines();
    const first = view.next();
    assertStrictEquals(bev.getCallbacks(), record.callbacks);
    await stage.peerSends("1\n2\n");
    await stage.run(first);
    assertEquals(record.take(), []);
    await view.return();
    await stage.pass(5);
    assertEquals([record.take(), bev.enabled], [["read 2"], EV_READ | EV_WRITE]);
    await stage.end();
  });

  it("passes on an end that was not reported", async () => {
    const stage = await viewStage();
    const { bev, record, peer } = stage.rig;
    bev.enable(EV_READ);
    const view = bev.lines();
    const first = view.next();
    await stage.peerSends("1\n2\n");
    await stage.run(first);
    peer.shutdown();
    await stage.pass(20);
    await view.return();
    await stage.pass(5);
    assertEquals(record.take(), ["read 2", "event READING|EOF"]);
    await stage.end();
  });

  it("happens at the end of an await using, even before the first read", async () => {
    const stage = await viewStage();
    const { bev } = stage.rig;
    {
      await using view = bev.lines();
      void view.next();
    }
    const never = bev.lines();
    await never.return();
    assertEquals(await never.next(), { done: true, value: undefined });
    assertEquals(bev.enabled, EV_WRITE);
    await stage.end();
  });
});

describe("a view and callbacks", () => {
  it("leaves writing to the callbacks, and takes new ones for later", async () => {
    const stage = await viewStage();
    const { bev, record } = stage.rig;
    const waiting = bev.lines().next();
    bev.write("hello");
    await stage.pass(5);
    assertEquals(record.take(), ["write 0"]);
    const calls: string[] = [];
    const later = { read: () => void calls.push("read"), write: () => void calls.push("write") };
    bev.setCallbacks(later);
    assertStrictEquals(bev.getCallbacks(), later);
    bev.write("more");
    await stage.pass(5);
    await stage.peerSends("line\n");
    await stage.run(waiting);
    assertEquals(calls, ["write"]);
    await stage.end();
  });

  it("report a failure of writing to the view, unless a stream writes", async () => {
    const stage = await viewStage();
    const { bev, rig } = { bev: stage.rig.bev, rig: stage.rig };
    const waiting = bev.lines().next();
    await rig.block();
    bev.setTimeouts(null, 30);
    bev.write("no way");
    assertEquals(await stage.codeOf(waiting), "ETIMEDOUT");
    await stage.end();
  });

  it("exclude a second view, also above and below a filter", async () => {
    const stage = await viewStage();
    const { bev } = stage.rig;
    const view = bev.lines();
    const waiting = view.next();
    assertEquals(await stage.codeOf(bev[Symbol.asyncIterator]().next()), "EV_BUSY");
    assertEquals(await stage.codeOf(bev.readable.getReader().read()), "EV_BUSY");
    const error = assertThrows(() => new FilterBufferEvent(bev, null, null), EventError);
    assertEquals((error as EventError).code, "EV_BUSY");
    await view.return();
    assertEquals(await waiting, { done: true, value: undefined });
    const top = new FilterBufferEvent(bev, null, null);
    assertEquals(await stage.codeOf(bev.lines().next()), "EV_BUSY");
    top.free();
    await stage.end();
  });

  it("exclude an end of a pipe", async () => {
    const stage = await viewStage();
    const { bev, base } = stage.rig;
    const [near, far] = bufferEventPair(base);
    const piping = pipe(bev, near);
    piping.catch(() => {});
    assertEquals(await stage.codeOf(bev.lines().next()), "EV_BUSY");
    assertEquals(await stage.codeOf(near.writable.getWriter().write("x")), "EV_BUSY");
    far.free();
    bev.free();
    await stage.run(piping.catch(() => {}));
    near.free();
    await stage.end();
  });

  it("give many lines that arrived together without a turn of the loop in between", async () => {
    const stage = await viewStage();
    const { bev } = stage.rig;
    bev.enable(EV_READ);
    stage.rig.record.drains = false;
    await stage.peerSends("line\n".repeat(3000));
    let count = 0;
    for await (const line of bev.lines({ eol: EVBUFFER_EOL_LF })) {
      assertEquals(line.length, 4);
      // The clock stands still, so only promises deliver the next line.
      if (++count === 3000) break;
    }
    await stage.end();
  });
});
