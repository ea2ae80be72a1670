/** Connecting to a name with several addresses, over the real network, on whichever of Node, Deno and Bun runs this. */

import { conformance } from "./mod.ts";
import { hostName, hostSubject } from "./subjects.ts";

conformance(hostName, hostSubject, ["names"]);
