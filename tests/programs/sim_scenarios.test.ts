// The programs of examples/sim/ on each runtime: a chat server on a network with faults, and a
// third-party library.

import { describe, it } from "node:test";
import { assertEquals } from "@std/assert";
import { run } from "../tools/processes.mjs";
import { exampleCommand, plainEnvironment, RUNTIMES } from "../tools/runtimes.mjs";

/** Runs a scenario. @returns Its output */
async function play(runtime: typeof RUNTIMES[number], name: string, ...args: string[]): Promise<string> {
  const { file, args: all } = exampleCommand(runtime, `sim/${name}`, args);
  const { code, output } = await run(file, all, { env: plainEnvironment(), timeoutMs: 100_000 });
  assertEquals(code, 0, output);
  return output;
}

describe("the programs of examples/sim", () => {
  for (const runtime of RUNTIMES) {
    it(`finds no line of the chat that is missed or repeated, on ${runtime}`, async () => {
      assertEquals(await play(runtime, "chat", "60"), "60 runs: nobody who stayed has missed a line\n");
    });

    it(`runs a third-party library in virtual time, on ${runtime}`, async () => {
      assertEquals(await play(runtime, "library", "10"), "10 runs: no answer was too old\n");
    });
  }
});
