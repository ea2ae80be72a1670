/** The laws on a network of coupled `stream.Duplex` pairs: a fifth adapter, over the streams of Node, Deno and Bun. */

import { duplexNetwork } from "../../bridges/duplex/network.ts";
import { detectRuntime } from "../../mod.ts";
import { conformance } from "./mod.ts";

const runtime = duplexNetwork(detectRuntime());

conformance("duplex", () => ({ runtime, ownNetwork: true }));
