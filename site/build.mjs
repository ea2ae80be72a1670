/**
 * Builds the site into `site/dist/`: `npm run site`, or `npm run site:dev` for a server that follows changes.
 *
 * VitePress reads `site/build/pages/`. That folder has the pages of `site/pages/`, and those that `tools/` makes of the
 * repository's own documents and source, so that no text exists twice.
 */

import { execFileSync, spawn } from "node:child_process";
import { existsSync, readFileSync, rmSync, watch, writeFileSync } from "node:fs";
import { join } from "node:path";

const SITE = import.meta.dirname;
const MODE = process.argv[2] ?? "build";

install();
// They import packages that were just installed.
const { makePages } = await import("./tools/pages.mjs");
if (MODE === "build") {
  await makePages();
  vitepress(["build"]);
  await (await import("./tools/llms.mjs")).writeLlms();
} else if (MODE === "dev") {
  await makePages();
  for (const folder of ["pages", "data", "../docs", "../examples"]) {
    let due;
    watch(join(SITE, folder), { recursive: true }, () => {
      clearTimeout(due);
      due = setTimeout(
        () => makePages({ api: false }).catch(console.error),
        200,
      );
    });
  }
  const server = spawn(process.execPath, [
    bin(),
    "dev",
    SITE,
    ...process.argv.slice(3),
  ], { stdio: "inherit" });
  server.on("exit", (code) => process.exit(code ?? 1));
} else {
  console.error("usage: node site/build.mjs [build | dev]");
  process.exitCode = 2;
}

/** The site's own dependencies: they are installed again only when the lock file has changed. */
function install() {
  const lock = readFileSync(join(SITE, "package-lock.json"), "utf8");
  const mark = join(SITE, "node_modules", ".installed");
  if (existsSync(mark) && readFileSync(mark, "utf8") === lock) return;
  execFileSync("npm", ["ci", "--no-audit", "--no-fund"], {
    cwd: SITE,
    stdio: "inherit",
  });
  writeFileSync(mark, lock);
}

function bin() {
  return join(SITE, "node_modules", "vitepress", "bin", "vitepress.js");
}

function vitepress(args) {
  rmSync(join(SITE, "dist"), { recursive: true, force: true });
  execFileSync(process.execPath, [bin(), ...args, SITE], {
    cwd: SITE,
    stdio: "inherit",
  });
}
