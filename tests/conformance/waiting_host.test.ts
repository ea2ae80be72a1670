/** The places where clients wait to be accepted, on whichever of Node, Deno and Bun runs this. */

import { conformance } from "./mod.ts";
import { hostName, hostSubject } from "./subjects.ts";

conformance(hostName, hostSubject, ["waiting"]);
