/** Makes a function of the text of a program. It may import from `trivent`, and export a scenario. */

/** The exports of a program. */
export interface Exports {
  default?: (sim: unknown) => unknown;
}

const AsyncFunction = (async () => {}).constructor as new (...text: string[]) => (
  trivent: object,
  exports: Exports,
) => Promise<void>;

/** Lines that the engine puts before the text of a function. */
const LINES_BEFORE = 2;

/**
 * Compiles a program.
 *
 * @param source Its text
 * @returns A function that runs it with the library
 * @throws {SyntaxError} When the text is not JavaScript, or imports something else or while it runs
 */
export function compile(source: string): (trivent: object, exports: Exports) => Promise<void> {
  const text = source
    .replace(
      /^([ \t]*)import\s*\{([^}]*)\}\s*from\s*["']trivent(?:\/(?:core|sim))?["'];?/gm,
      (_all, space, names) => `${space}const {${names.replace(/\bas\b/g, ":")}} = __trivent;`,
    )
    .replace(/^([ \t]*)import\s*\*\s*as\s+(\w+)\s+from\s*["']trivent["'];?/gm, "$1const $2 = __trivent;")
    .replace(/^export\s+default\s+/gm, "__exports.default = ")
    .replace(/^export\s+((?:async\s+)?function\s*\*?\s*)(\w+)/gm, "__exports.$2 = $2; $1$2")
    .replace(/^export\s+(?:const|let)\s+(\w+)\s*=/gm, "const $1 = __exports.$1 =");
  const other = /^[ \t]*import\b[^;\n]*?["']([^"']+)["']/m.exec(text);
  if (/\bimport\s*\(/.test(text)) throw new SyntaxError('Cannot use import(): the playground has "trivent" only');
  if (other !== null) throw new SyntaxError(`Cannot import "${other[1]}": the playground has "trivent" only`);
  return new AsyncFunction("__trivent", "__exports", `${text}\n//# sourceURL=program.js`);
}

/**
 * Describes an error, with the line of the program where it came from.
 *
 * @param error The error
 */
export function describe(error: unknown): string {
  if (!(error instanceof Error)) return `the program has thrown ${String(error)}`;
  const code = (error as { code?: unknown }).code;
  const stack = `${error.stack ?? ""}\n${(error.cause as Error | undefined)?.stack ?? ""}`;
  const place = /program\.js:(\d+):\d+/.exec(stack);
  const line = place === null ? "" : ` (line ${Number(place[1]) - LINES_BEFORE})`;
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : "";
  return `${error.name}${typeof code === "string" ? ` ${code}` : ""}: ${error.message}${cause}${line}`;
}
