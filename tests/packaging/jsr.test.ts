// The package for JSR users: published in a dry run, then served from a registry on loopback and
// imported by name.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { assertArrayIncludes, assertEquals, assertMatch } from "@std/assert";
import { run, start } from "../tools/processes.mjs";
import { findRuntime, ROOT } from "../tools/runtimes.mjs";
import { cleanEnvironment, echo, echoServer, json, LISTENING, must, temporaryFolder, writeFiles } from "./workshop.ts";

describe("the JSR package", () => {
  const manifest = json<
    { name: string; version: string; exports: Record<string, string> }
  >("deno.json");
  const deno = findRuntime("deno").path;
  let files: string[] = [];
  let registry: Server | undefined;
  let project: string;
  let env: Record<string, string>;

  before(async () => {
    // Fails on slow types, on a missing license, on imports that JSR does not accept.
    const output = await must(deno, ["publish", "--dry-run", "--allow-dirty"]);
    files = [...output.matchAll(/file:\/\/(\S+)/g)].map(([, path]) => decodeURIComponent(path ?? ""))
      .filter((path) => path.startsWith(ROOT)).map((path) => path.slice(ROOT.length + 1)).sort();
    registry = await serveRegistry(manifest, files);
    const { port } = registry.address() as AddressInfo;
    project = temporaryFolder();
    writeFiles(project, {
      "deno.json": "{}",
      "echo.ts": echoServer(`jsr:${manifest.name}@${manifest.version}`),
    });
    env = {
      ...cleanEnvironment(),
      JSR_URL: `http://127.0.0.1:${port}/`,
      DENO_DIR: join(project, "cache"),
    };
  });

  after(() => {
    registry?.closeAllConnections();
    registry?.close();
  });

  it("holds the library and its documents, and nothing else", () => {
    assertArrayIncludes(
      files,
      Object.values(manifest.exports).map((path) => path.slice(2)),
    );
    const others = files.filter((path) =>
      !/^(core\/.*\.ts|runtimes\/.*\.ts|bridges\/.*\.ts|cli\/.*\.ts|tests\/conformance\/\w+\.ts|tests\/tools\/needs\.ts|docs\/(decisions\/)?[\w-]+\.md|mod\.ts)$/
        .test(path)
    );
    assertEquals(others, [
      "CHANGELOG.md",
      "CONTRIBUTING.md",
      "LICENSE",
      "README.md",
      "SECURITY.md",
      "deno.json",
    ]);
  });

  it("serves an echo on Deno, type-checked, imported by its name", async () => {
    await must(deno, ["check", "--allow-import", "echo.ts"], {
      cwd: project,
      env,
    });
    const server = await start(deno, [
      "run",
      "--allow-net=127.0.0.1",
      "--allow-import",
      "echo.ts",
    ], {
      cwd: project,
      env,
      ready: LISTENING,
    });
    try {
      const bytes = new TextEncoder().encode(
        "Zażółć gęślą jaźń\r\n".repeat(1000),
      );
      assertEquals(await echo(Number(server.match[1]), bytes), bytes);
    } finally {
      assertEquals(await server.stop(), null);
    }
  });

  it("is added under the name of the examples, by the command of the README", async () => {
    const folder = temporaryFolder();
    writeFiles(folder, {
      "main.ts": `import { EvBuffer } from "trivent";
import * as core from "trivent/core";
import { simRuntime } from "trivent/sim";
console.log(EvBuffer === core.EvBuffer, simRuntime().name);
`,
    });
    const [, command = ""] = /`deno (add [^`]+)`/.exec(
      readFileSync(join(ROOT, "README.md"), "utf8"),
    ) ?? [];
    await must(deno, [...command.split(" "), "--allow-import"], {
      cwd: folder,
      env,
    });
    assertEquals(JSON.parse(readFileSync(join(folder, "deno.json"), "utf8")), {
      imports: { trivent: `jsr:${manifest.name}@^${manifest.version}` },
    });
    const output = await must(deno, [
      "run",
      "--check",
      "--quiet",
      "--allow-import",
      "main.ts",
    ], { cwd: folder, env });
    assertEquals(output.trim(), "true sim");
  });

  it("has every entry point", async () => {
    // The command is run, not imported.
    const names = Object.keys(manifest.exports).filter((name) => name !== "./cli");
    const lines = names.map((name) =>
      `import * as ${name.replace(/\W/g, "") || "all"}_ from "jsr:${manifest.name}@${manifest.version}${
        name.slice(1)
      }";`
    );
    const modules = lines.map((line) => line.split(" ")[3]).join(", ");
    writeFiles(project, {
      "all.ts": `${lines.join("\n")}\nconsole.log([${modules}].every((m) => Object.keys(m).length > 0));\n`,
    });
    assertEquals(
      (await must(deno, [
        "run",
        "--check",
        "--quiet",
        "--allow-import",
        "all.ts",
      ], { cwd: project, env })).trim(),
      "true",
    );
  });

  it("has the command that explores", async () => {
    writeFiles(project, {
      "scenario.ts": `import type { SimRuntime } from "jsr:${manifest.name}@${manifest.version}/sim";
export default async (sim: SimRuntime): Promise<void> => {
  await sim.advance(5);
  if (sim.random() < 0.05) throw new Error("by chance");
};
`,
    });
    const command = `jsr:${manifest.name}@${manifest.version}/cli`;
    const args = [
      "run",
      "-A",
      command,
      "explore",
      "scenario.ts",
      "--runs",
      "200",
    ];
    const { code, output } = await run(deno, args, {
      cwd: project,
      env,
      timeoutMs: 300_000,
    });
    assertEquals(code, 1, output);
    assertMatch(
      output,
      /Error: by chance[^]*deno run -A jsr:@trivent\/trivent\/cli explore scenario\.ts --seed \d+/,
    );
  });

  it("documents every export", async () => {
    await must(deno, [
      "doc",
      "--quiet",
      "--lint",
      ...Object.values(manifest.exports),
    ]);
  });
});

/** A registry of one package in one version. */
function serveRegistry(
  { name, version, exports }: {
    name: string;
    version: string;
    exports: Record<string, string>;
  },
  files: readonly string[],
): Promise<Server> {
  const answers = new Map<string, Uint8Array>();
  const checksums: Record<string, { size: number; checksum: string }> = {};
  for (const path of files) {
    const bytes = readFileSync(join(ROOT, path));
    const checksum = `sha256-${createHash("sha256").update(bytes).digest("hex")}`;
    checksums[`/${path}`] = { size: bytes.length, checksum };
    answers.set(`/${name}/${version}/${path}`, bytes);
  }
  const [scope, short] = name.slice(1).split("/");
  const put = (path: string, value: unknown): void => {
    answers.set(path, new TextEncoder().encode(JSON.stringify(value)));
  };
  put(`/${name}/meta.json`, {
    scope,
    name: short,
    latest: version,
    versions: { [version]: {} },
  });
  put(`/${name}/${version}_meta.json`, { manifest: checksums, exports });
  const server = createServer((request, response) => {
    const path = request.url ?? "";
    const body = answers.get(path);
    const type = path.endsWith(".json") ? "application/json" : path.endsWith(".ts") ? "text/typescript" : "text/plain";
    response.writeHead(body === undefined ? 404 : 200, {
      "content-type": type,
      connection: "close",
    });
    response.end(body);
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}
