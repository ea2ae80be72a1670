/**
 * Runs the benchmarks: `npm run bench` all of them, `npm run bench -- rot13` one; `--quick` is a
 * short run that only shows that they work, and writes nothing.
 *
 * `npm run bench -- document` makes the document from the present results, and with `--check` only
 * reports whether it is up to date.
 *
 * A benchmark is a file of this folder, `<name>.mjs`, that exports `run({ quick, args })`; `args` are the words behind the
 * name. It returns `{ rows, … }`: rows of `shared/goals.mjs`, and other results to keep. Without
 * words and not in a short run, that goes to `results/<name>.json`, and the tables and plots of
 * `docs/performance.md` are made from all of those.
 */

import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { endAllOnExit } from "../tests/tools/processes.mjs";
import { staleFiles, writeDocument } from "./shared/document.mjs";
import { goalsText } from "./shared/goals.mjs";
import { enter, leave } from "./shared/progress.mjs";
import { circumstances, readResults, writeResults } from "./shared/results.mjs";

const folder = dirname(fileURLToPath(import.meta.url));
/** First the parts with goals. */
const NAMES = [
  "natural",
  "echo",
  "proxy",
  "fanout",
  "tls",
  "views",
  "limits",
  "cold",
  "latency",
  "memory",
  "churn",
  "size",
  "connections",
  "workers",
  "timers",
  "loop",
  "sim",
  "evbuffer",
];
/** These have no goals of speed, and run only if they are named. */
const ON_REQUEST = ["spread", "flood", "examples"];

const words = process.argv.slice(2);
const quick = words.includes("--quick");
const [name, ...args] = words.filter((word) => word !== "--quick");
const begun = performance.now();

endAllOnExit();
if (name === "document") {
  if (args.includes("--check")) {
    const stale = staleFiles(readResults());
    for (const path of stale) console.error(`${path} is not made from bench/results: npm run bench -- document`);
    process.exitCode = stale.length === 0 ? 0 : 1;
  } else writeDocument(readResults());
} else if (name !== undefined && ![...NAMES, ...ON_REQUEST].includes(name)) {
  console.error(`Cannot run a benchmark: there is no "${name}"`);
  console.error(`usage: npm run bench -- [${[...NAMES, ...ON_REQUEST, "document"].join("|")}] [--quick]`);
  process.exitCode = 2;
} else {
  const at = circumstances();
  const measured = [];
  for (const each of name === undefined ? NAMES : [name]) {
    if (name === undefined) console.log(`\n# ${each}\n`);
    enter(each);
    try {
      const { run } = await import(pathToFileURL(join(folder, `${each}.mjs`)).href);
      const result = await run({ quick, args });
      measured.push(...result.rows);
      if (!quick && args.length === 0) writeResults(each, result, at);
    } catch (error) {
      console.error(`${each}: ${error.message}`);
      process.exitCode = 1;
    }
    leave();
  }
  if (!quick && args.length === 0) writeDocument(readResults());
  if (name === undefined) {
    const seconds = Math.round((performance.now() - begun) / 1000);
    console.log(`\n# The goals, ${Math.floor(seconds / 60)} min ${seconds % 60} s\n`);
  } else if (measured.length > 0) console.log("");
  if (quick) {
    console.log("This was a short run: it shows that all parts work. Its times mean nothing and are not judged.");
  } else if (name === undefined || measured.length > 0) console.log(goalsText(measured, { all: name === undefined }));
}
