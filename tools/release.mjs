/**
 * Releases a version: `node tools/release.mjs 0.2.0 --dry-run`, then the same without `--dry-run`.
 *
 * 1. It checks that the work tree is clean, that the version is new and the same everywhere, that package.json names the
 *    repository that `git remote get-url origin` names, and that CHANGELOG.md describes the version.
 * 2. It runs all checks (`.ci/run`). A dry run may leave them out with `--no-checks`.
 * 3. It builds and packs into `build/release/`.
 * 4. It makes the tag, and publishes to npm and to JSR. A dry run prints these commands in place of that.
 *
 * A dry run reports all problems and changes nothing. A release stops at the first step that has
 * one.
 */

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { parseArgs } from "node:util";

const ROOT = dirname(import.meta.dirname);
const FOLDER = join(ROOT, "build", "release");
/**
 * With the variables that npm sets for its scripts, an inner npm would work on the outer one's
 * folder.
 */
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_|INIT_CWD$)/i.test(name)));

const { version, isDry, withChecks } = readArguments();
const tag = `v${version}`;
let problems = 0;

const before = treeProblems();
tell([...before, ...manifestProblems(), ...repositoryProblems(), ...changeLogProblems()]);
stopIfReleasing();

if (withChecks) step("checks", join(ROOT, ".ci", "run"), []);
else console.log("--- checks: left out, .ci/run must pass before the release");

rmSync(FOLDER, { recursive: true, force: true });
mkdirSync(FOLDER, { recursive: true });
// This builds dist/ again, by the script `prepack`.
step("build and pack", "npm", ["pack", "--pack-destination", FOLDER]);
const tarball = join(FOLDER, `${json("package.json").name}-${version}.tgz`);
if (!isDry && !existsSync(tarball)) fail(`npm pack made no ${relative(ROOT, tarball)}`);
tell(treeProblems().filter((problem) => !before.includes(problem)).map((problem) => `after the build, ${problem}`));
stopIfReleasing();

const publishing = [
  ["git", ["tag", "--annotate", tag, "--message", `Trivent ${version}`]],
  ["npm", ["publish", relative(ROOT, tarball), "--access", "public"]],
  ["npx", ["--no-install", "deno", "publish"]],
];
if (isDry) {
  step("what JSR would get", "npx", ["--no-install", "deno", "publish", "--dry-run", "--allow-dirty", "--quiet"]);
  console.log("\nThe release would run:");
  for (const [command, args] of publishing) console.log(`  ${written(command, args)}`);
  console.log(
    problems === 0 ? `Ready to release ${version}` : `Not ready to release ${version}: problems: ${problems}`,
  );
  process.exit(problems === 0 ? 0 : 1);
}
publishing.forEach(([command, args], i) => {
  const left = publishing.slice(i).map(([...rest]) => `  ${written(...rest)}`).join("\n");
  step(written(command, args), command, args, `When that is mended, these commands are left:\n${left}`);
});
console.log(`\nReleased ${version}. The tag is here alone: git push origin ${tag}`);

function readArguments() {
  const usage = "usage: node tools/release.mjs <version> [--dry-run [--no-checks]]";
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { "dry-run": { type: "boolean" }, "no-checks": { type: "boolean" } },
    });
    const [version = "", ...others] = positionals;
    if (others.length > 0 || !/^\d+\.\d+\.\d+(-[\w.-]+)?$/.test(version)) {
      fail(`Cannot release: not a version such as 0.2.0: received ${positionals.join(" ") || "nothing"}\n${usage}`);
    }
    const isDry = values["dry-run"] === true;
    if (values["no-checks"] && !isDry) {
      fail(`Cannot release without the checks: --no-checks is for a dry run\n${usage}`);
    }
    return { version, isDry, withChecks: values["no-checks"] !== true };
  } catch (error) {
    return fail(`Cannot release: ${error.message}\n${usage}`);
  }
}

function tell(found) {
  problems += found.length;
  for (const problem of found) console.error(`problem: ${problem}`);
}

/** The version is that of a commit, and has not been released. */
function treeProblems() {
  const found = [];
  const changed = git("status", "--porcelain");
  if (changed !== "") found.push(`the work tree has changes that are not committed:\n${changed}`);
  if (git("tag", "--list", tag) !== "") found.push(`there is a tag ${tag} already`);
  return found;
}

function manifestProblems() {
  const found = [];
  const lock = json("package-lock.json");
  const versions = {
    "package.json": json("package.json").version,
    "deno.json": json("deno.json").version,
    "package-lock.json": lock.version,
    'package-lock.json, packages[""]': lock.packages[""].version,
  };
  for (const [where, has] of Object.entries(versions)) {
    if (has !== version) found.push(`${where} has version ${has}, not ${version}`);
  }
  const manifest = json("package.json");
  for (const field of ["repository", "homepage", "bugs"]) {
    if (!manifest[field]) found.push(`package.json has no ${field}`);
  }
  return found;
}

/**
 * The published package must name the repository that it was made in, and the issues of that
 * repository.
 */
function repositoryProblems() {
  const { repository, bugs } = json("package.json");
  const named = typeof repository === "string" ? repository : repository?.url;
  if (!named) return [];
  const origin = spawnSync("git", ["remote", "get-url", "origin"], { cwd: ROOT, encoding: "utf8" });
  if (origin.status !== 0) return ["git has no remote origin to compare with the repository of package.json"];
  const found = [];
  const url = origin.stdout.trim();
  if (placeOf(named) !== placeOf(url)) {
    found.push(
      `package.json names the repository ${named}, but git remote get-url origin gives ${withoutPassword(url)}`,
    );
  }
  const issues = typeof bugs === "string" ? bugs : bugs?.url ?? "";
  if (issues !== "" && !placeOf(issues).startsWith(`${placeOf(named)}/`)) {
    found.push(`package.json names the issues ${issues}, which are not of the repository ${named}`);
  }
  return found;
}

/** Host and path of a repository, however its address is written: `git@host:a/b.git` is `https://host/a/b`. */
function placeOf(address) {
  const url = address.replace(/^git\+/, "").replace(/^github:/, "https://github.com/")
    .replace(/^(?:[^@/]+@)?([^:/]+):(?!\/\/)/, "ssh://$1/");
  return url.replace(/^[a-z]+:\/\/(?:[^@/]*@)?/i, "").replace(/\/+$/, "").replace(/\.git$/, "").toLowerCase();
}

function withoutPassword(url) {
  return url.replace(/^([a-z]+:\/\/)[^@/]*@/i, "$1");
}

/**
 * The section of the version exists, has a date and is not empty; nothing is left under Unreleased.
 */
function changeLogProblems() {
  const sections = readFileSync(join(ROOT, "CHANGELOG.md"), "utf8").split(/^## /m).slice(1);
  const bodyOf = (section) =>
    section.slice(section.indexOf("\n") + 1).replaceAll(/^(###.*|\[[^\]]+\]: .*)$/gm, "").trim();
  const section = sections.find((text) => text.startsWith(`[${version}]`));
  const found = [];
  if (section === undefined) found.push(`CHANGELOG.md has no section "## [${version}] - YYYY-MM-DD"`);
  else {
    const [heading] = section.split("\n");
    if (!/^\[[^\]]+\] - \d{4}-\d\d-\d\d$/.test(heading)) found.push(`CHANGELOG.md has no date in "## ${heading}"`);
    if (bodyOf(section) === "") found.push(`CHANGELOG.md says nothing about ${version}`);
  }
  const waiting = sections.find((text) => text.startsWith("[Unreleased]"));
  if (waiting !== undefined && bodyOf(waiting) !== "") found.push("CHANGELOG.md still has changes under Unreleased");
  return found;
}

/** Runs a command, and reports a failure. */
function step(title, command, args, remedy = "") {
  console.log(`\n--- ${title}`);
  const { status, signal, error } = spawnSync(command, args, {
    cwd: ROOT,
    env,
    stdio: ["inherit", "inherit", "inherit"],
  });
  if (status === 0) return;
  const how = error?.message ?? (signal ? `was ended by ${signal}` : `ended with exit code ${status}`);
  const message = `${written(command, args)} ${how}`;
  if (!isDry) fail([message, remedy].filter((text) => text !== "").join("\n"));
  problems++;
  console.error(`problem: ${message}`);
}

function stopIfReleasing() {
  if (!isDry && problems > 0) fail(`Cannot release ${version}: problems: ${problems}`);
}

function git(...args) {
  const { status, stdout, stderr } = spawnSync("git", args, { cwd: ROOT, encoding: "utf8" });
  if (status !== 0) fail(`git ${args.join(" ")} ended with exit code ${status}\n${stderr}`);
  return stdout.trimEnd();
}

function json(path) {
  return JSON.parse(readFileSync(join(ROOT, path), "utf8"));
}

function written(command, args) {
  return [command, ...args].map((word) => /\s/.test(word) ? JSON.stringify(word) : word).join(" ");
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
