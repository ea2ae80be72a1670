/** Connecting through proxies on whichever host runs this. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { detectRuntime } from "../../mod.ts";
import { makeCertificates } from "./certificates.ts";
import { noTls, until } from "./tls_peers.ts";
import { viaLaws } from "./via_laws.ts";

const host = detectRuntime();
const directory = mkdtempSync(join(tmpdir(), "trivent-via-"));
after(() => rmSync(directory, { recursive: true }));
const made = noTls(host) === false ? makeCertificates(directory) : undefined;

viaLaws(() => ({
  runtime: host,
  run: (promise) => promise,
  nothingLeft: () => until(() => host.openHandles === 0, () => `${host.openHandles} handles are open`),
  tls: made === undefined
    ? null
    : { server: { cert: made.cert, key: made.key }, client: { ca: made.ca, serverName: "localhost" } },
}), host.name);
