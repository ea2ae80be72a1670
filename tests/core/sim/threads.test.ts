/** Exploring on threads: the messages to the threads, with fake threads. */

import { describe, it } from "node:test";
import { assertEquals, assertRejects } from "@std/assert";
import { type Batch, type BatchResult, exploreInThreads } from "../../../runtimes/sim/threads.ts";

type Listener = (value: never) => void;

/** Answers each batch in a microtask; the first thread fails at its second batch. */
class TestThread {
  static made: TestThread[] = [];
  readonly #listeners = new Map<string, Listener>();
  batches = 0;
  isOver = false;

  constructor() {
    TestThread.made.push(this);
  }

  on(name: string, listener: Listener): void {
    this.#listeners.set(name, listener);
  }

  off(name: string): void {
    this.#listeners.delete(name);
  }

  postMessage(batch: Batch): void {
    this.batches++;
    const fails = this === TestThread.made[0] && this.batches === 2;
    queueMicrotask(() => {
      if (fails) return this.#listeners.get("exit")?.(1 as never);
      const result: BatchResult = { runs: batch.runs, failures: [] };
      this.#listeners.get("message")?.(result as never);
    });
  }

  terminate(): Promise<void> {
    this.isOver = true;
    return Promise.resolve();
  }
}

describe("exploring on threads", () => {
  it("ends all threads when one has failed, also without a number of runs", async () => {
    TestThread.made = [];
    const options = {
      data: { module: "file:///scenario.ts", options: {} },
      runs: Infinity,
      seed: 1,
      seconds: Infinity,
      kinds: 1,
      workers: 3,
      onProgress() {},
    };
    await assertRejects(
      () => exploreInThreads(TestThread, "file:///thread.js", options),
      Error,
      "a thread has ended by itself",
    );
    for (let i = 0; i < 20; i++) await undefined;
    assertEquals(TestThread.made.map(({ isOver }) => isOver), [true, true, true]);
    assertEquals(TestThread.made.every(({ batches }) => batches <= 3), true);
  });
});
