/** The laws of `serve()` on a network of coupled `stream.Duplex` pairs. */

import { conformance } from "./mod.ts";
import { duplexSubject } from "./subjects.ts";

conformance("duplex", duplexSubject, ["serving", "limits", "waiting"]);
