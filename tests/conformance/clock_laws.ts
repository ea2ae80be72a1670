/** Law 7: the clock, timers and deferred functions. */

import { it } from "./suite.ts";
import { assert, assertEquals, assertGreaterOrEqual, assertLess } from "./assert.ts";
import { scene } from "./scene.ts";
import type { FullSubject } from "./subject.ts";

/** A runtime's timer may be early by this: the core checks again. */
const EARLY_MS = 2;

export function clockLaws(makeSubject: () => FullSubject): void {
  it("never goes back", () =>
    scene(makeSubject(), async (scene) => {
      let last = scene.runtime.now();
      for (let i = 0; i < 1000; i++) {
        const now = scene.runtime.now();
        assertGreaterOrEqual(now, last);
        last = now;
        if (i % 100 === 0) await scene.sleep(1);
      }
    }));

  it("calls timers at their time, and in order", () =>
    scene(makeSubject(), async (scene) => {
      const { runtime } = scene;
      let fired: number[] = [];
      for (;;) {
        // Far enough ahead that no timer is late before all are set: a runtime may run late timers
        // in any order.
        const begin = runtime.now() + 20;
        fired = [];
        const tokens: (object | number)[] = [];
        const all = Promise.all([60, 5, 120, 30, 0.5].map((ms) =>
          new Promise<void>((resolve) => {
            tokens.push(runtime.setTimer(begin + ms, () => {
              fired.push(ms);
              assertGreaterOrEqual(runtime.now() - begin, ms - EARLY_MS);
              resolve();
            }));
          })
        ));
        if (runtime.now() < begin - 19) {
          await all;
          break;
        }
        // The process was blocked in between: try again.
        for (const token of tokens) runtime.clearTimer(token);
      }
      assertEquals(fired, [0.5, 5, 30, 60, 120]);
    }));

  it("calls a timer of the past soon, and not at once", () =>
    scene(makeSubject(), async (scene) => {
      const { runtime } = scene;
      let inside = true;
      const begin = runtime.now();
      await new Promise<void>((resolve) => {
        runtime.setTimer(begin - 1000, () => {
          assert(!inside);
          resolve();
        });
        inside = false;
      });
      assertLess(runtime.now() - begin, 1000);
    }));

  it("forgets a timer that is cleared, also one that has fired", () =>
    scene(makeSubject(), async (scene) => {
      const { runtime } = scene;
      const tokens = [5, 10, 15].map((ms) =>
        runtime.setTimer(runtime.now() + ms, () => assert(false, "it was cleared"))
      );
      for (const token of tokens) runtime.clearTimer(token);
      let fired = 0;
      const token = runtime.setTimer(runtime.now(), () => fired++);
      await scene.sleep(40);
      assertEquals(fired, 1);
      runtime.clearTimer(token);
      runtime.clearTimer(token);
    }));

  it("clears a timer from inside another of the same time", () =>
    scene(makeSubject(), async (scene) => {
      const { runtime } = scene;
      const fired: string[] = [];
      const at = runtime.now() + 10;
      const tokens = ["a", "b"].map((name, i): object | number =>
        runtime.setTimer(at, () => {
          fired.push(name);
          runtime.clearTimer(tokens[1 - i]!);
        })
      );
      await scene.sleep(40);
      assertEquals(fired.length, 1);
    }));

  it("calls a background timer like others while something else goes on", () =>
    scene(makeSubject(), async (scene) => {
      let fired = 0;
      scene.runtime.setTimer(scene.runtime.now() + 5, () => fired++, true);
      await scene.sleep(50);
      assertEquals(fired, 1);
    }));

  it("accepts a timer of many days", () =>
    scene(makeSubject(), async (scene) => {
      const token = scene.runtime.setTimer(scene.runtime.now() + 2 ** 30, () => assert(false, "much too early"));
      await scene.sleep(30);
      scene.runtime.clearTimer(token);
    }));

  it("reports its next poll once: after this call, its promises and deferred functions", () =>
    scene(makeSubject(), async (scene) => {
      const { runtime } = scene;
      const poll = runtime.poll === undefined ? undefined : (fn: () => void): void => runtime.poll?.(fn);
      if (poll === undefined) return;
      const ran: string[] = [];
      await new Promise<void>((resolve) => {
        poll(() => {
          ran.push("polled");
          poll(resolve);
        });
        runtime.defer(() => ran.push("deferred"));
        Promise.resolve().then(() => ran.push("promise"));
        ran.push("call");
      });
      await scene.sleep(20);
      assertEquals(ran, ["call", "promise", "deferred", "polled"]);
    }));

  it("defers to after this call and its promises, once each, in order", () =>
    scene(makeSubject(), async (scene) => {
      const { runtime } = scene;
      const ran: string[] = [];
      await new Promise<void>((resolve) => {
        runtime.defer(() => ran.push("first"));
        runtime.defer(() => ran.push("second"));
        Promise.resolve().then(() => ran.push("promise"));
        runtime.defer(() => {
          ran.push("third");
          runtime.defer(() => {
            ran.push("from inside");
            resolve();
          });
        });
        ran.push("call");
      });
      assertEquals(ran, ["call", "promise", "first", "second", "third", "from inside"]);
    }));
}
