/**
 * Reads the JUnit reports of the three test runners. It takes leaves only (a `describe` is not a test), so that the same file
 * counts the same on the three.
 */

/** A suite begins or ends, or a whole test. */
const ELEMENT =
  /<(testsuite|testcase)((?:\s+[\w:-]+="[^"]*")*)\s*(?:\/>|>(?:((?:(?!<testcase|<testsuite)[^])*?)<\/testcase>)?)|<\/testsuite>/g;

/**
 * Reads the tests of a report.
 *
 * @param {string} xml
 * @returns {{ name: string, status: "passed" | "failed" | "skipped", reason: string | undefined }[]} `name` is the full
 *   name, joined by " > ". `reason` is why the test is skipped, if the report says so
 */
export function readTests(xml) {
  const isDeno = xml.includes('<testsuites name="deno test"');
  const suites = [];
  const tests = [];
  for (const [element, kind, attributes, body = ""] of xml.matchAll(ELEMENT)) {
    if (element === "</testsuite>") {
      suites.pop();
      continue;
    }
    const name = attribute(attributes, "name") ?? "";
    if (kind === "testsuite") {
      // Deno and Bun have a suite for each file.
      const isFile = isDeno || name === attribute(attributes, "file");
      if (!element.endsWith("/>")) suites.push(isFile ? undefined : name);
      continue;
    }
    const status = /<(failure|error)\b/.test(body) ? "failed" : /<skipped\b/.test(body) ? "skipped" : "passed";
    const path = [...suites.filter((suite) => suite !== undefined), name];
    tests.push({
      name: path.join(" > "),
      status,
      reason: attribute(/<skipped\b[^>]*>/.exec(body)?.[0] ?? "", "message"),
    });
  }
  if (!isDeno) return tests;
  // Deno lists a `describe`, and a test with subtests, as a case of its own beside "name > inner name".
  const parents = new Set();
  for (const { name } of tests) {
    const parts = name.split(" > ");
    for (let i = 1; i < parts.length; i++) parents.add(parts.slice(0, i).join(" > "));
  }
  return tests.filter(({ name }) => !parents.has(name));
}

function attribute(text, name) {
  const value = new RegExp(`(?:^|\\s)${name}="([^"]*)"`).exec(text)?.[1];
  return value?.replaceAll(/&(?:lt|gt|quot|apos|amp|#(x?)([\da-f]+));/gi, (entity, hex, digits) => {
    if (digits !== undefined) return String.fromCodePoint(parseInt(digits, hex ? 16 : 10));
    return { "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&amp;": "&" }[entity.toLowerCase()];
  });
}
