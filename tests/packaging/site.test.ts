// The programs on the pages of the site, as readers use them: pasted into an empty project with the
// npm package. Node 20 runs them as JavaScript, and so do Deno and Bun.

import { mkdirSync, readdirSync, readFileSync, symlinkSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { run, start } from "../tools/processes.mjs";
import { findRuntime, ROOT, type RuntimeName, RUNTIMES } from "../tools/runtimes.mjs";
import { cleanEnvironment, installTarball, LISTENING, mustTool, packTarball, writeFiles } from "./workshop.ts";

const LIMIT_MS = 180_000;
const PAGES = join(ROOT, "site", "pages");
const COMMANDS: Record<RuntimeName, string[]> = { node: [], deno: ["run", "--quiet", "--allow-all"], bun: ["run"] };

/** The programs of a page, in order. Those of the tutorial are files of `examples/`, which have their own test. */
function programsOf(page: string): string[] {
  const text = readFileSync(join(PAGES, page), "utf8");
  return [...text.matchAll(/^```js\n([\s\S]*?)^```$/gm)].map(([, code = ""]) => code).filter((code) =>
    code.trim() !== ""
  );
}

/** The expected output of a program. */
function printsOf(code: string): string[] {
  return [...code.matchAll(/console\.log\(.*\)[;,]? \/\/ (.*)$/gm)].map(([, line = ""]) => line);
}

function freePort(): Promise<number> {
  const server = createServer();
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });
}

describe("the pages of the site", () => {
  const pages = (readdirSync(PAGES, { recursive: true }) as string[]).filter((name) => name.endsWith(".md")).sort();
  const recipes = pages.filter((name) => /^cookbook\/\d/.test(name));
  const starts = RUNTIMES.map((runtime) => [runtime, `start/${runtime}.md`] as const);
  let project: string;

  before(async () => {
    project = await installTarball((await packTarball()).path);
    for (const page of recipes) {
      programsOf(page).forEach((code, i) => writeFiles(project, { [`${page.replaceAll(/\W/g, "_")}_${i}.mjs`]: code }));
    }
  });

  it("include ten recipes with a program each", () => {
    assertEquals(recipes.length, 10);
    for (const page of recipes) {
      const programs = programsOf(page);
      assertEquals(programs.length, 1, page);
      const lines = programs[0]?.trimEnd().split("\n").length ?? 0;
      assert(lines >= 10 && lines <= 40, `${page} has ${lines} lines`);
    }
  });

  it("have a test for each program", () => {
    const tested = [...recipes, ...starts.map(([, page]) => page), "index.md", "playground.md"];
    for (const page of pages) {
      if (!tested.includes(page)) assertEquals(programsOf(page), [], page);
    }
  });

  it("have a place in the sidebar for each section of the guide", () => {
    const sections = [...readFileSync(join(ROOT, "docs", "guide.md"), "utf8").matchAll(/^## (.*)$/gm)];
    const placed = readFileSync(join(ROOT, "site", "tools", "guide.mjs"), "utf8");
    assertEquals(sections.map(([, name]) => name).filter((name) => !placed.includes(`"${name}"`)), []);
  });

  it("compile, and so do the documents, the tutorial and the programs of the playground", async () => {
    const folder = join(project, "typed");
    const add = (name: string, code: string) => writeFiles(folder, { [name]: code });
    const addFences = (file: string) =>
      [
        ...readFileSync(join(ROOT, file), "utf8").replaceAll("\\`", "`").matchAll(
          /^```(?:js|ts)(?: ignore)?\n([\s\S]*?)^```$/gm,
        ),
      ]
        .forEach(([, code = ""], i) => code.trim() !== "" && add(`${file.replaceAll(/\W/g, "_")}_${i + 1}.mjs`, code));
    const documents = readdirSync(join(ROOT, "docs")).filter((name) => name.endsWith(".md"));
    const files = [...pages.map((page) => `site/pages/${page}`), ...documents.map((name) => `docs/${name}`)];
    for (const file of [...files, "README.md", "site/tools/errors.mjs"]) addFences(file);
    for (const part of ["examples/tutorial", "site/playground/programs"]) {
      for (const name of readdirSync(join(ROOT, part)).filter((name) => /\.m?js$/.test(name))) {
        add(`${part}/${name.replace(/\.js$/, ".mjs")}`, readFileSync(join(ROOT, part, name), "utf8"));
      }
    }
    assert((readdirSync(folder, { recursive: true }) as string[]).length > 70);
    mkdirSync(join(project, "node_modules", "@nats-io"));
    symlinkSync(join(ROOT, "node_modules/@nats-io/nats-core"), join(project, "node_modules/@nats-io/nats-core"));
    const compilerOptions = {
      ...{ module: "NodeNext", moduleResolution: "NodeNext", target: "ES2022", moduleDetection: "force" },
      ...{ lib: ["ES2023", "ESNext.Disposable"], types: ["node"], typeRoots: [join(ROOT, "node_modules/@types")] },
      // They are JavaScript, so parameters need no types.
      ...{ strict: true, noImplicitAny: false, allowJs: true, checkJs: true, skipLibCheck: true, noEmit: true },
    };
    add("tsconfig.json", JSON.stringify({ compilerOptions, include: ["**/*.mjs"] }));
    await mustTool("typescript", "tsc", ["-p", folder]);
  });

  for (const runtime of RUNTIMES) {
    for (const page of recipes) {
      programsOf(page).forEach((code, i) =>
        it(`${page} prints its comments on ${runtime} (${i + 1})`, async () => {
          const args = [...COMMANDS[runtime], `${page.replaceAll(/\W/g, "_")}_${i}.mjs`];
          const options = { cwd: project, env: cleanEnvironment(), timeoutMs: LIMIT_MS };
          const result = await run(findRuntime(runtime).path, args, options);
          const expected = page.includes("06-") ? ["hello over TCP", "hello over TLS"] : printsOf(code);
          assert(expected.length > 0, page);
          assertEquals(
            { code: result.code, timedOut: result.timedOut, output: result.output },
            { code: 0, timedOut: false, output: expected.map((line) => `${line}\n`).join("") },
          );
        })
      );
    }
  }

  for (const [runtime, page] of starts) {
    it(`${page} works from an empty folder`, async () => {
      const [server = "", client = "", test = ""] = programsOf(page);
      const port = await freePort();
      const folder = { server, client, test };
      for (const [name, code] of Object.entries(folder)) {
        writeFiles(project, { [`${runtime}_${name}.mjs`]: code.replaceAll("7000", String(port)) });
      }
      const path = findRuntime(runtime).path;
      const flags = runtime === "deno" ? ["run", "--quiet", "--allow-net"] : COMMANDS[runtime];
      const options = { cwd: project, env: cleanEnvironment() };
      const running = await start(path, [...flags, `${runtime}_server.mjs`], { ...options, ready: LISTENING });
      try {
        const asked = await run(path, [...flags, `${runtime}_client.mjs`], { ...options, timeoutMs: LIMIT_MS });
        assertEquals(asked.output, "you sent 5 bytes\n");
      } finally {
        await running.stop();
      }
      const tested = await run(path, [...flags, `${runtime}_test.mjs`], { ...options, timeoutMs: LIMIT_MS });
      assertEquals(tested.output, "you sent 5 bytes\nETIMEDOUT\ntrue\n");
    });
  }

  it("the page of errors has a program that prints its comments on each runtime", async () => {
    // The page is made when the site is built.
    const text = readFileSync(join(ROOT, "site", "tools", "errors.mjs"), "utf8").replaceAll("\\`", "`");
    const [, code = ""] = /^```ts\n([\s\S]*?)^```$/m.exec(text) ?? [];
    writeFiles(project, { "errors_page.mjs": code });
    for (const runtime of RUNTIMES) {
      const args = [...COMMANDS[runtime], "errors_page.mjs"];
      const options = { cwd: project, env: cleanEnvironment(), timeoutMs: LIMIT_MS };
      const result = await run(findRuntime(runtime).path, args, options);
      assertEquals({ code: result.code, output: result.output }, { code: 0, output: "ECONNREFUSED\n" });
    }
  });

  it("index.md has a server that runs on each runtime", async () => {
    const [code = ""] = programsOf("index.md");
    const program = `${code.replace("7000", "0")}console.log("listening on", server.address);\nawait server.close();\n`;
    writeFiles(project, { "index_page.mjs": program });
    for (const runtime of RUNTIMES) {
      const args = [...COMMANDS[runtime], "index_page.mjs"];
      const result = await run(findRuntime(runtime).path, args, {
        cwd: project,
        env: cleanEnvironment(),
        timeoutMs: LIMIT_MS,
      });
      assertEquals(result.code, 0, result.output);
    }
  });
});
