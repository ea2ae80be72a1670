/** The laws of `serve()` and `connect()` on the simulator. */

import { conformance } from "./mod.ts";
import { simSubject } from "./subjects.ts";

conformance("sim", simSubject, ["serving"]);
