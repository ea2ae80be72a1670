// docs/rules.md: every rule names an existing test, and every rule that is cited anywhere is in it.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { ROOT } from "../tools/runtimes.mjs";

const PAGE = "docs/rules.md";
const LETTERS = "LPETOWBRVMFKSN";
const FOLDERS = [
  "bridges",
  "core",
  "docs",
  "examples",
  "runtimes",
  "tests",
  "tools",
];
const FILES = [
  "CHANGELOG.md",
  "CONTRIBUTING.md",
  "README.md",
  "SECURITY.md",
  "mod.ts",
];

const read = (file: string): string => readFileSync(join(ROOT, file), "utf8");

interface Rule {
  title: string;
  body: string;
  /** The tests that it names, and their files. */
  tests: { name: string; file: string }[];
}

const rules = new Map<string, Rule>();
for (const section of read(PAGE).split(/^### /m).slice(1)) {
  const [, number = "", title = ""] = /^(\S+|Law \d+)\. (.*)$/m.exec(section) ??
    [];
  const body = section.slice(section.indexOf("\n")).split(/^## /m)[0] ?? "";
  const [, links = ""] = /\*\*Test\*\*: ([\s\S]*)$/.exec(body) ?? [];
  const tests = [...links.matchAll(/\[([^\]]+)\]\(\.\.\/([^)#]+)\)/g)]
    .map(([, name = "", file = ""]) => ({ name, file }));
  assert(!rules.has(number), `${PAGE} has two rules ${number}`);
  rules.set(number, { title, body, tests });
}

/** The names of the tests in a file. Names with parts have the parts in `${}`. */
function titlesIn(text: string): string[] {
  const named = text.matchAll(
    /\b(?:describe|it|law)\(\s*(?:"([^"]*)"|`([^`]*)`)/g,
  );
  return [...named].map(([, plain, made]) => plain ?? made ?? "");
}

/** The rules that a text cites: a letter and a number, as a word of its own. */
function citedIn(text: string): string[] {
  const word = new RegExp(
    `(?<=^|[\\s("'\`[])[${LETTERS}][1-9]\\d?(?=$|[\\s)"'\`\\],.:;])`,
    "gm",
  );
  return [...text.matchAll(word)].map(([number]) => number);
}

/** The text files of the repository that a person reads. */
function filesOf(): string[] {
  const inFolders = FOLDERS.filter((folder) => existsSync(join(ROOT, folder)))
    .flatMap((folder) =>
      readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
        .filter((name) => /\.(ts|mjs|md)$/.test(name) && !name.includes("node_modules")).map((name) =>
          join(folder, name)
        )
    );
  return [...FILES, ...inFolders].filter((file) => file !== "tests/packaging/rules.test.ts");
}

describe("the rules", () => {
  it("are numbered without gaps, letter by letter", () => {
    for (const letter of LETTERS) {
      const numbers = [...rules.keys()].filter((number) => new RegExp(`^${letter}\\d`).test(number));
      assert(numbers.length > 0, `no rules for ${letter}`);
      assertEquals(numbers, numbers.map((_, i) => `${letter}${i + 1}`));
    }
    const laws = [...rules.keys()].filter((number) => number.startsWith("Law "));
    assertEquals(laws, laws.map((_, i) => `Law ${i + 1}`));
  });

  it("describe C, whether Trivent does the same, and why not", () => {
    for (const [number, { body }] of rules) {
      if (number.startsWith("Law ")) continue;
      assert(
        /^- \*\*C\*\*: /m.test(body),
        `${number} does not say what C does`,
      );
      const [, verdict = ""] = /^- \*\*Trivent\*\*: (Same|Different|Partly|Not kept)/m.exec(body) ??
        [];
      assert(
        verdict !== "",
        `${number} does not say whether Trivent does the same`,
      );
      const explains = /^- \*\*Why\*\*: /m.test(body);
      assert(
        verdict === "Same" || explains,
        `${number} does not say why Trivent differs`,
      );
    }
  });

  for (const [number, { title, tests }] of rules) {
    it(`${number} is proved: ${title}`, () => {
      assert(tests.length > 0, `${number} names no test`);
      for (const { name, file } of tests) {
        assert(existsSync(join(ROOT, file)), `${number}: ${file} is not there`);
        const there = titlesIn(read(file)).some((title) =>
          title === name || (title.includes("${") && title.includes(name))
        );
        assert(there, `${number}: ${file} has no test named ${name}`);
      }
    });
  }

  it("that are cited exist", () => {
    assertEquals(citedIn("As in C (V8, T99); rules B1 to B20."), [
      "V8",
      "T99",
      "B1",
      "B20",
    ]);
    const unknown = new Set<string>();
    let cited = 0;
    for (const file of filesOf()) {
      for (const number of citedIn(read(file))) {
        cited++;
        if (!rules.has(number)) unknown.add(`${file} cites ${number}`);
      }
    }
    assert(cited > 100, `${cited} citations`);
    assertEquals([...unknown], []);
  });

  it("of lines name every style", () => {
    const styles = [
      ...read("core/flags.ts").matchAll(/^export const (EVBUFFER_EOL_\w+)/gm),
    ].map(([, name = ""]) => name);
    assert(styles.length >= 5);
    assertEquals(
      styles.filter((name) => !rules.get("R1")?.body.includes(`\`${name}\``)),
      [],
    );
  });

  it("of serve() have the names that the conformance tests give them", () => {
    const named = [
      ...read("tests/conformance/serve_laws.ts").matchAll(
        /: law (\d+), ([^`]+)`/g,
      ),
    ];
    assert(named.length > 5);
    const plain = (text: string): string => text.replaceAll("`", "").toLowerCase();
    for (const [, number = "", title = ""] of named) {
      assertEquals(
        plain(rules.get(`Law ${number}`)?.title ?? ""),
        plain(title),
      );
    }
  });
});
