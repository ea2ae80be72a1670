// The tour of the examples is correct: every file is in it, with its number of lines and its cost
// in the last measurement.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { ROOT, RUNTIME_NAMES } from "../tools/runtimes.mjs";

const tour = readFileSync(join(ROOT, "examples", "README.md"), "utf8");

/** The rows of all tables that begin with a link to a file. */
const rows = tour.split("\n").filter((line) => /^\| \[`/.test(line)).map((line) => {
  const cells = line.split("|").slice(1, -1).map((cell) => cell.trim());
  const [, label = "", file = ""] = /^\[`([^`]+)`\]\(([^)]+)\)$/.exec(cells[0] as string) ?? [];
  // A shared file has no cost.
  const [one = "–", many = "–"] = cells.slice(3);
  return { label, file, lines: Number(cells[2]), costs: { 1: one, 32: many } };
});

interface Measured {
  versions: Record<string, string>;
  results: { server: string; runtime: string; inFlight: 1 | 32; cpuUs: number }[];
}
const measured = JSON.parse(
  readFileSync(join(ROOT, "bench", "results", "examples.json"), "utf8"),
) as Measured;

describe("examples/README.md", () => {
  it("has every file, and no other", () => {
    const files = ["", "sim/"].flatMap((folder) =>
      readdirSync(join(ROOT, "examples", folder)).filter((file) => file.endsWith(".ts")).map((file) => folder + file)
    );
    assertEquals([...new Set(rows.map(({ file }) => file))].sort(), files.sort());
    for (const [, link = ""] of tour.matchAll(/\]\(([^)]+)\)/g)) {
      assert(existsSync(join(ROOT, "examples", link.replace(/#.*/, ""))), `there is no ${link}`);
    }
  });

  for (const { label, file, lines } of rows) {
    it(`counts the lines of ${label}`, () => {
      assertEquals(lines, readFileSync(join(ROOT, "examples", file), "utf8").trimEnd().split("\n").length);
    });
  }

  it("has the latest costs of all measured servers", () => {
    const told = new Set<string>();
    for (const { label, costs } of rows) {
      for (const inFlight of [1, 32] as const) {
        const found = RUNTIME_NAMES.map((runtime) =>
          measured.results.find((each) =>
            each.server.split(/ (?=\d)/)[0] === label && each.runtime === runtime && each.inFlight === inFlight
          )?.cpuUs
        );
        if (found.some((cpuUs) => cpuUs !== undefined)) told.add(label);
        const text = found.map((cpuUs) => cpuUs?.toFixed(cpuUs < 10 ? 2 : 0)).join(" / ");
        assertEquals(costs[inFlight], found.every((cpuUs) => cpuUs === undefined) ? "–" : text, label);
      }
    }
    assertEquals(told.size, new Set(measured.results.map(({ server }) => server)).size);
    for (const runtime of RUNTIME_NAMES) assert(tour.includes(measured.versions[runtime] as string));
  });
});
