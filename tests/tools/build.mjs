/**
 * Builds what npm users import (`dist/`), and what Node needs here: it runs no TypeScript before version 22.18.
 *
 * `dist/` is one esbuild run with splitting, so that all entry points share the same chunks: a class is the same class
 * through "trivent" and through "trivent/core".
 *
 * As a program: `node tests/tools/build.mjs` builds `dist/` whole.
 */

import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative, resolve, sep } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";
import { BUN_ENTRY, inTwoChunks } from "./chunks.mjs";
import { exampleNames, ROOT } from "./runtimes.mjs";

/** The entry points: the source file, and the specifier under which npm users import it. */
const ENTRIES = new Map([
  ["mod.ts", "trivent"],
  ["core/mod.ts", "trivent/core"],
  ["runtimes/node.ts", "trivent/node"],
  ["runtimes/deno.ts", "trivent/deno"],
  ["runtimes/bun.ts", "trivent/bun"],
  ["runtimes/sim.ts", "trivent/sim"],
]);

/** The part of TypeScript's library that declares `Symbol.dispose`. The source may not ask for it: JSR refuses that. */
const DISPOSABLE = '/// <reference lib="esnext.disposable" />\n';

/** The same for all that is built, so that tests run what users get. */
const OPTIONS = {
  absWorkingDir: ROOT,
  outbase: ROOT,
  bundle: true,
  splitting: true,
  format: "esm",
  target: "es2022",
  platform: "neutral",
  external: ["node:*"],
  chunkNames: "chunks/[name]-[hash]",
  sourcemap: true,
  legalComments: "none",
  // V8 keeps a source with a single other letter in two bytes for each, and decodes it more slowly.
  charset: "ascii",
  write: false,
  logLevel: "warning",
};

/**
 * Builds `dist/`.
 *
 * @param {{ declarations?: boolean, clean?: boolean }} [options] Without declarations it is quick, and `dist/` is good to
 *   run, not to pack; `clean` removes what an earlier build has left
 */
export async function buildDist({ declarations = true, clean = false } = {}) {
  const [bundles, types] = await Promise.all([
    bundle({
      entryPoints: [...[...ENTRIES.keys()].map((path) => ({ in: path, out: path.slice(0, -3) })), BUN_ENTRY],
      outdir: join(ROOT, "dist"),
      plugins: [inTwoChunks([...ENTRIES.keys()])],
    }),
    declarations ? buildDeclarations() : new Map(),
  ]);
  await sync(join(ROOT, "dist"), new Map([...bundles, ...types]), clean);
}

/**
 * Builds programs of `examples/` for Node into `build/examples/`; they import `dist/` by the name of the package.
 *
 * @param {readonly string[]} [names] All of them unless said
 */
export async function buildExamples(names = exampleNames()) {
  if (names.length === 0) return;
  const files = await bundle({
    entryPoints: names.map((name) => `examples/${name}.ts`),
    outdir: join(ROOT, "build", "examples"),
    outbase: join(ROOT, "examples"),
    splitting: false,
    plugins: [asUsers(["examples"])],
  });
  await sync(join(ROOT, "build", "examples"), files);
}

/**
 * Builds test files for Node.
 *
 * Tests of the core reach into its files, and a second copy of a class with private fields would be another class.
 * So they are built in one run together with the library, with the options of `dist/`. All other tests (and the
 * examples) may import entry points only, and get them from `dist/`, under the name of the package.
 *
 * @param {readonly string[]} tests Paths from the root
 * @param {string} outdir
 */
export async function buildTests(tests, outdir) {
  const files = await bundle({
    entryPoints: [...tests],
    outdir,
    external: [...OPTIONS.external, "esbuild", "fast-check"],
    plugins: [asUsers(["examples", "bench", "tests/conformance", "tests/programs", "tests/packaging"])],
  });
  await sync(outdir, files);
}

/** @returns {Promise<Map<string, Uint8Array>>} contents by absolute path */
async function bundle(options) {
  const result = await build({ ...OPTIONS, ...options });
  return new Map(result.outputFiles.map((file) => [file.path, file.contents]));
}

async function buildDeclarations() {
  await mkdir(join(ROOT, "build"), { recursive: true });
  const folder = await mkdtemp(join(ROOT, "build", "types-"));
  try {
    const tsc = join(ROOT, "node_modules", "typescript", "bin", "tsc");
    await promisify(execFile)(process.execPath, [tsc, "-p", "tsconfig.build.json", "--outDir", folder], { cwd: ROOT })
      .catch((error) => {
        throw new Error(`Cannot write the declarations: tsc says\n${error.stdout}${error.stderr}`);
      });
    const files = new Map();
    for (const path of await list(folder)) {
      // tsc keeps `.ts` in the specifiers of declarations; consumers find the declaration from `.js` in every mode.
      const text = (await readFile(path, "utf8")).replaceAll(/(from |import\()"(\.[^"]+)\.ts"/g, '$1"$2.js"');
      // Symbol.dispose is in no year of the standard library yet, and few projects have it in their `lib`.
      const head = /\bSymbol\.(asyncDispose|dispose)\b|\b(Async)?Disposable\b/.test(text) ? DISPOSABLE : "";
      files.set(join(ROOT, "dist", relative(folder, path)), Buffer.from(head + text));
    }
    return files;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** In these folders an entry point is imported as users do, by the package's name, and other files of it not at all. */
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
        if (importer === "" || !isUser(from) || !/^(mod\.ts|core\/|runtimes\/)/.test(to)) return undefined;
        const name = ENTRIES.get(to);
        if (name !== undefined) return { path: name, external: true };
        return {
          errors: [{
            text: `${from} imports ${to}: only tests/core/ may reach behind the entry points ` +
              `(${[...ENTRIES.keys()].join(", ")}), since Node runs the others against dist/`,
          }],
        };
      });
    },
  };
}

/**
 * Writes the files of a folder, and only what differs; what nothing names before what names it. So several runs may build
 * at the same time, and none misses a file that it is about to load.
 */
async function sync(folder, files, clean = false) {
  const isChunk = (path) => path.startsWith(join(folder, "chunks"));
  const paths = [...files.keys()].sort((a, b) => Number(isChunk(b)) - Number(isChunk(a)));
  for (const path of paths) {
    const contents = files.get(path);
    const old = await readFile(path).catch(() => undefined);
    if (old !== undefined && old.equals(contents)) continue;
    await mkdir(dirname(path), { recursive: true });
    const part = `${path}.${process.pid}.tmp`;
    await writeFile(part, contents);
    await rename(part, path);
  }
  for (const path of clean ? await list(folder) : []) {
    if (!files.has(path)) await rm(path, { force: true });
  }
}

async function list(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath ?? entry.path, entry.name));
}

function posix(path) {
  return path.split(sep).join("/");
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await buildDist({ clean: true }).catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
