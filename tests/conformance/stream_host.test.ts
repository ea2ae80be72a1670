/** Web streams over the real network of whichever of Node, Deno and Bun runs this. */

import { detectRuntime } from "../../mod.ts";
import { streamLaws } from "./stream_laws.ts";

const runtime = detectRuntime();

streamLaws(
  runtime.name,
  () => ({ runtime, raise() {}, file: { path: "", bytes: new Uint8Array() }, unixPath: () => "" }),
);
