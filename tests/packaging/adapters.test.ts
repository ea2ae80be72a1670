// docs/adapters.md: it explains every law of core/runtime.ts, and its skeleton is an adapter that
// keeps them.

import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { run } from "../tools/processes.mjs";
import { findRuntime, ROOT, RUNTIMES } from "../tools/runtimes.mjs";
import { cleanEnvironment, mustTool, writeFiles } from "./workshop.ts";

const page = readFileSync(join(ROOT, "docs/adapters.md"), "utf8");
const seam = readFileSync(join(ROOT, "core/runtime.ts"), "utf8");
const folder = join(ROOT, "build", `adapters-${process.pid}`);

/** The numbers of the laws that a text explains, in order. */
function lawsOf(text: string): number[] {
  return [...text.matchAll(/^(?: \* )?\*\*Law (\d+)[.,]/gm)].map(([, number]) => Number(number));
}

describe("docs/adapters.md", () => {
  before(() => {
    mkdirSync(folder, { recursive: true });
    const [, skeleton = ""] = /^```js\n([\s\S]*?)^```$/m.exec(page) ?? [];
    assert(skeleton.includes("export function myRuntime"));
    writeFiles(folder, { "my_runtime.mjs": skeleton });
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it("explains every law of the seam, and no other", () => {
    const laws = lawsOf(seam);
    assertEquals(laws, laws.map((_, i) => i + 1));
    assert(laws.length >= 15);
    assertEquals(lawsOf(page), laws);
    for (
      const [, list = ""] of `${seam}${page}`.matchAll(
        /\blaws? (\d+(?:(?:, | and | to )\d+)*)/g,
      )
    ) {
      for (const number of list.match(/\d+/g) ?? []) {
        assert(laws.includes(Number(number)), `law ${number}`);
      }
    }
  });

  it("lists every member of a subject and every capability that it names", () => {
    const subject = readFileSync(
      join(ROOT, "tests/conformance/subject.ts"),
      "utf8",
    );
    const [, members = ""] = /export interface Subject \{([\s\S]*?)^\}/m.exec(subject) ?? [];
    for (const [, name = ""] of members.matchAll(/^ {2}readonly (\w+)\??:/gm)) {
      if (name === "runtime") continue;
      assert(
        page.includes(`\`${name}`),
        `${name} of a Subject is not explained`,
      );
    }
    const [, flags = ""] = /export interface Capabilities \{([\s\S]*?)^\}/m.exec(seam) ?? [];
    const known = [...flags.matchAll(/readonly (\w+): boolean/g)].map((
      [, name],
    ) => name);
    const [, table = ""] = /## What the capabilities mean([\s\S]*?)^## /m.exec(page) ?? [];
    for (const [, name] of table.matchAll(/^\| `(\w+)`/gm)) {
      assert(known.includes(name), `${name} is no capability`);
    }
  });

  it("has a skeleton that compiles", async () => {
    const compilerOptions = {
      allowJs: true,
      checkJs: true,
      declaration: false,
      isolatedDeclarations: false,
      lib: ["ES2023", "ESNext.Disposable", "DOM"],
      paths: { trivent: ["../../mod.ts"] },
    };
    writeFiles(folder, {
      "tsconfig.json": JSON.stringify({
        extends: "../../tsconfig.json",
        compilerOptions,
        include: ["my_runtime.mjs"],
      }),
    });
    await mustTool("typescript", "tsc", ["-p", folder]);
  });

  for (const name of RUNTIMES) {
    it(`has a skeleton that keeps the laws on ${name}`, async () => {
      writeFiles(folder, { "laws.mjs": RUN });
      const flags = name === "deno" ? ["run", "--allow-all", "--quiet"] : [];
      const { output } = await run(findRuntime(name).path, [
        ...flags,
        join(folder, "laws.mjs"),
      ], {
        cwd: ROOT,
        env: cleanEnvironment(),
        timeoutMs: 300_000,
      });
      assertEquals(output, "hello!\nall is well\n");
    });
  }
});

const RUN = `import process from "node:process";
import { laws } from "trivent/conformance";
import { myRuntime } from "./my_runtime.mjs";

const runtime = myRuntime();
// What node:net makes impossible.
const subject = () => ({ runtime, deviations: ["last-words-lost", "unreachable-is-refused"] });
let ran = 0;
// node:net of Deno says EINVAL of an address of another machine.
const known = process.versions.deno ? /an address of another machine$|> of listening$/ : /^$/;
for (const law of laws("mine", subject, ["clock", "seam"])) {
  if (law.skip || known.test(law.name)) continue;
  try {
    await law.run();
    ran++;
  } catch (error) {
    console.log(law.name, error.message.slice(0, 300));
  }
}
console.log(ran > 100 ? "all is well" : \`\${ran} laws ran\`);
`;
