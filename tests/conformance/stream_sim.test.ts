/** Web streams over the simulated network, on virtual time. */

import { conformance } from "./mod.ts";
import { streamSimSubject } from "./subjects.ts";

conformance("sim", streamSimSubject, ["streams"]);
