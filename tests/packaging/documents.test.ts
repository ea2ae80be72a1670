// The examples of README and guide, as readers use them: pasted into an empty project with the npm
// package. Node 20 runs them as JavaScript, Deno and Bun as TypeScript.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { before, describe, it } from "node:test";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { run, start } from "../tools/processes.mjs";
import { findRuntime, ROOT, type RuntimeName, RUNTIMES } from "../tools/runtimes.mjs";
import { cleanEnvironment, echo, installTarball, LISTENING, packTarball, writeFiles } from "./workshop.ts";

const LIMIT_MS = 180_000;
const DOCUMENTS = [
  "README.md",
  ...readdirSync(join(ROOT, "docs")).filter((name) => name.endsWith(".md"))
    .sort()
    .map((name) => `docs/${name}`),
];

/** What a reader types. */
const COMMANDS: Record<RuntimeName, string[]> = {
  node: [],
  deno: ["run", "--quiet", "--allow-net"],
  bun: ["run"],
};

interface Example {
  name: string;
  code: string;
  /**
   * Whether it serves on a port until it is stopped. Its fence is marked so that `deno test --doc`
   * ignores it.
   */
  serves: boolean;
  /** The expected output, in comments behind `console.log()`. */
  prints: string[];
}

function examplesOf(file: string): Example[] {
  const text = readFileSync(join(ROOT, file), "utf8");
  return [...text.matchAll(/^```(?:ts|js)( ignore)?\n([\s\S]*?)^```$/gm)].map((
    [, serve, code = ""],
    i,
  ) => ({
    name: `${file.replace("docs/", "").replace(".md", "").toLowerCase()}-${i + 1}`,
    code,
    serves: serve !== undefined,
    prints: [...code.matchAll(/console\.log\(.*\); \/\/ (.*)$/gm)].map((
      [, line = ""],
    ) => line),
  }));
}

describe("every example of the documents", () => {
  const examples = DOCUMENTS.flatMap(examplesOf);
  let project: string;

  before(async () => {
    project = await installTarball((await packTarball()).path);
    for (const { name, code } of examples) {
      writeFiles(project, {
        [`${name}.mjs`]: code.replace("40713", "0"),
        [`${name}.ts`]: code.replace("40713", "0"),
      });
    }
  });

  it("is run by a test", () => {
    assert(examples.length >= 10, `${examples.length} examples`);
    assertEquals(
      examples.filter(({ serves }) => serves).map(({ name }) => name),
      ["readme-1"],
    );
    for (const file of DOCUMENTS) {
      const fences = readFileSync(join(ROOT, file), "utf8").match(/^```[^\n]+$/gm) ?? [];
      // A test of tests/bridges/ runs "ts bridges", with the packages of others.
      const others = fences.filter((fence) => !/^```(ts( ignore| bridges)?|js|sh|json)$/.test(fence));
      assertEquals(others, [], file);
    }
  });

  for (const runtime of RUNTIMES) {
    for (const { name, serves, prints } of examples) {
      it(`${name} prints its comments on ${runtime}`, async () => {
        const args = [
          ...COMMANDS[runtime],
          `${name}.${runtime === "node" ? "mjs" : "ts"}`,
        ];
        const options = { cwd: project, env: cleanEnvironment() };
        if (serves) {
          const server = await start(findRuntime(runtime).path, args, {
            ...options,
            ready: LISTENING,
          });
          const reply = await echo(
            Number(server.match[1]),
            new TextEncoder().encode("Hello\n"),
          );
          const output = server.output();
          await server.stop();
          assertMatch(output, /^listening on \{[^}]*\}\n$/);
          assert(reply.length >= 6, `${reply.length} bytes came back`);
          return;
        }
        const { code, timedOut, output } = await run(
          findRuntime(runtime).path,
          args,
          {
            ...options,
            timeoutMs: LIMIT_MS,
          },
        );
        assertEquals({ code, timedOut, output }, {
          code: 0,
          timedOut: false,
          output: prints.map((line) => `${line}\n`).join(""),
        });
      });
    }
  }
});

describe("the links of the documents", () => {
  /** The targets of the links in a file, without those to the web and within it. */
  const linksOf = (file: string): string[] => {
    const text = readFileSync(join(ROOT, file), "utf8").replace(
      /^```[\s\S]*?^```$/gm,
      "",
    );
    return [...text.matchAll(/\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)/gm)].map((
      [, inline, reference],
    ) => (inline ?? reference ?? "").replace(/#.*/, "")).filter((target) => target !== "" && !/^https?:/.test(target))
      .map((target) => normalize(join(dirname(file), target)));
  };

  it("lead to existing files", () => {
    const decisions = readdirSync(join(ROOT, "docs", "decisions")).map((name) => `docs/decisions/${name}`);
    assert(decisions.length > 10);
    for (
      const file of [
        ...DOCUMENTS,
        ...decisions,
        "examples/README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
      ]
    ) {
      for (const target of linksOf(file)) {
        assert(existsSync(join(ROOT, target)), `${file} links to ${target}`);
      }
    }
  });

  it("lead from the architecture to the code that they name", () => {
    const text = readFileSync(join(ROOT, "docs", "architecture.md"), "utf8");
    const named = [...text.matchAll(/\[`([^`]+)`\]\(\.\.\/([^)]+)\)/g)];
    assert(named.length > 20);
    for (const [, name = "", file = ""] of named) {
      const code = readFileSync(join(ROOT, file), "utf8");
      // `Loop.#turn`: the class, and the method that it has.
      for (const part of name.split(".")) {
        assert(code.includes(part), `${file} has no ${part}, of ${name}`);
      }
    }
  });

  it("lead from the README and the guarantees to files that the package has", async () => {
    const { files } = await packTarball();
    for (const file of ["README.md", "docs/guarantees.md", "docs/install.md"]) {
      assertEquals(linksOf(file).filter((target) => !files.includes(target)), [], file);
    }
  });
});
