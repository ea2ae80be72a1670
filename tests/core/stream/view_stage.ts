// Shared by the tests of views: a bufferevent on a simulated connection with a loop that runs, and
// a plain socket as its peer.

import { assertEquals, assertRejects } from "@std/assert";
import type { EventError } from "../../../core/errors.ts";
import { EVLOOP_NO_EXIT_ON_EMPTY } from "../../../core/flags.ts";
import { type Rig, rig, type RigOptions } from "../bufferevent/rig.ts";
import "../socket/checked.ts";

/** A rig whose loop runs by itself. */
class ViewStage {
  readonly rig: Rig;
  readonly #looping: Promise<unknown>;

  constructor(made: Rig) {
    this.rig = made;
    this.#looping = made.base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
  }

  /** Advances time until a promise settles. */
  run<T>(promise: Promise<T>): Promise<T> {
    return this.rig.sim.run(promise);
  }

  /** Lets time pass. */
  pass(ms: number): Promise<void> {
    return this.rig.sim.advance(ms);
  }

  /** Lets the peer send, and waits for the arrival. */
  async peerSends(...pieces: (string | Uint8Array)[]): Promise<void> {
    for (const piece of pieces) {
      const bytes = typeof piece === "string" ? new TextEncoder().encode(piece) : piece;
      assertEquals(this.rig.peer.send(bytes), bytes.length);
      await this.pass(5);
    }
  }

  /** The code with which a promise rejects. */
  async codeOf(promise: Promise<unknown>): Promise<string> {
    const settled = promise.then(() => null, (error) => error as EventError);
    await this.run(settled);
    return (await assertRejects(() => promise) as EventError).code;
  }

  /** Stops the loop, frees everything, and fails if something is left. */
  async end(): Promise<void> {
    this.rig.base.loopBreak();
    await this.run(this.#looping);
    await this.rig.end();
  }
}

/** Makes a stage. The callbacks of the rig are recorded. */
export async function viewStage(options: RigOptions = {}): Promise<ViewStage> {
  return new ViewStage(await rig(options));
}
