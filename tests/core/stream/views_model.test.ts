// Random runs of views. The peer sends any pieces; views are opened and left; watermarks change;
// reading is switched off and on; pauses and the end come at any time. The items of the views and
// the rest of the input are the sent bytes, in order, once. A view without a read keeps its bound,
// and nothing is left open at the end.

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { EV_READ, EVBUFFER_EOL_LF } from "../../../core/flags.ts";
import type { View } from "../../../core/views/views.ts";
import { lengthPrefixed } from "../../../core/views/frames.ts";
import { EvBuffer } from "../../../core/buffer/evbuffer.ts";
import { join, receiveAll } from "../socket/pairs.ts";
import { viewStage } from "./view_stage.ts";

const RUNS = 60;
const MAX_LINE = 300;

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("send" as const), n: fc.integer({ min: 1, max: 400 }) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant("ask" as const), n: fc.integer({ min: 1, max: 20 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("leave" as const), n: fc.constant(0) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("high" as const), n: fc.integer({ min: 0, max: 500 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("low" as const), n: fc.integer({ min: 0, max: 8 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("stop" as const), n: fc.constant(0) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("start" as const), n: fc.constant(0) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("wait" as const), n: fc.integer({ min: 1, max: 10 }) }) },
);

const kinds = ["chunks", "lines", "frames", "batches", "stream"] as const;
type Kind = typeof kinds[number];
const codec = lengthPrefixed({ prefixBytes: 1 });

/** Messages in the format that a kind of view decodes. */
function encode(kind: Kind, messages: readonly Uint8Array[]): Uint8Array {
  const out = new EvBuffer();
  for (const message of messages) {
    if (kind === "frames") codec.encode(out, message);
    else {
      out.add(message);
      if (kind !== "chunks") out.add("\n");
    }
  }
  return out.toUint8Array();
}

/** The items of the view, in the same format. */
function given(kind: Kind, items: readonly Uint8Array[]): Uint8Array {
  return kind === "stream" ? join(items) : encode(kind, items);
}

/** A stream that is cancelled just after it has taken the requested bytes. */
const cancelled: [Kind, ReturnType<typeof Uint8Array.of>[], { do: "send" | "ask" | "high" | "wait"; n: number }[]] = [
  "stream",
  [new Uint8Array(1)],
  [
    { do: "send", n: 1 },
    { do: "send", n: 1 },
    { do: "ask", n: 1 },
    { do: "high", n: 1 },
    { do: "wait", n: 1 },
    { do: "ask", n: 1 },
  ],
];

/** One view of a kind: reads and records up to `n` items, and can be left. */
interface Asker {
  ask(n: number): Promise<void>;
  leave(): Promise<unknown>;
}

describe("views", () => {
  it("give all bytes in order and once, whatever happens between", async () => {
    const message = fc.uint8Array({ maxLength: 200 }).map((bytes) => bytes.map((byte) => byte === 10 ? 11 : byte));
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...kinds),
        fc.array(message, { maxLength: 30 }),
        fc.array(step, { maxLength: 40, size: "max" }),
        async (kind, messages, steps) => {
          const stage = await viewStage();
          const { bev, peer, record } = stage.rig;
          record.drains = false;
          const stream = encode(kind, messages);
          const items: Uint8Array[] = [];
          let sent = 0;
          let ended = false;
          let asker: Asker | null = null;
          let asking: Promise<void> | null = null;
          let settled = true;
          let most = 0;

          const open = (): Asker => {
            if (kind === "stream") {
              const reader = bev.readable.getReader();
              return {
                async ask(n) {
                  for (; n > 0; n--) {
                    const { done, value } = await reader.read();
                    if (done) return void (ended = true);
                    items.push(value);
                  }
                },
                leave: () => reader.cancel(),
              };
            }
            const lines = { eol: EVBUFFER_EOL_LF, maxBytes: MAX_LINE };
            if (kind === "batches") {
              const batches = bev.lines(lines).batches();
              return {
                async ask(n) {
                  while (n > 0) {
                    const { done, value } = await batches.next();
                    if (done === true) return void (ended = true);
                    for (const line of value as Iterable<Uint8Array>) {
                      items.push(line);
                      if (--n === 0) break;
                    }
                  }
                },
                leave: () => batches.return!(),
              };
            }
            const view: View<Uint8Array> = kind === "chunks"
              ? bev[Symbol.asyncIterator]()
              : kind === "lines"
              ? bev.lines(lines)
              : bev.frames(codec);
            return {
              async ask(n) {
                for (; n > 0; n--) {
                  const { done, value } = await view.next();
                  if (done === true) return void (ended = true);
                  items.push(value);
                }
              },
              leave: () => view.return(),
            };
          };
          const ask = (n: number): void => {
            asker ??= open();
            settled = false;
            asking = asker.ask(n).finally(() => settled = true);
          };
          const leave = async (): Promise<void> => {
            await stage.run(Promise.resolve(asker?.leave()));
            if (asking !== null) await stage.run(asking);
            asker = asking = null;
            // A reader that leaves has not seen the end, whatever the view returns.
            ended = false;
          };

          for (const { do: what, n } of steps) {
            if (what === "send") sent += Math.max(peer.send(stream.subarray(sent, sent + n)), 0);
            else if (what === "ask" && settled && !ended) ask(n);
            else if (what === "leave") await leave();
            else if (what === "high") bev.setWatermark(EV_READ, bev.getWatermark(EV_READ).low, n);
            else if (what === "low") bev.setWatermark(EV_READ, n, bev.getWatermark(EV_READ).high);
            else if (what === "stop") bev.disable(EV_READ);
            else if (what === "start") bev.enable(EV_READ);
            else if (what === "wait") await stage.pass(n);
            most = Math.max(most, bev.input.length);
          }
          await leave();
          assert(most <= 65_536);
          // Removes all limits for the rest.
          bev.setWatermark(EV_READ, 0, 0);
          while (sent < stream.length) {
            sent += Math.max(peer.send(stream.subarray(sent)), 0);
            await stage.pass(5);
          }
          peer.shutdown();
          ask(Infinity);
          await stage.run(asking!);
          assert(ended);
          assertEquals(join([given(kind, items), bev.input.toUint8Array()]), stream);
          assertEquals(bev.input.length, 0);
          await stage.end();
        },
      ),
      { numRuns: RUNS, examples: [cancelled] },
    );
  });

  it("end when the bufferevent is closed, freed or reset at any time, after a prefix of the sent bytes", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom("close", "free", "reset", "peer"),
        fc.array(fc.integer({ min: 1, max: 3000 }), { maxLength: 12 }),
        fc.nat({ max: 12 }),
        async (how, sizes, at) => {
          const stage = await viewStage();
          const { bev, peer } = stage.rig;
          const stream = Uint8Array.from({ length: 36_000 }, (_, i) => i % 7 === 6 ? 10 : 97 + (i % 26));
          const items: Uint8Array[] = [];
          const read = (async () => {
            for await (const line of bev.lines({ eol: EVBUFFER_EOL_LF })) items.push(line);
          })().then(() => "done", (error) => (error as { code: string }).code);
          let sent = 0;
          let closed: Promise<unknown> | null = null;
          const end = (): void => {
            if (how === "peer") peer.reset();
            else if (how === "close") closed = bev.close({ timeoutMs: 50 });
            else bev[how as "free" | "reset"]();
          };
          for (const [i, size] of sizes.entries()) {
            if (i === at) end();
            if (how === "peer" && i >= at) break;
            try {
              sent += Math.max(peer.send(stream.subarray(sent, sent + size)), 0);
            } catch {
              break;
            }
            await stage.pass(i % 3);
          }
          if (at >= sizes.length) end();
          const result = await stage.run(read);
          if (closed !== null) await stage.run(closed);
          assertEquals(result, how === "close" ? "done" : how === "peer" ? "ECONNRESET" : "EV_FREED");
          const got = encode("lines", items);
          assertEquals(got, stream.subarray(0, got.length));
          assert(got.length <= sent);
          await stage.end();
        },
      ),
      { numRuns: RUNS },
    );
  });

  it("write all bytes in order and once through a stream, whatever the peer and the watermarks do", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 0, max: 90_000 }), { maxLength: 12 }),
        fc.array(fc.nat({ max: 20 }), { minLength: 1, maxLength: 8 }),
        fc.constantFrom(0, 1, 1000, 70_000),
        fc.constantFrom(5_000, 70_000, Infinity),
        async (sizes, pauses, high, maxOutput) => {
          const stage = await viewStage();
          const { bev, peer } = stage.rig;
          bev.setWatermark(4, 0, high);
          bev.maxOutputBytes = maxOutput;
          const total = sizes.reduce((sum, n) => sum + n, 0);
          const stream = Uint8Array.from({ length: total }, (_, i) => (i * 31 + (i >> 9)) & 255);
          const writer = bev.writable.getWriter();
          const writing = (async () => {
            let at = 0;
            for (const n of sizes) {
              await writer.write(stream.subarray(at, at + n));
              at += n;
            }
            await writer.close();
          })();
          const got: Uint8Array[] = [];
          for (let i = 0;; i++) {
            await stage.pass(pauses[i % pauses.length] ?? 1);
            await stage.pass(1);
            assert(bev.output.length <= Math.min(maxOutput, 200_000), `${bev.output.length} bytes wait`);
            const { bytes, ended } = receiveAll(peer);
            got.push(bytes);
            if (ended) break;
          }
          await stage.run(writing);
          assertEquals(join(got), stream);
          await stage.end();
        },
      ),
      { numRuns: RUNS },
    );
  });
});
