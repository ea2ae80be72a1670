/** Certificates for tests, made with the `openssl` command: an authority, and certificates that it has signed. */

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Certificates } from "./subject.ts";

const LEAF = "basicConstraints=CA:FALSE\n";
const NAMES = `subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n${LEAF}`;

function openssl(...args: string[]): void {
  execFileSync("openssl", args, { stdio: "pipe" });
}

function newKey(file: string): string[] {
  return ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", file];
}

/**
 * Makes an authority and a leaf in a directory. Rustls does not accept a self-signed leaf.
 *
 * @param directory Where the files are put: `NAME-ca.pem`, `NAME.pem`, `NAME.key`
 * @param name The name of the files
 * @param days The days for which the leaf is valid; a negative number for one that has expired
 * @param extensions The extensions of the leaf
 * @returns The texts, or undefined if there is no `openssl`
 */
export function makeCertificates(
  directory: string,
  name: string = "test",
  days: number = 30,
  extensions: string = NAMES,
): Certificates | undefined {
  const file = (suffix: string): string => join(directory, `${name}${suffix}`);
  try {
    execFileSync("openssl", ["version"], { stdio: "pipe" });
  } catch {
    return undefined;
  }
  openssl(
    ...["req", "-x509", ...newKey(file("-ca.key")), "-out", file("-ca.pem"), "-days", "30", "-subj", `/CN=${name} CA`],
    ...["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"],
  );
  const leaf = makeLeaf(directory, name, name, "localhost", days, extensions);
  return { ca: readFileSync(file("-ca.pem"), "utf8"), ...leaf };
}

/**
 * Makes one more leaf.
 *
 * @param directory Where the files are put: `NAME.pem`, `NAME.key`
 * @param authority The name of {@linkcode makeCertificates}
 * @param name The name of the files
 * @param subject The subject of the certificate, and without `extensions` the name that it is for
 * @param days The days for which it is valid
 * @param extensions Its extensions
 * @returns The texts
 */
export function makeLeaf(
  directory: string,
  authority: string,
  name: string,
  subject: string,
  days: number = 30,
  extensions: string = `subjectAltName=DNS:${subject}\n${LEAF}`,
): { cert: string; key: string } {
  const file = (suffix: string): string => join(directory, `${name}${suffix}`);
  const ca = (suffix: string): string => join(directory, `${authority}-ca${suffix}`);
  openssl("req", ...newKey(file(".key")), "-out", file(".csr"), "-subj", `/CN=${subject}`);
  writeFileSync(file(".ext"), extensions);
  openssl(
    ...["x509", "-req", "-in", file(".csr"), "-CA", ca(".pem"), "-CAkey", ca(".key"), "-set_serial", "1"],
    ...["-days", String(days), "-extfile", file(".ext"), "-out", file(".pem")],
  );
  return { cert: readFileSync(file(".pem"), "utf8"), key: readFileSync(file(".key"), "utf8") };
}
