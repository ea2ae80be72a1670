/**
 * The library on a network of coupled `stream.Duplex` pairs: every group of laws that is not in the
 * other two files.
 */

import { conformance, type Suite, SUITES } from "./mod.ts";
import { duplexSubject } from "./subjects.ts";

const OTHERS: readonly Suite[] = ["clock", "seam", "system", "processes", "serving", "limits", "waiting"];

conformance("duplex", duplexSubject, SUITES.filter((suite) => !OTHERS.includes(suite)));
