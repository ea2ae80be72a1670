/** Keep-alive, heartbeats, reconnecting, proxies and certificates by name on the simulator. */

import { conformance } from "./mod.ts";
import { simSubject } from "./subjects.ts";

conformance("sim", simSubject, ["links", "proxies", "certificates"]);
