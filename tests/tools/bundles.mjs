/**
 * Builds tests and examples for Node, which does not run TypeScript before version 22.18.
 * tools/build.mjs builds the library.
 */

import { join, relative, resolve, sep } from "node:path";
import { bundle, OPTIONS, SPECIFIERS, sync } from "../../tools/build.mjs";
import { exampleNames, ROOT, scenarioNames } from "./runtimes.mjs";

/**
 * Builds programs of `examples/` for Node into `build/examples/`; they import `dist/` by the name of the package.
 *
 * @param {readonly string[]} [names] Their names. All by default
 */
export async function buildExamples(names = [...exampleNames(), ...scenarioNames()]) {
  if (names.length === 0) return;
  const files = await bundle({
    entryPoints: names.map((name) => `examples/${name}.ts`),
    outdir: join(ROOT, "build", "examples"),
    outbase: join(ROOT, "examples"),
    splitting: false,
    packages: "external",
    plugins: [asUsers(["examples"])],
  });
  await sync(join(ROOT, "build", "examples"), files);
}

/**
 * Builds test files for Node.
 *
 * Tests of the core import its files, and a second copy of a class with private fields would be
 * another class. So they are built in one run together with the library, with the options of
 * `dist/`. All other tests (and the examples) may import only entry points, and get them from
 * `dist/`, under the name of the package.
 *
 * @param {readonly string[]} tests Paths from the root
 * @param {string} outdir
 */
export async function buildTests(tests, outdir) {
  const files = await bundle({
    entryPoints: [...tests],
    outdir,
    external: [...OPTIONS.external, "esbuild", "fast-check", "@nats-io/nats-core"],
    // package.json lists for bundlers which files have side effects when they are imported. The
    // files of tests are not in that list.
    ignoreAnnotations: true,
    plugins: [
      asUsers([
        "examples",
        "bench",
        "bridges",
        "tests/bridges",
        "tests/conformance",
        "tests/programs",
        "tests/packaging",
      ]),
    ],
  });
  await sync(outdir, files);
}

/**
 * In these folders an entry point is imported by the package's name, as users do, and other files
 * must not be imported.
 */
function asUsers(folders) {
  const isUser = (path) => folders.some((folder) => path.startsWith(folder + "/"));
  return {
    name: "as-users",
    setup({ onResolve }) {
      onResolve({ filter: /^trivent(\/|$)/ }, ({ path, importer }) => {
        return isUser(posix(relative(ROOT, importer))) ? { path, external: true } : undefined;
      });
      onResolve({ filter: /^\.\.?\// }, ({ path, resolveDir, importer }) => {
        const from = posix(relative(ROOT, importer));
        const to = posix(relative(ROOT, resolve(resolveDir, path)));
        if (
          importer === "" || !isUser(from) ||
          !/^(mod\.ts|core\/|runtimes\/|bridges\/\w+\.ts|tests\/conformance\/mod\.ts)/.test(to)
        ) {
          return undefined;
        }
        const name = SPECIFIERS.get(to);
        if (name !== undefined) return { path: name, external: true };
        return {
          errors: [{
            text: `${from} imports ${to}: only tests/core/ may reach behind the entry points ` +
              `(${[...SPECIFIERS.keys()].join(", ")}), since Node runs the others against dist/`,
          }],
        };
      });
    },
  };
}

function posix(path) {
  return path.split(sep).join("/");
}
