/** `serve()`, `connect()` and event bases on the runtime under test. */

import { connect, EventBase, type EventBaseOptions, type Runtime, serve } from "../../core/mod.ts";

/** The functions, bound to a runtime. */
export interface On {
  readonly serve: typeof serve;
  readonly connect: typeof connect;
  newBase(options?: EventBaseOptions): EventBase;
}

/** Binds the functions to a runtime. */
export function on(runtime: Runtime): On {
  return {
    serve: (options, callbacks) => serve(options.base === undefined ? { runtime, ...options } : options, callbacks),
    connect: (options, callbacks) => connect(options.base === undefined ? { runtime, ...options } : options, callbacks),
    newBase: (options) => new EventBase({ runtime, ...options }),
  };
}
