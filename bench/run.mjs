/**
 * Runs the benchmarks: `npm run bench` all of them, `npm run bench -- rot13` one; `--quick` is a short run that shows
 * that they work, not how fast things are.
 *
 * A benchmark is a file of this folder, `<name>.mjs`, that exports `run({ quick, args })`; `args` are the words behind the
 * name. Helpers and servers are `.ts` files or lie in folders.
 */

import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { endAllOnExit } from "../tests/tools/processes.mjs";

const folder = dirname(fileURLToPath(import.meta.url));
const names = readdirSync(folder)
  .filter((file) => file.endsWith(".mjs") && file !== "run.mjs")
  .map((file) => file.slice(0, -4))
  .sort();

const words = process.argv.slice(2);
const quick = words.includes("--quick");
const [name, ...args] = words.filter((word) => word !== "--quick");

endAllOnExit();
if (name !== undefined && !names.includes(name)) {
  console.error(`Cannot run a benchmark: there is no "${name}"`);
  console.error(`usage: npm run bench -- [${names.join("|")}] [--quick]`);
  process.exitCode = 2;
} else {
  for (const each of name === undefined ? names : [name]) {
    if (name === undefined) console.log(`\n# ${each}\n`);
    try {
      const { run } = await import(pathToFileURL(join(folder, `${each}.mjs`)).href);
      await run({ quick, args });
    } catch (error) {
      console.error(`${each}: ${error.message}`);
      process.exitCode = 1;
    }
  }
}
