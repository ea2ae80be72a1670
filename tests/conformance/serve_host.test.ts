/** `serve()` over the real network: limits, lines, timeouts, and its end, on whichever of Node, Deno and Bun runs this. */

import { conformance } from "./mod.ts";
import { hostName, hostSubject } from "./subjects.ts";

conformance(hostName, hostSubject, ["limits"]);
