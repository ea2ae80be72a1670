// Overlapped operations in random sequences: each completes exactly once, in its order, and no byte is lost or doubled.

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import fc from "fast-check";
import { CompletionPort } from "../../../core/api/completion_port.ts";
import { Overlapped } from "../../../core/api/overlapped.ts";
import { pattern } from "../socket/pairs.ts";
import { Stage } from "./stage.ts";

type Step =
  | { do: "send" | "receive"; bytes: number; callback: boolean }
  | { do: "advance"; ms: number }
  | { do: "finish" | "close" | "reset" };

const bytes = fc.oneof(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 200_000 }));
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant("send" as const), bytes, callback: fc.boolean() }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("receive" as const), bytes, callback: fc.boolean() }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("advance" as const), ms: fc.nat({ max: 10 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("finish" as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("close" as const, "reset" as const) }) },
);

/** One operation, and its completions. */
interface Begun {
  readonly kind: "send" | "receive";
  readonly buffer: Uint8Array;
  readonly overlapped: Overlapped;
  calls: number;
  packets: number;
  ended: { bytes: number; code: string } | undefined;
}

async function play(steps: readonly Step[], seed: number): Promise<void> {
  const stage = new Stage({ seed, faults: { jitterMs: 2, segmentCut: 0.3 } });
  const [sender, receiver] = await stage.pair();
  const port = new CompletionPort<string>(stage.base);
  port.associate(sender, "send");
  port.associate(receiver, "receive");
  const all: Begun[] = [];
  const order: Begun[] = [];
  const stop = new AbortController();
  const taker = async (): Promise<void> => {
    for (;;) {
      const completion = await port.wait(undefined, { signal: stop.signal });
      const begun = all.find(({ overlapped }) => overlapped === completion?.overlapped) as Begun;
      assertEquals(completion?.key, begun.kind);
      begun.packets++;
      begun.ended = { bytes: completion?.bytes as number, code: completion?.error?.code ?? "" };
      order.push(begun);
    }
  };
  // Two waiters: each completion goes to one.
  const takers = [taker().catch(() => {}), taker().catch(() => {})];
  let begunBytes = 0;
  let over = false;
  for (const step of steps) {
    if (over && step.do !== "advance") continue;
    switch (step.do) {
      case "send":
      case "receive": {
        const buffer = step.do === "send" ? pattern(step.bytes, begunBytes) : new Uint8Array(step.bytes);
        const begun: Begun = {
          kind: step.do,
          buffer,
          overlapped: step.callback ? new Overlapped(() => void begun.calls++) : new Overlapped(),
          calls: step.callback ? 0 : 1,
          packets: 0,
          ended: undefined,
        };
        all.push(begun);
        if (step.do === "send") {
          begunBytes += step.bytes;
          sender.sendOverlapped(buffer, begun.overlapped);
        } else receiver.recvOverlapped(buffer, begun.overlapped);
        break;
      }
      case "advance":
        await stage.sim.advance(step.ms);
        break;
      case "finish":
        // Not before the last send was taken completely.
        if (all.every(({ kind, overlapped }) => kind !== "send" || !overlapped.pending)) sender.shutdown();
        break;
      default:
        receiver[step.do]();
        over = true;
    }
  }
  await stage.sim.advance(50);
  receiver.close();
  sender.close();
  await stage.sim.advance(50);
  stop.abort();
  await Promise.all(takers);

  for (const { overlapped, calls, packets } of all) {
    assertEquals([overlapped.pending, calls, packets], [false, 1, 1], "exactly one completion each");
  }
  for (const kind of ["send", "receive"]) {
    const begun = all.filter((each) => each.kind === kind);
    const completed = order.filter((each) => each.kind === kind);
    assert(begun.every((each, i) => completed[i] === each), `${kind}: in the order of the calls`);
  }
  let at = 0;
  for (const { kind, buffer, ended } of all) {
    if (kind === "send") {
      if (ended?.code === "") assertEquals(ended.bytes, buffer.length, "a send completes whole");
      continue;
    }
    const n = ended?.bytes ?? 0;
    assert(buffer.subarray(0, n).every((byte, i) => byte === pattern(1, at + i)[0]), "the bytes in their order");
    assert(buffer.subarray(n).every((byte) => byte === 0), "nothing behind what was received");
    at += n;
  }
  assert(at <= begunBytes);
  port.close();
  await stage.end();
}

describe("overlapped operations", () => {
  it("complete exactly once, in their order, whatever happens", async () => {
    const script = fc.array(step, { minLength: 3, maxLength: 30, size: "max" });
    await fc.assert(fc.asyncProperty(script, fc.nat({ max: 1000 }), play), { numRuns: 60 });
  });
});
