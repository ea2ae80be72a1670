// The scenario of examples/sim/ with a planted bug: exploring finds it, and gives the report that
// the file shows.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import careless, { careful, options } from "../../examples/sim/retries.ts";
import { explore } from "../../runtimes/sim.ts";
import { ROOT } from "../tools/runtimes.mjs";

describe("a client that tries again", () => {
  it("pays twice if the answer is lost, as its file describes", async () => {
    const { error, faults, failures: [failure] } = await explore(careless, { ...options, runs: 200 });
    const [fault] = faults;
    const text = readFileSync(join(ROOT, "examples", "sim", "retries.ts"), "utf8");
    for (
      const part of [
        `seed ${failure?.seed} fails:`,
        String(error),
        `${failure?.faultsBefore} faults happened. One is enough:`,
        `at ${fault?.atMs} ms      ${fault?.kind}    ${fault?.about}`,
      ]
    ) assert(text.includes(part), part);
    assertEquals(faults.length, 1);
  });

  it("pays once with numbered payments, whatever fails", async () => {
    const { error, faults } = await explore(careful, { ...options, runs: 100 });
    assertEquals([error, faults], [undefined, []]);
  });
});
