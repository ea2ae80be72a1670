/** Polling and datagrams on the simulator, which runs the laws on virtual time. */

import { conformance } from "./mod.ts";
import { simSubject } from "./subjects.ts";

conformance("sim", simSubject, ["polling", "datagrams"]);
