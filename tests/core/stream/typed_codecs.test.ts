// Codecs whose frames have a type: mapCodec(), jsonLines(), frames() and writeFrame().

import { describe, it } from "node:test";
import { assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { EventBase } from "../../../core/api/event_base.ts";
import { bufferEventPair } from "../../../core/api/pair_bufferevent.ts";
import { EvBuffer } from "../../../core/buffer/mod.ts";
import { EV_READ, EV_WRITE } from "../../../core/flags.ts";
import { EventError } from "../../../core/errors.ts";
import { connect, serve } from "../../../core/serve/serve.ts";
import { simRuntime } from "../../../runtimes/sim.ts";
import { type FrameCodec, lengthPrefixed, mapCodec } from "../../../core/views/frames.ts";
import { jsonLines } from "../../../core/views/json.ts";
import { lineCodec } from "../../../core/views/lines.ts";
import { viewStage } from "./view_stage.ts";

interface Point {
  x: number;
}

/** A codec of a program that writes in two steps and can fail between them. */
const points: FrameCodec<Point> = {
  decode(input) {
    const bytes = input.pullup(2);
    if (bytes === null) return null;
    const x = bytes[1] as number;
    input.drain(2);
    return { x };
  },
  encode(output, { x }) {
    output.add("p");
    if (x > 255) throw new RangeError(`too far: ${x}`);
    output.add(Uint8Array.of(x));
  },
};

function buffer(text: string): EvBuffer {
  const all = new EvBuffer();
  all.add(text);
  return all;
}

function fails(fn: () => unknown): EventError {
  return assertThrows(fn, EventError) as EventError;
}

describe("a value that is not a codec", () => {
  // Before any codec was used, because the last used codec is cached as valid.
  it("is refused with a message", () => {
    const [bev] = bufferEventPair(new EventBase({ runtime: simRuntime() }));
    assertThrows(() => bev.writeFrame(null as never, "x"), TypeError, "has no function");
    bev.free();
  });
});

describe("lengthPrefixed() with includesPrefix", () => {
  it("counts the prefix in the length, and not in maxBytes", () => {
    const codec = lengthPrefixed({ prefixBytes: 4, includesPrefix: true, maxBytes: 3 });
    const output = new EvBuffer();
    codec.encode(output, "abc");
    assertEquals(output.toUint8Array(), Uint8Array.of(0, 0, 0, 7, 97, 98, 99));
    assertEquals(codec.decode(output)?.length, 3);
    assertThrows(() => codec.encode(output, "abcd"), RangeError);
    const most = lengthPrefixed({ prefixBytes: 1, includesPrefix: true });
    most.encode(output, new Uint8Array(254));
    assertThrows(() => most.encode(output, new Uint8Array(255)), RangeError);
    assertEquals(most.decode(output)?.length, 254);
  });

  it("refuses a length that is less than that of the prefix, and takes nothing", () => {
    for (const length of [0, 1, 2]) {
      const input = new EvBuffer();
      input.add(Uint8Array.of(0, 0, length));
      const codec = lengthPrefixed({ prefixBytes: 3, includesPrefix: true });
      assertEquals(fails(() => codec.decode(input)).code, "EV_FRAME_INVALID");
      assertEquals(input.length, 3);
    }
  });
});

describe("mapCodec()", () => {
  const numbers = mapCodec(lineCodec({ maxBytes: 5 }), (line) => {
    const text = new TextDecoder().decode(line);
    if (!/^\d+$/.test(text)) throw new Error(`no number: ${text}`);
    return Number(text);
  }, (value) => `${value}`);

  it("decodes and encodes values, with the limits of the inner codec", () => {
    const output = new EvBuffer();
    numbers.encode(output, 42);
    assertEquals(output.toString(), "42\r\n");
    assertStrictEquals(numbers.decode(output), 42);
    assertEquals(numbers.decode(output), null);
    assertThrows(() => numbers.encode(output, 123_456), RangeError);
    assertEquals(fails(() => numbers.decode(buffer("123456"))).code, "EV_LINE_TOO_LONG");
    assertStrictEquals(numbers.decodeEnd?.(buffer("7")), 7);
  });

  it("reports an exception of its function, and takes the frame", () => {
    const input = buffer("x\r\n8\r\n");
    const error = fails(() => numbers.decode(input));
    assertEquals([error.code, (error.cause as Error).message], ["EV_FRAME_INVALID", "no number: x"]);
    assertStrictEquals(numbers.decode(input), 8);
  });

  it("refuses a decoded value that means no frame", () => {
    for (const nothing of [null, undefined]) {
      const codec = mapCodec(lineCodec(), () => nothing, () => "");
      const input = buffer("a\n");
      assertEquals(fails(() => codec.decode(input)).code, "EV_FRAME_INVALID");
      assertEquals(input.length, 0);
    }
  });
});

describe("jsonLines()", () => {
  it("reads lines with LF and CR LF, and writes LF", () => {
    const codec = jsonLines();
    const input = buffer('{"a":[1,"ä"]}\n 2 \r\nfalse\n0\n""\n');
    const found: unknown[] = [];
    for (let value = codec.decode(input); value !== null; value = codec.decode(input)) found.push(value);
    assertEquals(found, [{ a: [1, "ä"] }, 2, false, 0, ""]);
    codec.encode(input, { text: "two\nlines\r" });
    assertEquals(input.toString(), '{"text":"two\\nlines\\r"}\n');
  });

  it("refuses bad JSON, and takes the line", () => {
    for (const bad of ["{", "", "undefined", "null", "01", "'a'", "1 2", "[1,]", '"\u0001"', "NaN"]) {
      const codec = jsonLines();
      const input = buffer(`${bad}\n1\n`);
      assertEquals(fails(() => codec.decode(input)).code, "EV_FRAME_INVALID", bad);
      assertEquals(codec.decode(input), 1);
    }
  });

  it("refuses invalid UTF-8, and accepts U+FFFD itself", () => {
    const input = new EvBuffer();
    input.add(Uint8Array.of(0x22, 0xff, 0x22, 0x0a));
    input.add('"\ufffd"\n');
    const codec = jsonLines();
    assertEquals(fails(() => codec.decode(input)).code, "EV_FRAME_INVALID");
    assertEquals(codec.decode(input), "\ufffd");
  });

  it("bounds a line, complete or not", () => {
    assertEquals(jsonLines({ maxBytes: 3 }).decode(buffer("123\n")), 123);
    for (const line of ["1234\n", "1234"]) {
      assertEquals(fails(() => jsonLines({ maxBytes: 3 }).decode(buffer(line))).code, "EV_LINE_TOO_LONG");
    }
  });

  it("refuses to write values without a form in JSON", () => {
    const cycle: { self?: unknown } = {};
    cycle.self = cycle;
    for (const value of [undefined, null, NaN, () => 1, Symbol("s"), 1n, cycle]) {
      const output = new EvBuffer();
      assertThrows(() => jsonLines().encode(output, value), TypeError);
      assertEquals(output.length, 0);
    }
  });
});

describe("frames() of a codec with a type", () => {
  it("gives its values, and the last line without an end", async () => {
    const stage = await viewStage();
    const view = stage.rig.bev.frames(jsonLines<Point>());
    await stage.peerSends('{"x":1}\n{"x":2}\n{"x"', ":3}");
    stage.rig.peer.shutdown();
    const found: number[] = [];
    await stage.run((async () => {
      for await (const { x } of view) found.push(x);
    })());
    assertEquals(found, [1, 2, 3]);
    await stage.end();
  });

  it("goes on behind a frame that was refused, with the same view or another", async () => {
    const stage = await viewStage();
    const { bev } = stage.rig;
    const view = bev.frames(jsonLines<number>());
    await stage.peerSends("1\nbad\n2\nworse\n3\n");
    assertEquals((await stage.run(view.next())).value, 1);
    assertEquals(await stage.codeOf(view.next()), "EV_FRAME_INVALID");
    assertEquals((await stage.run(view.next())).value, 2);
    assertEquals(await stage.codeOf(view.next()), "EV_FRAME_INVALID");
    const other = bev.frames(jsonLines<number>());
    assertEquals((await stage.run(other.next())).value, 3);
    assertEquals(await stage.codeOf(view.next()), "EV_BUSY");
    await other.return();
    await stage.peerSends("4\n");
    assertEquals((await stage.run(view.next())).value, 4);
    stage.rig.peer.shutdown();
    assertEquals((await stage.run(view.next())).done, true);
    assertEquals((await stage.run(view.next())).done, true);
    await stage.end();
  });

  it("reports the end once if the last lines were refused", async () => {
    const stage = await viewStage();
    const view = stage.rig.bev.frames(jsonLines<number>());
    await stage.peerSends("bad\n", "worse");
    stage.rig.peer.shutdown();
    await stage.pass(5);
    assertEquals(await stage.codeOf(view.next()), "EV_FRAME_INVALID");
    await stage.pass(5);
    assertEquals(await stage.codeOf(view.next()), "EV_FRAME_INVALID");
    assertEquals((await stage.run(view.next())).done, true);
    stage.rig.record.take();
    await stage.pass(5);
    assertEquals(stage.rig.record.take(), []);
    await stage.end();
  });

  it("ends when a codec has refused bytes without taking them", async () => {
    const stage = await viewStage();
    const view = stage.rig.bev.frames(lengthPrefixed({ prefixBytes: 1, maxBytes: 1 }));
    await stage.peerSends("zz");
    assertEquals(await stage.codeOf(view.next()), "EV_FRAME_TOO_LONG");
    assertEquals((await stage.run(view.next())).done, true);
    await stage.end();
  });

  it("restores the callbacks if no frame is requested again", async () => {
    const stage = await viewStage();
    const { bev, record } = stage.rig;
    bev.enable(EV_READ);
    const view = bev.frames(jsonLines<number>()).open();
    await stage.peerSends("bad\n1\n");
    assertEquals(record.take(), []);
    assertEquals(await stage.codeOf(view.next()), "EV_FRAME_INVALID");
    await stage.pass(5);
    assertEquals(record.take(), ["read 2"]);
    await stage.peerSends("2\n");
    assertEquals(record.take(), ["read 2"]);
    await stage.end();
  });
});

describe("writeFrame()", () => {
  it("writes the bytes of the codec, and respects the limits of write()", async () => {
    const stage = await viewStage();
    const { bev } = stage.rig;
    assertEquals(bev.writeFrame(points, { x: 7 }), true);
    assertEquals(bev.output.toUint8Array(), Uint8Array.of(112, 7));
    assertEquals(bev.writeFrame(lengthPrefixed({ prefixBytes: 1 }), "abc"), true);
    assertEquals(bev.output.length, 6);
    bev.setWatermark(EV_WRITE, 0, 8);
    assertEquals(bev.writeFrame(points, { x: 8 }), false);
    assertEquals(bev.output.length, 8);
    bev.maxOutputBytes = 8;
    for (const _ of [1, 2]) {
      assertEquals(bev.writeFrame(points, { x: 9 }), false);
      assertEquals(bev.writeFrame(jsonLines(), "more"), false);
      assertEquals(bev.output.length, 8);
    }
    await stage.pass(5);
    assertEquals(stage.rig.record.errors.map((error) => error?.code), ["ENOBUFS"]);
    await stage.end();
  });

  it("writes nothing if the codec throws half-way", async () => {
    const stage = await viewStage();
    const { bev } = stage.rig;
    assertThrows(() => bev.writeFrame(points, { x: 256 }), RangeError);
    assertThrows(() => bev.writeFrame(jsonLines(), undefined), TypeError);
    assertThrows(() => bev.writeFrame({} as never, "x"), TypeError);
    assertEquals(bev.output.length, 0);
    bev.free();
    assertEquals(fails(() => bev.writeFrame(points, { x: 1 })).code, "EV_FREED");
    await stage.end();
  });

  it("is refused as write() is after shutdown()", async () => {
    const stage = await viewStage();
    stage.rig.bev.shutdown();
    assertEquals(fails(() => stage.rig.bev.writeFrame(points, { x: 1 })).code, "EPIPE");
    await stage.end();
  });
});

describe("a server that speaks lines of JSON", () => {
  it("answers bad JSON and goes on; a handler that does not catch the error ends only its connection", async () => {
    const sim = simRuntime();
    const codec = jsonLines<{ id: number }>({ maxBytes: 100 });
    const reasons: (string | undefined)[] = [];
    const reported: unknown[] = [];
    const server = await sim.run(serve({ runtime: sim, hostname: "127.0.0.1", port: 0 }, {
      async open(bev) {
        const view = bev.frames(codec);
        for (let n = 0;; n++) {
          try {
            const { done, value } = await view.next();
            if (done === true) return;
            bev.writeFrame(codec, { id: value.id + 1 });
          } catch (error) {
            if (n === 0 || (error as EventError).code !== "EV_FRAME_INVALID") throw error;
            bev.writeFrame(codec, { id: -1 });
          }
        }
      },
      close: (_bev, reason) => void reasons.push(reason?.code),
      error: (error) => void reported.push(error),
    }));
    const talk = async (text: string): Promise<string> => {
      const client = await connect({ runtime: sim, hostname: "127.0.0.1", port: server.port });
      client.write(text);
      client.shutdown();
      let all = "";
      for await (const chunk of client) all += new TextDecoder().decode(chunk);
      return all;
    };
    assertEquals(await sim.run(talk('{"id":1}\nbad\n{"id":2}\nbad')), '{"id":2}\n{"id":-1}\n{"id":3}\n{"id":-1}\n');
    assertEquals(await sim.run(talk("bad\n")), "");
    await sim.run(server.close());
    assertEquals([reasons, reported], [[undefined, "EV_FRAME_INVALID"], []]);
    await assertRejects(() => sim.run(connect({ runtime: sim, hostname: "127.0.0.1", port: server.port })));
  });
});
