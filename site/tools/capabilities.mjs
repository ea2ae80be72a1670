/**
 * The capabilities of each runtime: the runtimes are asked, and the declarations explain the flags.
 */

import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ROOT } from "./links.mjs";

const RUNTIMES = [["Node", "node"], ["Deno", "deno"], ["Bun", "bun"]];

export async function capabilitiesPage() {
  const source = readFileSync(join(ROOT, "core", "runtime.ts"), "utf8");
  const [, body = ""] = /export interface Capabilities \{([\s\S]*?)\n\}/.exec(source) ?? [];
  const flags = [
    ...body.matchAll(/\/\*\*([\s\S]*?)\*\/\s*readonly (\w+): boolean;/g),
  ].map(([, comment, name]) => ({
    name,
    text: comment.replaceAll(/\n\s*\*/g, " ").replaceAll(
      /\{@linkcode ([^}]+)\}/g,
      "`$1`",
    ).replaceAll(/\s+/g, " ").trim(),
  }));
  if (flags.length < 10) throw new Error("core/runtime.ts has no Capabilities");
  const asked = await Promise.all(
    RUNTIMES.map(([title, name]) => ask(title, name)),
  );
  const head = asked.map(({ title, version }) => `${title} ${version}`);
  const rows = flags.map(({ name, text }) =>
    `| \`${name}\` | ${text.replaceAll("|", "\\|")} | ${
      asked.map(({ can }) => can[name] ? "yes" : "**no**").join(" | ")
    } |`
  );
  return `# Capabilities

\`base.runtime.capabilities\` has a flag for everything that a runtime may lack. Using a feature whose flag is false
throws \`EV_UNSUPPORTED\`. The table was made by asking the runtimes on Linux when this page was built.
[Supported versions](./versions) says what older versions lack. The simulator has every feature except \`tlsTruncation\`, and
\`host.capabilities\` takes features away from a simulated host.

| flag | meaning | ${head.join(" | ")} |
| --- | --- | ${head.map(() => "---").join(" | ")} |
${rows.join("\n")}
`;
}

/** Asks a runtime. Node gets a bundle: its oldest version does not read TypeScript. */
async function ask(title, name) {
  const entry = join(ROOT, "runtimes", `${name}.ts`);
  const call = (url) =>
    `const { ${name}Runtime } = await import(${JSON.stringify(url)});
    const version = globalThis.Bun?.version ?? globalThis.Deno?.version.deno ?? process.versions.node;
    console.log(JSON.stringify({ version, can: ${name}Runtime().capabilities }));`;
  const parse = (text) => ({ title, ...JSON.parse(text) });
  if (name === "node") {
    const { build } = await import("esbuild");
    const out = join(ROOT, "site", "build", "node_runtime.mjs");
    await build({
      entryPoints: [entry],
      bundle: true,
      format: "esm",
      platform: "node",
      outfile: out,
      logLevel: "error",
    });
    return parse(
      run(process.execPath, [
        "--input-type=module",
        "-e",
        call(pathToFileURL(out).href),
      ]),
    );
  }
  const code = call(pathToFileURL(entry).href);
  const program = join(ROOT, "node_modules", ".bin", name);
  if (!existsSync(program)) {
    throw new Error(
      `${name} is not installed: run npm ci in the repository first`,
    );
  }
  return parse(
    name === "deno" ? run(program, ["eval", "--quiet", code]) : run(program, ["-e", code]),
  );
}

function run(program, args) {
  return execFileSync(program, args, { cwd: ROOT, encoding: "utf8" });
}
