/**
 * Reads the JUnit reports of the three test runners. It counts leaves only (a `describe` is no test), so that the same
 * file counts the same on the three.
 */

/**
 * Counts the tests of a report.
 *
 * @param {string} xml
 * @returns {{ passed: number, failed: number, skipped: number }}
 */
export function countTests(xml) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const cases = [...xml.matchAll(/<testcase((?:\s+[\w:-]+="[^"]*")*)\s*(\/>|>([\s\S]*?)<\/testcase>)/g)].map((
    match,
  ) => ({
    name: /\bname="([^"]*)"/.exec(match[1])?.[1] ?? "",
    body: match[3] ?? "",
  }));
  // Deno lists a `describe`, and a test with subtests, as a case of its own beside "name > inner name".
  const parents = new Set();
  if (xml.includes('<testsuites name="deno test"')) {
    for (const { name } of cases) {
      const parts = name.split(" &gt; ");
      for (let i = 1; i < parts.length; i++) parents.add(parts.slice(0, i).join(" &gt; "));
    }
  }
  for (const { name, body } of cases) {
    if (parents.has(name)) continue;
    if (/<(failure|error)\b/.test(body)) counts.failed++;
    else if (/<skipped\b/.test(body)) counts.skipped++;
    else counts.passed++;
  }
  return counts;
}
