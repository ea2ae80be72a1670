/**
 * Builds `dist/`, the files that npm users import.
 *
 * It is one esbuild run with splitting, so that all entry points share the same chunks: a class is the same class
 * through "trivent" and through "trivent/core".
 *
 * As a program: `node tools/build.mjs` builds `dist/` whole.
 */

import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";
import { finish, HOST_ENTRIES, inChunks } from "./chunks.mjs";

const ROOT = dirname(import.meta.dirname);

/** The entry points: the source file, and the specifier under which npm users import it. */
const ENTRIES = new Map([
  ["mod.ts", "trivent"],
  ["core/mod.ts", "trivent/core"],
  ["runtimes/node.ts", "trivent/node"],
  ["runtimes/deno.ts", "trivent/deno"],
  ["runtimes/bun.ts", "trivent/bun"],
  ["runtimes/sim.ts", "trivent/sim"],
  ["bridges/duplex.ts", "trivent/duplex"],
  ["bridges/nats.ts", "trivent/nats"],
]);

/**
 * The conformance laws. They are built separately, so that the chunks of the library do not depend
 * on them.
 */
const LAWS = ["tests/conformance/mod.ts", "trivent/conformance"];

/** The command `trivent`, and the program of its threads. */
const CLI = ["cli/trivent.ts", "cli/worker.ts"];

/**
 * Everything that programs import by the name of the package: the source file, and the specifier.
 */
export const SPECIFIERS = new Map([...ENTRIES, LAWS]);

/**
 * The part of TypeScript's library that declares `Symbol.dispose`. The source must not reference
 * it, because JSR refuses that.
 */
const DISPOSABLE = '/// <reference lib="esnext.disposable" />\n';

/** The same for all builds, so that tests run the same code as users. */
export const OPTIONS = {
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
 *   run, not to pack; `clean` removes files of earlier builds
 */
export async function buildDist({ declarations = true, clean = false } = {}) {
  const [bundles, laws, cli, types] = await Promise.all([
    bundle({
      entryPoints: [...[...ENTRIES.keys()].map((path) => ({ in: path, out: path.slice(0, -3) })), ...HOST_ENTRIES],
      outdir: join(ROOT, "dist"),
      plugins: [inChunks([...ENTRIES.keys()])],
    }),
    bundle({
      // The second is the program of the processes that the laws start.
      entryPoints: [LAWS[0], "tests/conformance/situations.ts"],
      outdir: join(ROOT, "dist"),
      splitting: false,
      plugins: [besideLibrary()],
    }),
    bundle({
      entryPoints: CLI,
      outdir: join(ROOT, "dist"),
      splitting: false,
      plugins: [besideLibrary()],
    }),
    declarations ? buildDeclarations() : new Map(),
  ]);
  for (const [path, contents] of bundles) {
    if (path.endsWith(".js")) bundles.set(path, Buffer.from(finish(Buffer.from(contents).toString())));
  }
  await sync(join(ROOT, "dist"), new Map([...bundles, ...laws, ...cli, ...types]), clean);
}

/**
 * Bundles with the options of `dist/`.
 *
 * @param {import("esbuild").BuildOptions} options The differences from {@linkcode OPTIONS}
 * @returns {Promise<Map<string, Uint8Array>>} Contents by absolute path
 */
export async function bundle(options) {
  const result = await build({ ...OPTIONS, ...options });
  return new Map(result.outputFiles.map((file) => [file.path, file.contents]));
}

/** The laws and the command import the library's own entry points in `dist/`, so that its classes are the same for both. */
function besideLibrary() {
  return {
    name: "beside-library",
    setup({ onResolve }) {
      onResolve({ filter: /^\.\.\// }, ({ path, importer }) => {
        const to = relative(ROOT, join(dirname(importer), path));
        if (!ENTRIES.has(to) && !path.startsWith("../../")) return undefined;
        if (!ENTRIES.has(to)) throw new Error(`${importer} imports ${to}, which is not an entry point`);
        return { path: path.replace(/\.ts$/, ".js"), external: true };
      });
    },
  };
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

/**
 * Writes the files of a folder that differ, a file after those that it imports. So several runs may build at the same time,
 * and each finds every file that it loads.
 *
 * @param {string} folder
 * @param {Map<string, Uint8Array>} files Contents by absolute path
 * @param {boolean} [clean] Whether other files of the folder are removed
 */
export async function sync(folder, files, clean = false) {
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

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  await buildDist({ clean: true }).catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
}
