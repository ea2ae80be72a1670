/** The laws of the seam on a network of coupled `stream.Duplex` pairs: a fifth adapter, over the streams of Node, Deno and Bun. */

import { conformance } from "./mod.ts";
import { duplexSubject } from "./subjects.ts";

conformance("duplex", duplexSubject, ["clock", "seam", "system", "processes"]);
