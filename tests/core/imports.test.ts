// Which files may import which: the core imports only the core and knows no runtime; adapters
// import the core. tests/packaging/types.test.ts checks that the core compiles without any
// runtime's types.

import { readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";

/**
 * Names that only a runtime has, and the two names of the language that would make simulated runs
 * differ.
 */
const HOST_NAMES =
  /(?<![.#\w$])(?:process|Buffer|setTimeout|setInterval|setImmediate|clearTimeout|clearInterval|clearImmediate|performance|Deno|Bun|require|global|window|document|navigator|fetch|console|Date)(?![\w$]|\s*\??:)|\bMath\.random\b/g;

/** The floors of the core, the ground first: a file imports only from its own folder and from folders of lower floors. */
const FLOORS: readonly (readonly string[])[] = [
  ["core"],
  ["core/buffer", "core/loop"],
  ["core/socket"],
  ["core/bufferevent", "core/poll"],
  ["core/views"],
  ["core/api"],
  ["core/serve"],
];

interface Import {
  specifier: string;
  typeOnly: boolean;
}

describe("the core", () => {
  it("has files, so that the other tests are not empty", () => {
    assert(sources("core").length > 3);
    assert(sources("runtimes").length >= 5);
  });

  it("imports nothing from outside core/", () => {
    for (const path of sources("core")) {
      for (const { specifier } of importsOf(path)) {
        const target = resolve(path, specifier);
        assert(target.startsWith("core/") && target.endsWith(".ts"), `${path} imports ${specifier}`);
      }
    }
  });

  it("uses no name of a runtime, no clock and no Math.random()", () => {
    for (const path of sources("core")) {
      const found = [...bare(readFileSync(path, "utf8")).matchAll(HOST_NAMES)].map(([name]) => name);
      assertEquals(found, [], path);
    }
  });
});

describe("the floors of the core", () => {
  it("are kept by every import, types too", () => {
    assertEquals(floorFaults(new Map(sources("core").map((path) => [path, readFileSync(path, "utf8")]))), []);
  });

  it("list every folder, and no other", () => {
    assertEquals([...new Set(sources("core").map(posix.dirname))].sort(), FLOORS.flat().sort());
  });

  it("are violated by an import of a higher floor, of a value or of a type", () => {
    assertEquals(
      floorFaults(
        new Map([
          ["core/errors.ts", 'import type { Loop } from "./loop/loop.ts";'],
          ["core/loop/loop.ts", 'import { sourceOf } from "../api/pollable.ts";'],
          ["core/api/pollable.ts", 'import { Source } from "../socket/connection.ts";'],
        ]),
      ),
      [
        "core/errors.ts imports core/loop/loop.ts: core is below core/loop",
        "core/loop/loop.ts imports core/api/pollable.ts: core/loop is below core/api",
      ],
    );
  });

  it("are violated by imports between folders of one floor", () => {
    assertEquals(
      floorFaults(new Map([["core/buffer/chain.ts", 'export type { Loop } from "../loop/loop.ts";']])),
      ["core/buffer/chain.ts imports core/loop/loop.ts: core/buffer is beside core/loop"],
    );
  });

  it("are violated by a circle across folders; a circle inside a folder is allowed", () => {
    const inside = new Map([
      ["core/loop/loop.ts", 'import { LoopEvent } from "./loop_event.ts";'],
      ["core/loop/loop_event.ts", 'import type { Loop } from "./loop.ts";'],
    ]);
    assertEquals(floorFaults(inside), []);
    const crossing = new Map([
      ["core/socket/a.ts", 'import { b } from "../loop/b.ts";'],
      ["core/loop/b.ts", 'import { c } from "./c.ts";'],
      ["core/loop/c.ts", 'import type { a } from "../socket/a.ts";'],
    ]);
    assertEquals(floorFaults(crossing), [
      "core/loop/c.ts imports core/socket/a.ts: core/loop is below core/socket",
      "core/loop and core/socket import each other",
      "core/socket/a.ts, core/loop/b.ts, core/loop/c.ts: a circle that crosses folders",
    ]);
  });
});

describe("the adapters", () => {
  it("import the core and what they share, and only detect.ts imports adapters", () => {
    for (const path of sources("runtimes")) {
      for (const { specifier, typeOnly } of importsOf(path)) {
        // A value from `node:` would be loaded, or be missing, on every runtime. Adapters load it
        // at run time.
        if (typeOnly && specifier.startsWith("node:")) continue;
        const target = resolve(path, specifier);
        const allowed = path === "runtimes/detect.ts"
          ? /^(core|runtimes)\//
          : /^(core\/|runtimes\/(?!(node|deno|bun|sim|detect)\.ts))/;
        assert(allowed.test(target) && target.endsWith(".ts"), `${path} imports ${specifier}`);
      }
    }
  });

  it("for Deno and Bun do not use Node's net", () => {
    for (const path of ["runtimes/deno.ts", "runtimes/bun.ts"]) {
      // Deno also has a permission of that name.
      assert(!/(?<!name: )["'`](node:)?net["'`]/.test(readFileSync(path, "utf8")), path);
    }
  });
});

describe("the bridges", () => {
  it("import the public core, its file for bridges and its checks; from outside only node: and types", () => {
    const core = ["core/mod.ts", "core/api/bridge.ts", "core/checks.ts", "core/names.ts"];
    for (const path of sources("bridges")) {
      for (const { specifier, typeOnly } of importsOf(path)) {
        const target = resolve(path, specifier);
        // natsTransport() makes its own connections, so it needs the runtime of the process.
        const allowed = core.includes(target) || target === "runtimes/detect.ts" || target.startsWith("bridges/") ||
          specifier.startsWith("node:") ||
          typeOnly;
        assert(allowed, `${path} imports ${specifier}`);
      }
    }
  });

  it("are imported only by each other", () => {
    for (const path of ["mod.ts", ...sources("core"), ...sources("runtimes")]) {
      for (const { specifier } of importsOf(path)) {
        assert(!resolve(path, specifier).startsWith("bridges/"), `${path} imports ${specifier}`);
      }
    }
  });
});

describe("mod.ts", () => {
  it("imports the core and the adapters only", () => {
    for (const { specifier } of importsOf("mod.ts")) {
      assert(/^(core|runtimes)\/.*\.ts$/.test(resolve("mod.ts", specifier)), `mod.ts imports ${specifier}`);
    }
  });
});

describe("the scanner of this test", () => {
  it("sees imports of every form, and none in comments and strings", () => {
    const text = [
      'import { a } from "./a.ts";',
      'import type { b } from "./b.ts";',
      'export * from "./c.ts";',
      'export type { d } from "./d.ts";',
      'import "./e.ts";',
      'const f = await import("./f.ts");',
      '// import "./no.ts";',
      '/* import "./no.ts"; */',
      "const g = `import \"./no.ts\" ${await import('./h.ts')}`;",
      "const h = 'from \"./no.ts\"';",
      'const s = /["\'`]/; import "./i.ts";',
      'import {\n  j,\n} from "./j.ts";',
      'type K = import("./k.ts").K;',
    ].join("\n");
    assertEquals(
      findImports(text).map(({ specifier, typeOnly }) => `${specifier}${typeOnly ? " type" : ""}`),
      [
        "./a.ts",
        "./b.ts type",
        "./c.ts",
        "./d.ts type",
        "./e.ts",
        "./f.ts",
        "./h.ts",
        "./i.ts",
        "./j.ts",
        "./k.ts",
      ],
    );
  });

  it("sees host names in code, and none in comments, strings and member names", () => {
    const code = bare("// process\nconst a = 'Deno' + `Bun ${setTimeout}`; b.process(); interface C { process: 1 }");
    assertEquals([...code.matchAll(HOST_NAMES)].map(([name]) => name), ["setTimeout"]);
  });
});

function sources(folder: string): string[] {
  return readdirSync(folder, { recursive: true })
    .map((path) => `${folder}/${String(path).replaceAll("\\", "/")}`)
    .filter((path) => path.endsWith(".ts"))
    .sort();
}

/**
 * The violations of the rule of {@linkcode FLOORS} in files that are given by their paths.
 * `core/mod.ts` is above all floors.
 */
function floorFaults(files: ReadonlyMap<string, string>): string[] {
  const faults: string[] = [];
  const imports = new Map<string, string[]>();
  const folders = new Set<string>();
  for (const [path, text] of files) {
    if (path === "core/mod.ts") continue;
    const targets = findImports(text).map(({ specifier }) => resolve(path, specifier));
    imports.set(path, targets);
    const from = posix.dirname(path);
    for (const target of targets) {
      const to = posix.dirname(target);
      if (from === to) continue;
      folders.add(`${from} ${to}`);
      const difference = floorOf(from) - floorOf(to);
      if (difference > 0) continue;
      faults.push(`${path} imports ${target}: ${from} is ${difference === 0 ? "beside" : "below"} ${to}`);
    }
  }
  for (const pair of folders) {
    const [a, b] = pair.split(" ") as [string, string];
    if (a < b && folders.has(`${b} ${a}`)) faults.push(`${a} and ${b} import each other`);
  }
  for (const circle of circlesOf(imports)) {
    if (new Set(circle.map(posix.dirname)).size > 1) faults.push(`${circle.join(", ")}: a circle that crosses folders`);
  }
  return faults;
}

function floorOf(folder: string): number {
  return FLOORS.findIndex((folders) => folders.includes(folder));
}

/** The files that import each other in a circle, in sets: each file of a set leads to every other. */
function circlesOf(imports: ReadonlyMap<string, readonly string[]>): string[][] {
  const reach = new Map<string, Set<string>>();
  for (const path of imports.keys()) {
    const seen = new Set<string>();
    const open = [...imports.get(path) ?? []];
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      if (seen.has(next)) continue;
      seen.add(next);
      open.push(...imports.get(next) ?? []);
    }
    reach.set(path, seen);
  }
  const circles: string[][] = [];
  const placed = new Set<string>();
  for (const [path, seen] of reach) {
    if (placed.has(path) || !seen.has(path)) continue;
    const circle = [...imports.keys()].filter((other) => seen.has(other) && reach.get(other)?.has(path) === true);
    circle.forEach((other) => placed.add(other));
    circles.push(circle);
  }
  return circles;
}

function resolve(from: string, specifier: string): string {
  return specifier.startsWith(".") ? posix.join(posix.dirname(from), specifier) : specifier;
}

function importsOf(path: string): Import[] {
  return findImports(readFileSync(path, "utf8"));
}

function findImports(text: string): Import[] {
  const code = bare(text);
  const found: Import[] = [];
  const pattern = /\b(?:(import|export)\b([^;'"`=()]*?)\bfrom\s*|(import)\s*\(?\s*)(["'`])/g;
  for (const match of code.matchAll(pattern)) {
    // `bare` keeps positions, so the original text has the specifier where `bare` has an empty
    // string.
    const start = match.index + match[0].length;
    const quote = match[4] ?? '"';
    found.push({
      specifier: text.slice(start, text.indexOf(quote, start)),
      typeOnly: /^\s*type\b/.test(match[2] ?? ""),
    });
  }
  return found;
}

/** The code with comments and the contents of strings, templates and regular expressions blanked out, in place. */
function bare(text: string): string {
  const out = [...text.replaceAll(/[^\n\x20-\x7e]/g, " ")];
  const blank = (from: number, to: number): void => {
    for (let i = from; i < to && i < out.length; i++) if (out[i] !== "\n") out[i] = " ";
  };
  /** For each open `${`, the depth of braces at which it closes. */
  const templates: number[] = [];
  let depth = 0;
  let at = 0;
  const endOf = (pattern: RegExp, from: number): number => {
    pattern.lastIndex = from;
    const match = pattern.exec(text);
    return match === null ? text.length : match.index + match[0].length;
  };
  const template = (from: number): number => {
    const end = endOf(/(?<!\\)(?:\\\\)*(?:`|\$\{)/g, from);
    const opens = text[end - 1] === "{";
    blank(from, end - (opens ? 2 : 1));
    if (opens) templates.push(depth++);
    return end;
  };
  while (at < text.length) {
    const char = text[at];
    const two = text.slice(at, at + 2);
    if (two === "//" || two === "/*") {
      const end = two === "//" ? endOf(/$/gm, at) : endOf(/\*\//g, at);
      blank(at, end);
      at = end;
    } else if (char === '"' || char === "'") {
      const end = endOf(char === '"' ? /"(?:[^"\\\n]|\\.)*"/g : /'(?:[^'\\\n]|\\.)*'/g, at);
      blank(at + 1, end - 1);
      at = end;
    } else if (char === "`") {
      at = template(at + 1);
    } else if (char === "}" && templates.at(-1) === depth - 1) {
      templates.pop();
      depth--;
      at = template(at + 1);
    } else if (
      char === "/" &&
      /(?:^|[=(,:;!&|?{}\[\n>]|\breturn|\btypeof)\s*$/.test(out.slice(Math.max(0, at - 20), at).join(""))
    ) {
      const end = endOf(/\/(?:[^\/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\//g, at);
      blank(at + 1, end - 1);
      at = end;
    } else {
      if (char === "{") depth++;
      if (char === "}") depth--;
      at++;
    }
  }
  return out.join("");
}
