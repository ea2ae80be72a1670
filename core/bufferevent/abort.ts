/** The signal of a bufferevent: aborted when the connection is over. */

import { EventError } from "../errors.ts";
import type { AbortSignalLike } from "../runtime.ts";

/** An `AbortSignal`: the runtime's own type if its types are known. */
export type HostAbortSignal = typeof globalThis extends { AbortSignal: { prototype: infer Signal } }
  ? AbortSignalLike & Signal
  : AbortSignalLike;

interface AbortGlobals {
  AbortController?: new () => { readonly signal: HostAbortSignal; abort(reason: unknown): void };
}

/** Makes the signal, and aborts it. */
export class AbortSource {
  private readonly controller: InstanceType<NonNullable<AbortGlobals["AbortController"]>>;

  /** @throws {EventError} `EV_UNSUPPORTED` if the runtime has no `AbortController` */
  constructor() {
    const { AbortController } = globalThis as AbortGlobals;
    if (AbortController === undefined) {
      throw new EventError("Cannot give a signal: the runtime has no AbortController", { code: "EV_UNSUPPORTED" });
    }
    this.controller = new AbortController();
  }

  /** The signal. */
  get signal(): HostAbortSignal {
    return this.controller.signal;
  }

  /** Aborts it. A second call does nothing. */
  abort(reason: EventError): void {
    this.controller.abort(reason);
  }
}
