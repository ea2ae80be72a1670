// Shared by the packaging tests: commands that must succeed, and folders that are removed at the
// end.

import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { assertEquals, assertStringIncludes, fail } from "@std/assert";
import { run } from "../tools/processes.mjs";
import { findRuntime, plainEnvironment, ROOT } from "../tools/runtimes.mjs";

/** A temporary folder that is removed when the process ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "trivent-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Runs a command, fails unless it exits with 0, and returns its output. */
export async function must(
  file: string,
  args: readonly string[],
  options: MustOptions = {},
): Promise<string> {
  const { cwd = ROOT, env = {}, timeoutMs = 300_000 } = options;
  const result = await run(file, args, {
    cwd,
    env: { ...cleanEnvironment(), ...env },
    timeoutMs,
  });
  if (result.code !== 0) {
    const how = result.timedOut ? `did not end in ${timeoutMs / 1000} s` : `gave ${result.signal ?? result.code}`;
    fail(`${[file, ...args].join(" ")} ${how}\n${result.output}`);
  }
  return result.output;
}

/** The options of a command. */
export interface MustOptions {
  cwd?: string;
  env?: Record<string, string>;
  timeoutMs?: number;
}

/** Runs the command of a development dependency under this Node. */
export function mustTool(
  name: string,
  command: string,
  args: readonly string[],
): Promise<string> {
  const manifest = join(ROOT, "node_modules", name, "package.json");
  const { bin } = JSON.parse(readFileSync(manifest, "utf8")) as {
    bin: string | Record<string, string>;
  };
  const path = typeof bin === "string" ? bin : bin[command];
  if (path === undefined) fail(`${name} has no command ${command}`);
  return must(findRuntime("node").path, [
    join(dirname(manifest), path),
    ...args,
  ]);
}

/**
 * The environment without the variables of the npm that runs us. With them, an inner npm would work
 * on the outer one's folder.
 */
export function cleanEnvironment(): Record<string, string> {
  const entries = Object.entries(plainEnvironment()).filter(([name]) => !/^(npm_|INIT_CWD$)/i.test(name));
  return {
    ...Object.fromEntries(entries),
    npm_config_update_notifier: "false",
  };
}

/** The time that another file may take to make an object that both need. */
const SHARED_TIMEOUT_MS = 240_000;

/**
 * Makes an object once for all files of a run: the first file that needs it makes it, and the
 * others wait. A file that runs without the runner makes its own.
 *
 * @param name The name of the object
 * @param make Makes it in an empty folder, and returns its description
 */
async function shared<Known>(name: string, make: (folder: string) => Promise<Known>): Promise<Known> {
  const scratch = process.env["TRIVENT_TEST_SHARED"];
  if (scratch === undefined) return make(temporaryFolder());
  const folder = join(scratch, name);
  const result = `${folder}.json`;
  try {
    mkdirSync(folder);
  } catch (error) {
    if ((error as { code?: string }).code !== "EEXIST") throw error;
    for (const deadline = Date.now() + SHARED_TIMEOUT_MS; !existsSync(result);) {
      if (Date.now() > deadline) fail(`another file has not made ${name} in ${SHARED_TIMEOUT_MS / 1000} s`);
      await wait(50);
    }
    const { known, failed } = JSON.parse(readFileSync(result, "utf8")) as { known: Known; failed?: string };
    if (failed !== undefined) fail(failed);
    return known;
  }
  const end = (outcome: { known: Known } | { failed: string }): void => {
    writeFileSync(`${result}.part`, JSON.stringify(outcome));
    renameSync(`${result}.part`, result);
  };
  try {
    const known = await make(folder);
    end({ known });
    return known;
  } catch (error) {
    end({ failed: String(error) });
    throw error;
  }
}

/** The tarball that `npm publish` would send, and its files. */
interface Tarball {
  path: string;
  files: string[];
}

/** Gives the tarball that `npm publish` would send, from the `dist/` that was built before the tests. */
export function packTarball(): Promise<Tarball> {
  return shared("tarball", pack);
}

async function pack(folder: string): Promise<Tarball> {
  const output = await must("npm", [
    "pack",
    "--json",
    "--ignore-scripts",
    "--pack-destination",
    folder,
  ]);
  const start = output.search(/^[\[{]/m);
  const parsed = JSON.parse(
    output.slice(start, output.search(/[\]}]\s*$/) + 1),
  ) as unknown;
  const [packed] = (Array.isArray(parsed) ? parsed : Object.values(parsed as object)) as {
    filename: string;
    files: { path: string }[];
  }[];
  if (packed === undefined) fail(`npm pack printed ${output}`);
  return {
    path: join(folder, packed.filename),
    files: packed.files.map((file) => file.path).sort(),
  };
}

/** Gives an empty project, as a user would make it, with the tarball installed. It belongs to the caller. */
export async function installTarball(tarball: string): Promise<string> {
  const installed = await shared("project", (folder) => install(tarball, folder));
  const project = temporaryFolder();
  cpSync(installed, project, { recursive: true, verbatimSymlinks: true });
  return project;
}

async function install(tarball: string, project: string): Promise<string> {
  writeFiles(project, {
    "package.json": JSON.stringify({
      name: "consumer",
      private: true,
      type: "module",
    }),
  });
  await must("npm", [
    "install",
    "--offline",
    "--no-audit",
    "--no-fund",
    tarball,
  ], { cwd: project });
  assertEquals(
    readdirSync(join(project, "node_modules")).filter((name) => !name.startsWith(".")),
    ["trivent"],
  );
  return project;
}

/** Writes text files. */
export function writeFiles(
  folder: string,
  files: Record<string, string>,
): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
}

/** Its output, as each runtime prints an object. */
export const LISTENING: RegExp = /^listening on \{[^}]*port: (\d+)/m;

/** A server of ten lines, as a reader of the README would write it. */
export function echoServer(specifier: string): string {
  return `import process from "node:process";
import { serve } from "${specifier}";

const server = await serve({ port: 0, hostname: "127.0.0.1" }, {
  read(bev) {
    bev.output.addBuffer(bev.input);
  },
});
console.log("listening on", server.address);
process.once("SIGTERM", () => server.close({ graceMs: 1000 }));
`;
}

/** The server in the README. */
export function readmeProgram(): string {
  const [, program = ""] = /```ts ignore\n([\s\S]*?)```/.exec(
    readFileSync(join(ROOT, "README.md"), "utf8"),
  ) ?? [];
  assertStringIncludes(program, "port: 40713");
  return program;
}

/** Sends bytes, half-closes, and returns all bytes until the end of the stream. */
export function echo(port: number, bytes: Uint8Array): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const chunks: Uint8Array[] = [];
    let length = 0;
    const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
    socket.setTimeout(
      90_000,
      () =>
        socket.destroy(
          new Error(`${length} bytes and no end came back in 90 s`),
        ),
    );
    socket.on("data", (chunk: Uint8Array) => {
      chunks.push(chunk);
      length += chunk.length;
    });
    socket.on("end", () => resolve(new Uint8Array(Buffer.concat(chunks))));
    socket.on("error", reject);
    socket.end(bytes);
  });
}

/** A JSON file of this repository. */
export function json<T>(path: string): T {
  return JSON.parse(readFileSync(join(ROOT, path), "utf8")) as T;
}
