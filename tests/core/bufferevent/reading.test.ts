// Reading: defaults, enable and disable, single reads, watermarks, EOF and errors. Rules V1, V2, V4 to V8, V17.

import { describe, it } from "node:test";
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import { SocketBufferEvent } from "../../../core/api/socket_bufferevent.ts";
import { EventError } from "../../../core/errors.ts";
import {
  BEV_OPT_CLOSE_ON_FREE,
  BEV_OPT_DEFER_CALLBACKS,
  BEV_OPT_THREADSAFE,
  BEV_OPT_UNLOCK_CALLBACKS,
  EV_CLOSED,
  EV_READ,
  EV_TIMEOUT,
  EV_WRITE,
} from "../../../core/flags.ts";
import { connectionOf } from "../../../core/api/socket.ts";
import { RECEIVE_LIMIT } from "../../../core/socket/connection.ts";
import { WINDOW_BYTES } from "../../../runtimes/sim/connection.ts";
import { nothingLeft, world } from "../loop/harness.ts";
import { pattern } from "../socket/pairs.ts";
import { rig } from "./rig.ts";

function codeOf(fn: () => unknown): string {
  return (assertThrows(fn, EventError) as EventError).code;
}

describe("a new bufferevent (V1)", () => {
  it("has writing enabled, no watermarks, no callbacks, no context", async () => {
    const made = await rig();
    const { bev, base } = made;
    assertEquals(bev.enabled, EV_WRITE);
    assertEquals([bev.getWatermark(EV_READ), bev.getWatermark(EV_WRITE)], [{ low: 0, high: 0 }, { low: 0, high: 0 }]);
    assertEquals([bev.input.length, bev.output.length, bev.context, bev.priority], [0, 0, undefined, 0]);
    assertStrictEquals(bev.base, base);
    assertStrictEquals(bev.getCallbacks(), made.record.callbacks);
    bev.setCallbacks(null);
    assertEquals(bev.getCallbacks(), null);
    assertEquals(await made.during(10), []);
    await made.end();
  });

  it("freezes the back of its input and the front of its output for the user", async () => {
    const made = await rig();
    const { bev } = made;
    assertEquals(codeOf(() => bev.input.add("x")), "EV_FROZEN");
    bev.write("abc");
    assertEquals(codeOf(() => bev.output.drain(1)), "EV_FROZEN");
    assertEquals(codeOf(() => bev.output.prepend("x")), "EV_FROZEN");
    assertEquals(codeOf(() => bev.output.remove(new Uint8Array(1))), "EV_FROZEN");
    bev.output.add("def");
    bev.enable(EV_READ);
    made.peer.send("ghi");
    made.record.drains = false;
    await made.during(5);
    assertEquals([made.peerReceives(), bev.input.toString()], ["abcdef", "ghi"]);
    bev.input.drain(1);
    bev.input.prepend("G");
    assertEquals(bev.input.toString(), "Ghi");
    await made.end();
  });

  it("refuses unknown options, and UNLOCK without DEFER", () => {
    const { base } = world();
    for (const options of [-1, 16, 1.5, BEV_OPT_UNLOCK_CALLBACKS]) {
      assertThrows(() => new SocketBufferEvent(base, null, options), RangeError);
    }
    for (
      const options of [
        BEV_OPT_THREADSAFE,
        BEV_OPT_DEFER_CALLBACKS | BEV_OPT_UNLOCK_CALLBACKS,
        BEV_OPT_CLOSE_ON_FREE | BEV_OPT_THREADSAFE,
      ]
    ) new SocketBufferEvent(base, null, options).free();
    assertThrows(() => new SocketBufferEvent(base, {} as unknown as null), TypeError);
    base.free();
    assertEquals(codeOf(() => new SocketBufferEvent(base, null)), "EV_FREED");
  });

  it("reads nothing until it is told to: bytes wait, bounded", async () => {
    const made = await rig();
    for (let ms = 0; ms < 50; ms++) {
      made.peer.send(new Uint8Array(65_536));
      assertEquals(await made.during(1), []);
    }
    assert(made.bev.socket !== null);
    assert(connectionOf(made.bev.socket).available <= RECEIVE_LIMIT + WINDOW_BYTES);
    assertEquals(made.bev.input.length, 0);
    await made.end();
  });
});

describe("enable() and disable() of reading (V2)", () => {
  it("with waiting input runs no callback", async () => {
    const made = await rig();
    const { bev, peer, record } = made;
    record.drains = false;
    bev.enable(EV_READ);
    peer.send("abc");
    assertEquals(await made.during(5), ["read 3"]);
    bev.disable(EV_READ);
    bev.enable(EV_READ);
    assertEquals(await made.during(5), []);
    await made.end();
  });

  it("delivers bytes that have waited at the socket", async () => {
    const made = await rig();
    made.peer.send("abc");
    assertEquals(await made.during(5), []);
    made.bev.enable(EV_READ);
    assertEquals([await made.during(5), made.record.received.toString()], [["read 3"], "abc"]);
    await made.end();
  });

  it("disable() in the read callback stops it at once", async () => {
    const made = await rig();
    const { bev, peer, record } = made;
    bev.enable(EV_READ);
    record.on.read = (bev) => bev.disable(EV_READ);
    peer.send(pattern(40_000));
    await made.still(5);
    assertEquals([await made.during(5), bev.enabled], [["read 16384"], EV_WRITE]);
    record.on = {};
    bev.enable(EV_READ);
    assertEquals(await made.during(5), ["read 16384", "read 7232"]);
    assertEquals(record.received.toUint8Array(), pattern(40_000));
    await made.end();
  });

  it("gets its flags at each call: unknown flags are a RangeError", async () => {
    const made = await rig();
    const { bev } = made;
    for (const what of [0, EV_TIMEOUT, EV_READ | EV_CLOSED, EV_WRITE | EV_TIMEOUT, 1.5, NaN]) {
      assertThrows(() => bev.enable(what), RangeError);
      assertThrows(() => bev.disable(what), RangeError);
      assertThrows(() => bev.trigger(what), RangeError);
      assertThrows(() => bev.flush(what, 0), RangeError);
      assertThrows(() => bev.setWatermark(what, 0, 0), RangeError);
      assertThrows(() => bev.getWatermark(what), RangeError);
    }
    assertThrows(() => bev.getWatermark(EV_READ | EV_WRITE), RangeError);
    for (const wrong of [-1, 1.5, NaN]) {
      assertThrows(() => bev.setWatermark(EV_READ, wrong, 0), RangeError);
      assertThrows(() => bev.setWatermark(EV_READ, 0, wrong), RangeError);
      assertThrows(() => bev.setMaxSingleRead(wrong), RangeError);
      assertThrows(() => bev.setMaxSingleWrite(wrong), RangeError);
    }
    for (const wrong of [-1, NaN, Infinity]) {
      assertThrows(() => bev.setTimeouts(wrong, null), RangeError);
      assertThrows(() => bev.setTimeouts(null, wrong), RangeError);
    }
    assertThrows(() => bev.setTimeouts("1" as unknown as number, null), TypeError);
    assertThrows(() => bev.setWatermark(EV_READ, "1" as unknown as number, 0), TypeError);
    await made.end();
  });
});

describe("a read (V4)", () => {
  it("takes 16,384 bytes at most: 60,000 bytes and a FIN come as 16384, 16384, 16384, 10848, EOF", async () => {
    const made = await rig();
    made.peer.send(pattern(60_000));
    made.peer.shutdown();
    await made.still(50);
    made.bev.enable(EV_READ);
    assertEquals(await made.during(10), ["read 16384", "read 16384", "read 16384", "read 10848", "event READING|EOF"]);
    assertEquals(made.record.received.toUint8Array(), pattern(60_000));
    await made.end();
  });

  it("takes as much as setMaxSingleRead() says; 0 is the default", async () => {
    const made = await rig();
    const { bev, peer } = made;
    peer.send(pattern(1000));
    await made.still(5);
    bev.setMaxSingleRead(400);
    bev.enable(EV_READ);
    assertEquals(await made.during(5), ["read 400", "read 400", "read 200"]);
    bev.setMaxSingleRead(0);
    peer.send(pattern(20_000));
    await made.still(5);
    assertEquals(await made.during(5), ["read 16384", "read 3616"]);
    bev.setMaxSingleRead(1_000_000);
    peer.send(pattern(60_000));
    await made.still(5);
    assertEquals(await made.during(5), ["read 60000"]);
    await made.end();
  });

  it("of input that is not drained is reported again at the next arrival, with the larger length", async () => {
    const made = await rig();
    made.record.drains = false;
    made.bev.enable(EV_READ);
    made.peer.send("abc");
    assertEquals(await made.during(5), ["read 3"]);
    assertEquals(await made.during(50), []);
    made.peer.send("defg");
    assertEquals(await made.during(5), ["read 7"]);
    await made.end();
  });

  it("lets other events have their turns between two reads of one arrival", async () => {
    const made = await rig();
    const { base, bev, peer, record } = made;
    peer.send(pattern(32_768));
    await made.still(5);
    bev.enable(EV_READ);
    record.on.read = () => base.timer(() => record.lines.push("other")).activate(EV_TIMEOUT);
    assertEquals(await made.during(5), ["read 16384", "other", "read 16384", "other"]);
    await made.end();
  });
});

describe("the end of file (V5)", () => {
  it("comes after all data, with reading disabled before the callback and writing still enabled", async () => {
    const made = await rig();
    const { bev, peer, record } = made;
    let enabled = -1;
    record.on.event = (bev) => {
      enabled = bev.enabled;
      bev.write("answer");
    };
    bev.enable(EV_READ);
    peer.send("question");
    peer.shutdown();
    assertEquals(await made.during(10), ["read 8", "event READING|EOF", "write 0"]);
    assertEquals([enabled, made.peerReceives(), record.errors], [EV_WRITE, "answer", [undefined]]);
    await made.end();
  });

  it("is reported again when reading is enabled again", async () => {
    const made = await rig();
    made.bev.enable(EV_READ);
    made.peer.shutdown();
    assertEquals(await made.during(10), ["event READING|EOF"]);
    assertEquals(await made.during(10), []);
    made.bev.enable(EV_READ);
    assertEquals(await made.during(10), ["event READING|EOF"]);
    await made.end();
  });

  it("is the only callback if there is less input than the low watermark; the bytes are in the input", async () => {
    const made = await rig();
    made.bev.setWatermark(EV_READ, 100, 0);
    made.bev.enable(EV_READ);
    made.peer.send("leftover");
    made.peer.shutdown();
    assertEquals(await made.during(10), ["event READING|EOF"]);
    assertEquals(made.bev.input.toString(), "leftover");
    await made.end();
  });

  it("is not noticed while reading is not enabled", async () => {
    const made = await rig();
    made.peer.shutdown();
    assertEquals(await made.during(50), []);
    await made.end();
  });

  it("of both directions is also EOF", async () => {
    const made = await rig();
    made.bev.enable(EV_READ);
    made.bev.write("bye");
    made.bev.shutdown();
    made.peer.shutdown();
    const calls = await made.during(10);
    assertEquals(calls.sort(), ["event READING|EOF", "write 0"]);
    assertEquals(made.peerReceives(), "bye");
    await made.end();
  });
});

describe("errors (V6)", () => {
  it("found by reading are READING|ERROR with the error, after the data; reading is disabled", async () => {
    const made = await rig();
    const { bev, peer, record } = made;
    peer.send("last");
    await made.still(5);
    peer.reset();
    await made.still(5);
    bev.enable(EV_READ);
    assertEquals(await made.during(10), ["read 4", "event READING|ERROR"]);
    assertEquals([record.errors[0]?.code, bev.enabled], ["ECONNRESET", EV_WRITE]);
    assertEquals(await made.during(10), []);
    await made.end();
  });

  it("found by writing are WRITING|ERROR with the error; writing is disabled, and the output kept", async () => {
    const made = await rig();
    const { bev, peer, record } = made;
    peer.reset();
    assertEquals(await made.during(5), [], "nobody reads or writes");
    bev.write("lost");
    assertEquals(await made.during(5), ["event WRITING|ERROR"]);
    assertEquals([record.errors[0]?.code, bev.enabled, bev.output.length], ["ECONNRESET", 0, 4]);
    bev.enable(EV_WRITE);
    assertEquals(await made.during(5), ["event WRITING|ERROR"]);
    await made.end();
  });

  it("for a writer are EPIPE after both sides have ended", async () => {
    const made = await rig();
    made.peer.shutdown();
    made.bev.socket?.shutdown();
    await made.still(10);
    made.bev.write("lost");
    assertEquals(await made.during(5), ["event WRITING|ERROR"]);
    assertEquals(made.record.errors[0]?.code, "EPIPE");
    await made.end();
  });

  it("in both directions give one event each", async () => {
    const made = await rig();
    await made.block();
    made.bev.enable(EV_READ);
    made.bev.write("waits");
    assertEquals(await made.during(5), []);
    made.peer.reset();
    const calls = await made.during(5);
    assertEquals(calls.sort(), ["event READING|ERROR", "event WRITING|ERROR"]);
    assertEquals(made.bev.enabled, 0);
    await made.end();
  });

  it("of a socket that its owner has closed are silent for a reader, and an error for a writer", async () => {
    const made = await rig();
    made.bev.enable(EV_READ);
    made.bev.socket?.close();
    assertEquals(await made.during(5), []);
    made.bev.disable(EV_READ);
    made.bev.enable(EV_READ);
    made.bev.write("lost");
    assertEquals(await made.during(5), ["event WRITING|ERROR"]);
    assertEquals(made.record.errors[0]?.code, "EPIPE");
    await made.end();
  });
});

describe("the low watermark of reading (V8)", () => {
  it("is the least length for the read callback", async () => {
    const made = await rig();
    const { bev, peer } = made;
    bev.setWatermark(EV_READ, 10, 0);
    assertEquals(bev.getWatermark(EV_READ), { low: 10, high: 0 });
    bev.enable(EV_READ);
    peer.send("12345");
    assertEquals(await made.during(5), []);
    peer.send("6789");
    assertEquals(await made.during(5), []);
    peer.send("0");
    assertEquals([await made.during(5), made.record.received.toString()], [["read 10"], "1234567890"]);
    await made.end();
  });

  it("runs no callback when it is lowered", async () => {
    const made = await rig();
    made.bev.setWatermark(EV_READ, 10, 0);
    made.bev.enable(EV_READ);
    made.peer.send("12345");
    await made.during(5);
    made.bev.setWatermark(EV_READ, 0, 0);
    assertEquals(await made.during(5), []);
    made.bev.trigger(EV_READ);
    assertEquals(await made.during(5), ["read 5"]);
    await made.end();
  });
});

describe("the high watermark of reading (V8)", () => {
  it("is never passed: 20 bytes with a mark of 8, drained each time, come as 8, 8, 4", async () => {
    const made = await rig();
    made.bev.setWatermark(EV_READ, 0, 8);
    made.bev.enable(EV_READ);
    made.peer.send(pattern(20));
    assertEquals(await made.during(10), ["read 8", "read 8", "read 4"]);
    assertEquals(made.record.received.toUint8Array(), pattern(20));
    await made.end();
  });

  it("is reported once if nobody drains, and reading goes on after a drain, from outside too", async () => {
    const made = await rig();
    const { bev, peer, record } = made;
    record.drains = false;
    bev.setWatermark(EV_READ, 0, 8);
    bev.enable(EV_READ);
    peer.send(pattern(20));
    assertEquals(await made.during(50), ["read 8"]);
    bev.input.drain(3);
    assertEquals(await made.during(50), ["read 8"], "3 more");
    bev.input.drain(8);
    assertEquals(await made.during(50), ["read 8"]);
    bev.input.drain(8);
    assertEquals(await made.during(50), ["read 1"]);
    await made.end();
  });

  it("stops the peer", async () => {
    const made = await rig();
    const { bev, peer, record } = made;
    record.drains = false;
    bev.setWatermark(EV_READ, 0, 1000);
    bev.enable(EV_READ);
    let sent = 0;
    for (let ms = 0; ms < 100; ms++) {
      const n = peer.send(pattern(50_000, sent));
      if (n > 0) sent += n;
      await made.during(1);
    }
    assert(sent < 5 * 65_536, `${sent}`);
    assertEquals(bev.input.length, 1000);
    // All bytes arrive when the input is drained.
    record.drains = true;
    bev.readBuffer(record.received);
    for (let ms = 0; ms < 500 && record.received.length < sent; ms++) await made.during(1);
    assertEquals(record.received.toUint8Array(), pattern(sent));
    await made.end();
  });

  it("lowered below the length suspends without a callback, set to 0 resumes", async () => {
    const made = await rig();
    const { bev, peer, record } = made;
    record.drains = false;
    bev.enable(EV_READ);
    peer.send(pattern(20));
    assertEquals(await made.during(5), ["read 20"]);
    bev.setWatermark(EV_READ, 0, 10);
    peer.send(pattern(20));
    assertEquals(await made.during(20), []);
    bev.setWatermark(EV_READ, 0, 0);
    assertEquals(await made.during(5), ["read 40"]);
    await made.end();
  });

  it("drained inside the callback suspends nothing", async () => {
    const made = await rig();
    const { bev, peer, record } = made;
    record.drains = false;
    record.on.read = (bev) => bev.input.drain(bev.input.length - 1);
    bev.setWatermark(EV_READ, 0, 8);
    bev.enable(EV_READ);
    peer.send(pattern(30));
    assertEquals(await made.during(10), ["read 8", "read 8", "read 8", "read 8", "read 2"]);
    await made.end();
  });

  it("and disable() suspend reading independently (V7)", async () => {
    const made = await rig();
    const { bev, peer, record } = made;
    record.drains = false;
    bev.setWatermark(EV_READ, 0, 8);
    bev.enable(EV_READ);
    peer.send(pattern(30));
    assertEquals(await made.during(5), ["read 8"]);
    bev.disable(EV_READ);
    bev.input.drain(8);
    assertEquals(await made.during(5), [], "disabled");
    bev.enable(EV_READ);
    assertEquals(await made.during(5), ["read 8"]);
    bev.disable(EV_READ);
    bev.enable(EV_READ);
    assertEquals([await made.during(5), bev.enabled], [[], EV_READ | EV_WRITE], "suspended");
    bev.input.drain(8);
    assertEquals(await made.during(5), ["read 8"]);
    await made.end();
  });

  it("holds the end of file back until the input was drained below it", async () => {
    const made = await rig();
    const { bev, peer, record } = made;
    record.drains = false;
    bev.setWatermark(EV_READ, 0, 8);
    bev.enable(EV_READ);
    peer.send("12345678");
    peer.shutdown();
    assertEquals(await made.during(20), ["read 8"]);
    bev.input.drain(1);
    assertEquals(await made.during(5), ["event READING|EOF"]);
    await made.end();
  });

  it("works with deferred callbacks too", async () => {
    const made = await rig({ options: BEV_OPT_DEFER_CALLBACKS });
    made.bev.setWatermark(EV_READ, 0, 8);
    made.bev.enable(EV_READ);
    made.peer.send(pattern(20));
    assertEquals(await made.during(10), ["read 8", "read 8", "read 4"]);
    await made.end();
  });
});

describe("read(), readBuffer(), write() and writeBuffer() (V17)", () => {
  it("read() gives 0 for an empty input, and copies what there is", async () => {
    const made = await rig();
    const { bev } = made;
    made.record.drains = false;
    const into = new Uint8Array(2);
    assertEquals(bev.read(into), 0);
    bev.enable(EV_READ);
    made.peer.send("abc");
    await made.during(5);
    assertEquals([bev.read(into), into[0], bev.read(into), bev.read(into)], [2, 97, 1, 0]);
    bev.free();
    assertEquals(bev.read(into), 0);
    bev.readBuffer(new EvBuffer());
    await made.end();
  });

  it("writeBuffer() and readBuffer() move all", async () => {
    const made = await rig();
    const { bev } = made;
    const from = new EvBuffer();
    from.add("hello");
    bev.writeBuffer(from);
    assertEquals([from.length, bev.output.length], [0, 5]);
    assertEquals(await made.during(5), ["write 0"]);
    assertEquals(made.peerReceives(), "hello");
    await made.end();
  });

  it("write() after free() throws EV_FREED", async () => {
    const made = await rig();
    made.bev.free();
    assertEquals(codeOf(() => made.bev.write("x")), "EV_FREED");
    assertEquals(codeOf(() => made.bev.writeBuffer(new EvBuffer())), "EV_FREED");
    await made.end();
    await nothingLeft(made);
  });
});
