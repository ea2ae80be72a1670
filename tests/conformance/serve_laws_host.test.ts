/** The laws of `serve()` and `connect()` on whichever of Node, Deno and Bun runs this. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { detectRuntime } from "../../mod.ts";
import { makeCertificates } from "./certificates.ts";
import { serveLaws } from "./serve_laws.ts";

const directory = mkdtempSync(join(tmpdir(), "trivent-"));
after(() => rmSync(directory, { recursive: true }));

const runtime = detectRuntime();
const subject = { runtime, tls: runtime.capabilities.tls ? makeCertificates(directory) : undefined };

serveLaws(runtime.name, () => subject);
