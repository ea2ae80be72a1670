/**
 * Finds out which runtime this is.
 *
 * @module
 */

import { EventError } from "../core/errors.ts";
import type { Runtime } from "../core/runtime.ts";
import { bunRuntime } from "./bun.ts";
import { denoRuntime } from "./deno.ts";
import { nodeRuntime } from "./node.ts";
import { host } from "./shared/host.ts";

/**
 * Returns the runtime that runs this program. Bun and Deno have a `process` too, so they are tested first.
 *
 * @returns The one instance of its adapter
 * @throws {EventError} `EV_UNSUPPORTED` if it is none of the three
 */
export function detectRuntime(): Runtime {
  if (typeof host.Bun?.listen === "function") return bunRuntime();
  if (typeof host.Deno?.listen === "function") return denoRuntime();
  if (typeof host.process?.versions?.node === "string") return nodeRuntime();
  throw new EventError(
    "Cannot choose a runtime: this is not Node, Deno or Bun; give the base a runtime, such as simRuntime()",
    { code: "EV_UNSUPPORTED" },
  );
}
