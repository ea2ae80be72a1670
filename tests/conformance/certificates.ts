/** Certificates for tests, made with the `openssl` command: an authority, and a server's that it has signed. */

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Certificates } from "./subject.ts";

const NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\nbasicConstraints=CA:FALSE\n";

/**
 * Makes an authority and a leaf in a directory: an authority that signs for itself would not do as a leaf (rustls).
 *
 * @param directory Where the files are put: `NAME-ca.pem`, `NAME.pem`, `NAME.key`
 * @param name What they are called
 * @param days How long the leaf is valid; a negative number for one that has expired
 * @param extensions What the leaf is for
 * @returns The texts, or undefined where there is no `openssl`
 */
export function makeCertificates(
  directory: string,
  name: string = "test",
  days: number = 30,
  extensions: string = NAMES,
): Certificates | undefined {
  const file = (suffix: string): string => join(directory, `${name}${suffix}`);
  const openssl = (...args: string[]): void => void execFileSync("openssl", args, { stdio: "pipe" });
  const newKey = (
    key: string,
  ): string[] => ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key];
  try {
    execFileSync("openssl", ["version"], { stdio: "pipe" });
  } catch {
    return undefined;
  }
  const authority = [
    "-addext",
    "basicConstraints=critical,CA:TRUE",
    "-addext",
    "keyUsage=critical,keyCertSign,cRLSign",
  ];
  openssl(
    "req",
    "-x509",
    ...newKey(file("-ca.key")),
    "-out",
    file("-ca.pem"),
    "-days",
    "30",
    "-subj",
    `/CN=${name} CA`,
    ...authority,
  );
  openssl("req", ...newKey(file(".key")), "-out", file(".csr"), "-subj", "/CN=localhost");
  writeFileSync(file(".ext"), extensions);
  openssl(
    ...["x509", "-req", "-in", file(".csr"), "-CA", file("-ca.pem"), "-CAkey", file("-ca.key"), "-set_serial", "1"],
    ...["-days", String(days), "-extfile", file(".ext"), "-out", file(".pem")],
  );
  const read = (suffix: string): string => readFileSync(file(suffix), "utf8");
  return { ca: read("-ca.pem"), cert: read(".pem"), key: read(".key") };
}
