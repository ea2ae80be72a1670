/**
 * The size of the library: `npm run bench -- size [node] [deno] [bun] [--quick]`.
 *
 * The core and one adapter, bundled, minified and gzipped, in kB (1,000 bytes): all of them, which is the goal's figure,
 * and the part in the bundle of a line server. Also the time to import the built package in a new
 * process, less that of an empty module, in milliseconds: the median of many processes, in turn.
 */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { run as execute } from "../tests/tools/processes.mjs";
import { plainEnvironment, ROOT, RUNTIMES } from "../tests/tools/runtimes.mjs";
import { buildDist } from "../tools/build.mjs";
import { bundleSize, LINE_SERVER } from "../tools/bundle_size.mjs";
import { BUILD } from "./shared/compile.mjs";
import { row } from "./shared/goals.mjs";
import { pinned } from "./shared/pinned.mjs";
import { program } from "./shared/programs.mjs";
import { step } from "./shared/progress.mjs";
import { summarize } from "./shared/stats.mjs";

/** @param {{ quick: boolean, args: readonly string[] }} options */
export async function run({ quick, args }) {
  const unknown = args.find((word) => !RUNTIMES.includes(word));
  if (unknown !== undefined) throw new Error(`no runtime is called "${unknown}": ${RUNTIMES.join(", ")}`);
  const runtimes = RUNTIMES.filter((name) => args.length === 0 || args.includes(name));
  await buildDist({ declarations: false });
  const rows = [];
  for (const name of runtimes) {
    const adapter = `export * from "./runtimes/${name}.ts";`;
    rows.push(sizeRow("size", name, await bundleSize(`export * from "./core/mod.ts"; ${adapter}`)));
    rows.push(sizeRow("size-line-server", name, await bundleSize(`${LINE_SERVER} ${adapter}`)));
  }
  for (const name of runtimes) {
    step(`import on ${name}`);
    const took = await importTimes(name, quick ? 1 : 15);
    rows.push(row("import", name, { ...summarize(took), details: { unit: "ms", processes: took.length } }));
  }
  const parts = {
    core: await bundleSize(`export * from "./core/mod.ts";`),
    all: await bundleSize(`export * from "./mod.ts";`),
    "line server without adapter": await bundleSize(LINE_SERVER),
    EvBuffer: await bundleSize(`export { EvBuffer } from "./core/mod.ts";`),
  };
  for (const [name, { gzipped }] of Object.entries(parts)) {
    console.log(`${name}: ${(gzipped / 1000).toFixed(1)} kB gzipped`);
  }
  return { rows, parts };
}

function sizeRow(id, name, { minified, gzipped, heaviest }) {
  const details = { unit: "kB", minifiedBytes: minified, gzippedBytes: gzipped, heaviest };
  return row(id, name, { ratio: gzipped / 1000, details });
}

/** Milliseconds, one of each process. */
async function importTimes(name, processes) {
  const probe = join(BUILD, "import_time.mjs");
  const { exports: { ".": main } } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const entry = name === "node" ? main["module-sync"] : main[name];
  const empty = join(BUILD, "empty.mjs");
  writeFileSync(empty, "export {};\n");
  writeFileSync(
    probe,
    `const begun = performance.now();
await import(${JSON.stringify(pathToFileURL(empty).href)});
const between = performance.now();
await import(${JSON.stringify(pathToFileURL(join(ROOT, entry)).href)});
console.log(performance.now() - between - (between - begun));
process.exit(0);
`,
  );
  const [file, ...args] = pinned(0, program(name, probe));
  const took = [];
  for (let i = 0; i < processes; i++) {
    const { code, output } = await execute(file, args, { env: plainEnvironment(), timeoutMs: 20_000 });
    if (code !== 0) throw new Error(`importing the package failed on ${name}:\n${output}`);
    took.push(Number(output.trim()));
  }
  return took;
}
