/**
 * Objects that hold a process, and objects that do not, on whichever of Node, Deno and Bun runs
 * this.
 */

import { execFileSync } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { assertEquals, assertMatch } from "@std/assert";
import { conformance } from "./mod.ts";
import { hostName, hostSubject } from "./subjects.ts";

conformance(hostName, hostSubject, ["processes"]);

describe(`${hostName}: a process without permissions`, { skip: hostName !== "deno" && "only Deno has them" }, () => {
  it("gets EACCES for calls that Deno does not permit, with the missing flag in the message", () => {
    const script = join("tests", "conformance", "fixtures", "denied.mjs");
    // The fixture is loaded by a path, so the process must be allowed to read it.
    const flags = ["run", "--no-prompt", "--no-check", `--allow-read=${process.cwd()}`];
    const printed = execFileSync(process.execPath, [...flags, script], { encoding: "utf8" });
    const lines = printed.trim().split("\n");
    assertEquals(lines.map((line) => line.split(" ")[0]), ["EACCES", "EACCES", "EACCES", "EACCES", "EACCES", "0"]);
    assertMatch(lines[0]!, /^EACCES Cannot listen on 127\.0\.0\.1:0: permission denied: .*--allow-net/);
    assertMatch(lines[1]!, /--allow-(read|write|net)/);
    assertMatch(lines[2]!, /Cannot connect to 127\.0\.0\.1:\d+: permission denied: .*--allow-net/);
    assertMatch(lines[3]!, /--allow-net/);
    assertMatch(lines[4]!, /--allow-read/);
  });
});
