/**
 * "What is guaranteed where": the table of `docs/guarantees.md`, each cell with the test that shows it.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { escapeVue, ROOT } from "./links.mjs";

export function guaranteesPage() {
  const section = readFileSync(join(ROOT, "docs", "guarantees.md"), "utf8");
  const tests = new Map(
    [...section.matchAll(/^\[([^\]]+)\]: \.\.\/(\S+) "(.*)"$/gm)].map((
      [, label, file, title],
    ) => [label, { file, title }]),
  );
  if (tests.size < 20) throw new Error("docs/guarantees.md has no table");
  const used = [
    ...new Set(
      [...section.matchAll(/\[[^\]]+\]\[([^\]]+)\]/g)].map(([, label]) => label),
    ),
  ];
  const numberOf = new Map(used.map((label, i) => [label, i + 1]));
  const table = section.split("\n").filter((line) => line.startsWith("|")).map((
    line,
  ) =>
    line.replaceAll(
      /\[([^\]]+)\]\[([^\]]+)\]/g,
      (_all, text, label) => `${text} [${numberOf.get(label)}](#test-${numberOf.get(label)})`,
    )
  );
  const list = used.map((label) => {
    const { file, title } = tests.get(label);
    return `<li id="test-${numberOf.get(label)}">“${escapeHtml(title)}” in <code>${file}</code></li>`;
  });
  return `# What is guaranteed where

Each cell has the number of the test that shows it. The tests run on the three runtimes before every change lands.
If a runtime lacks a feature, its flag in \`base.runtime.capabilities\` is false, and using the feature throws \`EV_UNSUPPORTED\`.
Nothing fails silently. Where a cell says “no:”, it says what happens instead. \`npm test\` runs every test;
\`tests/conformance/\` holds the three runtimes and the simulator to the same laws.

${escapeVue(table.join("\n"))}

## The tests

<ol>
${list.join("\n")}
</ol>
`;
}

function escapeHtml(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(
    "{{",
    "&#123;&#123;",
  );
}
