/** Closing, layers, pairs and pipes on the simulator. */

import { conformance } from "./mod.ts";
import { simSubject } from "./subjects.ts";

conformance("sim", simSubject, ["layers"]);
