/** The laws of the seam on whichever of Node, Deno and Bun runs this. */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after } from "node:test";
import { detectRuntime } from "../../mod.ts";
import { conformance } from "./laws.ts";
import { makeCertificates } from "./certificates.ts";
import { noise, type Subject } from "./scene.ts";

const directory = mkdtempSync(join(tmpdir(), "trivent-"));
const file = { path: join(directory, "file"), bytes: noise(100_000, 1) };
writeFileSync(file.path, file.bytes);
after(() => rmSync(directory, { recursive: true }));

let paths = 0;
const subject: Subject = {
  runtime: detectRuntime(),
  raise: (signal) => void process.kill(process.pid, signal),
  file,
  unixPath: () => join(directory, `socket-${paths++}`),
  tls: makeCertificates(directory),
};

conformance(subject.runtime.name, () => subject);
