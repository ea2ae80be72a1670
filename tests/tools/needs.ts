/**
 * The needs of a test besides a runtime, and the reason of the skip if the machine lacks one:
 * `it("…", { skip: needs("/proc", "socat") }, …)`.
 */

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { networkInterfaces } from "node:os";
import process from "node:process";

/** Features that a machine may lack, with their checks. A program is looked up by its name. */
const KNOWN: Readonly<Record<string, { readonly words: string; there(): boolean }>> = {
  "/proc": {
    words: "there is no /proc to see a process's memory and sockets",
    there: () => existsSync("/proc/self/fd"),
  },
  "::1": {
    words: "this machine has no IPv6 (::1)",
    there: () => Object.values(networkInterfaces()).some((all) => all?.some(({ address }) => address === "::1")),
  },
  "127.0.0.2": { words: "127.0.0.2 is not an address of this machine", there: hasSecondLoopback },
  "ulimit": {
    words: "a limit of open files (ulimit -n) is known to hold on Linux alone",
    there: () => process.platform === "linux" && spawnSync("sh", ["-c", "ulimit -n 64"]).status === 0,
  },
  "nc -N": {
    words: "there is no nc that half-closes (-N)",
    there: () => `${spawnSync("nc", ["-h"], { encoding: "utf8" }).stderr}`.includes("-N"),
  },
  "strace": {
    words: "there is no strace that may trace programs",
    there: () => spawnSync("strace", ["-D", "-f", "-e", "trace=none", "true"], { stdio: "ignore" }).status === 0,
  },
  "Duplex.fromWeb": {
    words: "Deno before 2.9.4 throws where nobody can catch it when a Duplex.fromWeb() is destroyed",
    there: () => !/^2\.([0-8]\.|9\.[0-3]$)/.test(process.versions.deno ?? ""),
  },
};
const found = new Map<string, boolean>();

/**
 * Returns why a test is skipped.
 *
 * @param what `/proc`, `::1`, `127.0.0.2`, `ulimit`, `nc -N`, `strace`, `Duplex.fromWeb`, or names of programs
 * @returns A message about the missing needs, or false if nothing is missing
 */
export function needs(...what: string[]): string | false {
  const missing = what.filter((each) => !isThere(each)).map((each) => KNOWN[each]?.words ?? `${each} is not installed`);
  return missing.length > 0 && missing.join(", ");
}

function isThere(what: string): boolean {
  // The variable names what to treat as missing, to test that other tests do not need it.
  if ((process.env.TRIVENT_LACKS ?? "").split(",").includes(what)) return false;
  let there = found.get(what);
  if (there === undefined) {
    there = KNOWN[what]?.there() ?? spawnSync(what, ["--version"], { stdio: "ignore" }).error === undefined;
    found.set(what, there);
  }
  return there;
}

/** On Linux the loopback interface has all of 127.0.0.0/8, elsewhere only the addresses that were added to it. */
function hasSecondLoopback(): boolean {
  const addresses = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  return addresses.some(({ address, cidr }) =>
    address === "127.0.0.2" || (process.platform === "linux" && cidr === "127.0.0.1/8")
  );
}
