// Bits of one set are not used with bits of another. The sets are types (core/bits.ts), so the
// compiler refuses an assignment of one to another. But the result of an operator is a plain
// number, so this test gets the types of both operands from the compiler.

import { readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import type TypeScript from "typescript-oldest";

const ts = createRequire(resolve("package.json"))(
  "typescript-oldest",
) as typeof TypeScript;

const OPERATORS: readonly TypeScript.SyntaxKind[] = [
  ts.SyntaxKind.AmpersandToken,
  ts.SyntaxKind.BarToken,
  ts.SyntaxKind.CaretToken,
  ts.SyntaxKind.AmpersandEqualsToken,
  ts.SyntaxKind.BarEqualsToken,
  ts.SyntaxKind.CaretEqualsToken,
];

const OPTIONS: TypeScript.CompilerOptions = {
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  allowImportingTsExtensions: true,
  noEmit: true,
  strict: true,
  types: [],
};

const PLANTED = resolve("core/planted.ts");

describe("bits of one set", () => {
  it("are used with no bits of another, in the core and in the adapters", () => {
    const { faults, sets } = mixed(["core", "runtimes"].flatMap(sources));
    assertEquals(faults, []);
    for (
      const set of [
        "connection",
        "bufferevent",
        "suspension",
        "event",
        "chain",
        "chunk",
        "owner",
        "node",
        "bun",
        "sim",
      ]
    ) {
      assert(sets.has(set), `no operator has bits of the set ${set}`);
    }
  });

  it("are found with bits of another in every kind of expression", () => {
    const { faults } = mixed(
      [],
      [
        'import type { Bits } from "./bits.ts";',
        'const A: Bits<"a"> = 1;',
        'const B: Bits<"b"> = 2;',
        'let state: Bits<"a"> = 0;',
        "export const has = (state & B) !== 0;",
        "state |= B;",
        "state &= ~B;",
        "state = state & ~(A | 4) | B;",
        "state |= A;",
        "export const fine = (state & (A | 8)) === A;",
      ].join("\n"),
    );
    assertEquals(faults.map((fault) => fault.replace(/^.*planted\.ts:/, "")), [
      "5: a and b",
      "6: a and b",
      "7: a and b",
      "8: a and b",
    ]);
  });

  it("cannot be assigned to another set", () => {
    const text = [
      'import type { Bits } from "./bits.ts";',
      'const A: Bits<"a"> = 1;',
      'export const b: Bits<"b"> = A;',
    ].join("\n");
    const program = compile([], text);
    const errors = ts.getPreEmitDiagnostics(
      program,
      program.getSourceFile(PLANTED),
    );
    assertEquals(errors.map(({ code }) => code), [2322]);
  });
});

function sources(folder: string): string[] {
  return readdirSync(folder, { recursive: true })
    .map((path) => resolve(folder, String(path)))
    .filter((path) => path.endsWith(".ts"));
}

function compile(
  files: readonly string[],
  planted?: string,
): TypeScript.Program {
  const host = ts.createCompilerHost(OPTIONS);
  if (planted !== undefined) {
    const { fileExists, readFile } = host;
    host.fileExists = (path) => path === PLANTED || fileExists.call(host, path);
    host.readFile = (path) => path === PLANTED ? planted : readFile.call(host, path);
    const { getSourceFile } = host;
    host.getSourceFile = (path, options) =>
      path === PLANTED ? ts.createSourceFile(path, planted, options) : getSourceFile.call(host, path, options);
  }
  return ts.createProgram(
    planted === undefined ? files : [...files, PLANTED],
    OPTIONS,
    host,
  );
}

/** The outermost operators that have bits of several sets, and all sets that operators have. */
function mixed(
  files: readonly string[],
  planted?: string,
): { faults: string[]; sets: Set<string> } {
  const program = compile(files, planted);
  const checker = program.getTypeChecker();
  const faults: string[] = [];
  const all = new Set<string>();

  const setsOf = (node: TypeScript.Expression): Set<string> => {
    if (ts.isParenthesizedExpression(node)) return setsOf(node.expression);
    if (ts.isPrefixUnaryExpression(node)) return setsOf(node.operand);
    if (
      ts.isBinaryExpression(node) && OPERATORS.includes(node.operatorToken.kind)
    ) {
      return new Set([...setsOf(node.left), ...setsOf(node.right)]);
    }
    if (
      ts.isBinaryExpression(node) &&
      node.operatorToken.kind === ts.SyntaxKind.EqualsToken
    ) return setsOf(node.left);
    return new Set(nameOf(checker, checker.getTypeAtLocation(node)));
  };

  const visit = (file: TypeScript.SourceFile, node: TypeScript.Node): void => {
    if (ts.isBinaryExpression(node)) {
      const { kind } = node.operatorToken;
      // An assignment is checked together with its target.
      const assigned = kind === ts.SyntaxKind.EqualsToken &&
        setsOf(node.left).size > 0;
      if (assigned || OPERATORS.includes(kind)) {
        const sets = assigned ? new Set([...setsOf(node.left), ...setsOf(node.right)]) : setsOf(node);
        for (const set of sets) all.add(set);
        if (sets.size > 1) {
          const { line } = file.getLineAndCharacterOfPosition(
            node.getStart(file),
          );
          faults.push(
            `${file.fileName}:${line + 1}: ${[...sets].join(" and ")}`,
          );
          return;
        }
      }
    }
    ts.forEachChild(node, (child) => visit(file, child));
  };

  for (const file of program.getSourceFiles()) {
    if (
      files.includes(resolve(file.fileName)) ||
      resolve(file.fileName) === PLANTED
    ) visit(file, file);
  }
  return { faults, sets: all };
}

/** The name of the set of a type, or nothing. */
function nameOf(
  checker: TypeScript.TypeChecker,
  type: TypeScript.Type,
): string[] {
  for (
    const property of type.isIntersection() ? checker.getPropertiesOfType(type) : []
  ) {
    if (!property.name.includes("SET")) continue;
    const names = checker.getNonNullableType(checker.getTypeOfSymbol(property));
    return names.isStringLiteral() ? [names.value] : [];
  }
  return [];
}
