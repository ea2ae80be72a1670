/**
 * As much of what every runtime has as the adapters use. Written by hand, so that no public type needs the types of a runtime.
 *
 * @module
 */

import type { AbortSignalLike } from "../../core/runtime.ts";
import type { BunHost } from "./bun.ts";
import type { DenoHost } from "./deno.ts";
import type { NodeProcess } from "./node.ts";

/** The global object. */
export interface HostGlobals {
  readonly process?: NodeProcess;
  readonly Bun?: BunHost;
  readonly Deno?: DenoHost;
  readonly performance: { now(): number };
  setTimeout(fn: () => void, ms: number): HostTimer;
  clearTimeout(timer: HostTimer): void;
  setImmediate(fn: () => void): unknown;
  queueMicrotask(fn: () => void): void;
  readonly console: { error(...values: unknown[]): void };
  readonly AbortController: new () => HostAbortController;
}

/** What `setTimeout` gives; on Deno and Bun too. */
export interface HostTimer {
  unref(): unknown;
}

/** An `AbortController`. */
export interface HostAbortController {
  readonly signal: AbortSignalLike;
  abort(reason?: unknown): void;
}
