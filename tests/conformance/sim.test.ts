/** The laws of the seam on the simulator, which runs them on virtual time. */

import { conformance } from "./mod.ts";
import { simSubject } from "./subjects.ts";

conformance("sim", simSubject, ["clock", "seam"]);
