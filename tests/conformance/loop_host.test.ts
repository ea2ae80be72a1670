/** The loop on whichever of Node, Deno and Bun runs this, and the adapters of the others. */

import { describe, it } from "node:test";
import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { detectRuntime, EventError } from "../../mod.ts";
import { bunRuntime } from "../../runtimes/bun.ts";
import { denoRuntime } from "../../runtimes/deno.ts";
import { conformance } from "./mod.ts";
import { hostName as name, hostSubject } from "./subjects.ts";

conformance(name, hostSubject, ["loop"]);

describe(`${name}: the adapters`, () => {
  it("of other runtimes refuse to run here", () => {
    for (const [other, runtimeOf] of [["deno", denoRuntime], ["bun", bunRuntime]] as const) {
      if (other === name) assertStrictEquals(runtimeOf(), detectRuntime());
      else assertEquals(assertThrows(runtimeOf, EventError).code, "EV_UNSUPPORTED");
    }
  });
});
