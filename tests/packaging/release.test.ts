// The release script, in a small separate repository: nothing is published.

import { execFileSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, readFileSync, symlinkSync } from "node:fs";
import { delimiter, join } from "node:path";
import { beforeEach, describe, it } from "node:test";
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { run } from "../tools/processes.mjs";
import { findRuntime, ROOT } from "../tools/runtimes.mjs";
import { cleanEnvironment, temporaryFolder, writeFiles } from "./workshop.ts";

const MANIFEST = {
  name: "small",
  version: "0.2.0",
  type: "module",
  license: "MIT",
  files: ["mod.ts"],
  repository: { type: "git", url: "git+https://example.org/small.git" },
  homepage: "https://example.org/small",
  bugs: { url: "https://example.org/small/issues" },
};
const LOCK = {
  name: "small",
  version: "0.2.0",
  lockfileVersion: 3,
  packages: { "": { version: "0.2.0" } },
};
const DENO = {
  name: "@small/small",
  version: "0.2.0",
  license: "MIT",
  exports: "./mod.ts",
};

describe("the release script", { skip: needs("git") }, () => {
  let folder: string;

  beforeEach(() => {
    folder = temporaryFolder();
    writeFiles(folder, {
      "package.json": JSON.stringify(MANIFEST),
      "package-lock.json": JSON.stringify(LOCK),
      "deno.json": JSON.stringify(DENO),
      "mod.ts": "export const one: number = 1;\n",
      "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-01-02\n\n### Added\n\n- One.\n",
      ".gitignore": "build\nnode_modules\nbin\n",
      ".ci/run": "#!/bin/sh\necho all checks\n",
    });
    chmodSync(join(folder, ".ci/run"), 0o755);
    cpSync(
      join(ROOT, "tools", "release.mjs"),
      join(folder, "tools", "release.mjs"),
    );
    symlinkSync(join(ROOT, "node_modules"), join(folder, "node_modules"));
    git("init", "--quiet");
    git("remote", "add", "origin", "git@example.org:small.git");
    commit();
  });

  function git(...args: string[]): string {
    const names = [
      "-c",
      "user.name=tester",
      "-c",
      "user.email=tester@example.org",
    ];
    return execFileSync("git", [...names, ...args], {
      cwd: folder,
      encoding: "utf8",
      env: cleanEnvironment(),
    });
  }

  function commit(): void {
    git("add", "--all");
    git("commit", "--quiet", "--message", "All of it");
  }

  function release(
    args: readonly string[],
    path = "",
  ): Promise<{ code: number | null; output: string }> {
    const env: Record<string, string | undefined> = cleanEnvironment();
    return run(findRuntime("node").path, ["tools/release.mjs", ...args], {
      cwd: folder,
      env: {
        ...env,
        PATH: [path, env["PATH"]].filter(Boolean).join(delimiter),
        GIT_COMMITTER_NAME: "tester",
        GIT_COMMITTER_EMAIL: "tester@example.org",
      },
      timeoutMs: 300_000,
    });
  }

  it("runs the checks, packs, and prints its steps, in a dry run", async () => {
    const { code, output } = await release(["0.2.0", "--dry-run"]);
    assertEquals(code, 0, output);
    assertStringIncludes(output, "all checks");
    assertStringIncludes(
      output,
      `The release would run:
  git tag --annotate v0.2.0 --message "Trivent 0.2.0"
  npm publish build/release/small-0.2.0.tgz --access public
  npx --no-install deno publish
Ready to release 0.2.0
`,
    );
    assert(existsSync(join(folder, "build/release/small-0.2.0.tgz")));
    assertEquals([git("tag"), git("status", "--porcelain")], ["", ""]);
  });

  it("lists all problems, in a dry run", async () => {
    const { repository: _, ...manifest } = MANIFEST;
    writeFiles(folder, {
      "package.json": JSON.stringify({ ...manifest, version: "0.1.0" }),
      "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n\n- Two.\n\n## [0.2.0]\n\n### Added\n",
      ".ci/run": "#!/bin/sh\nexit 3\n",
    });
    git("tag", "v0.2.0");
    const { code, output } = await release(["0.2.0", "--dry-run"]);
    assertEquals(code, 1);
    assertEquals(
      output.match(/^problem: .*/gm)?.map((line) => line.replaceAll(folder, "").slice("problem: ".length)),
      [
        "the work tree has changes that are not committed:",
        "there is a tag v0.2.0 already",
        "package.json has version 0.1.0, not 0.2.0",
        "package.json has no repository",
        'CHANGELOG.md has no date in "## [0.2.0]"',
        "CHANGELOG.md says nothing about 0.2.0",
        "CHANGELOG.md still has changes under Unreleased",
        "/.ci/run ended with exit code 3",
      ],
    );
    assertStringIncludes(output, "Not ready to release 0.2.0: problems: 8");
  });

  it("refuses a repository that is not the one of origin, however the two are written", async () => {
    const other =
      "package.json names the repository git+https://example.org/small.git, but git remote get-url origin gives ";
    const none = "git has no remote origin to compare with the repository of package.json";
    const cases: [origin: string | null, problems: string[]][] = [
      ["https://user:secret@example.org/small", []],
      ["ssh://git@Example.org/small.git/", []],
      ["git@example.org:fork.git", [`${other}git@example.org:fork.git`]],
      ["https://user:secret@example.net/small.git", [`${other}https://example.net/small.git`]],
      [null, [none]],
    ];
    for (const [origin, problems] of cases) {
      if (origin === null) git("remote", "remove", "origin");
      else git("remote", "set-url", "origin", origin);
      // Already refused before anything is packed.
      writeFiles(folder, { "new.txt": "" });
      const { code, output } = await release(["0.2.0"]);
      const found = (output.match(/^problem: .*/gm) ?? []).map((line) => line.slice("problem: ".length));
      assertEquals([code, found.slice(1)], [1, problems], String(origin));
    }
  });

  it("refuses issues of another repository", async () => {
    const bugs = { url: "https://example.org/smaller/issues" };
    writeFiles(folder, { "package.json": JSON.stringify({ ...MANIFEST, bugs }) });
    commit();
    const { code, output } = await release(["0.2.0"]);
    assertEquals(code, 1);
    assertStringIncludes(output, "package.json names the issues https://example.org/smaller/issues, which are not of");
  });

  it("publishes nothing if there is a problem", async () => {
    writeFiles(folder, {
      "bin/npm": "#!/bin/sh\necho npm is called\n",
      "bin/npx": "#!/bin/sh\necho npx is called\n",
    });
    for (const name of ["npm", "npx"]) {
      chmodSync(join(folder, "bin", name), 0o755);
    }
    writeFiles(folder, { "new.txt": "" });
    const { code, output } = await release(["0.2.0"], join(folder, "bin"));
    assertEquals(code, 1);
    assertStringIncludes(output, "Cannot release 0.2.0: problems: 1");
    assert(!output.includes("is called"));
    assertEquals(git("tag"), "");
  });

  it("checks, packs, makes the tag and publishes the packed file, in this order", async () => {
    const log = join(folder, "build", "log");
    const script = (name: string): string =>
      `#!/bin/sh
echo "${name} $*" >> "${log}"
[ "$1" != pack ] || : > "$3/small-0.2.0.tgz"
[ "${name} $*" != "npx --no-install deno publish" ] || exit $JSR_FAILS
`;
    writeFiles(folder, {
      "bin/npm": script("npm"),
      "bin/npx": script("npx"),
      "build/log": "",
    });
    for (const name of ["npm", "npx"]) {
      chmodSync(join(folder, "bin", name), 0o755);
    }
    for (const [fails, expected] of [["0", 0], ["1", 1]] as const) {
      writeFiles(folder, { "build/log": "" });
      process.env["JSR_FAILS"] = fails;
      const { code, output } = await release(["0.2.0"], join(folder, "bin"));
      delete process.env["JSR_FAILS"];
      assertEquals(code, expected, output);
      assertEquals(
        readFileSync(log, "utf8").replaceAll(folder, ""),
        [
          "npm pack --pack-destination /build/release",
          "npm publish build/release/small-0.2.0.tgz --access public",
          "npx --no-install deno publish",
          "",
        ].join("\n"),
      );
      assertEquals(git("tag").trim(), "v0.2.0");
      assertStringIncludes(
        output,
        expected === 0 ? "git push origin v0.2.0" : "are left:\n  npx --no-install deno publish\n",
      );
      git("tag", "--delete", "v0.2.0");
    }
  });

  it("prints its usage without a version, or if a release omits the checks", async () => {
    for (
      const [args, what] of [
        [[], "Cannot release: not a version such as 0.2.0: received nothing"],
        [["v1"], "Cannot release: not a version such as 0.2.0: received v1"],
        [
          ["0.2.0", "--no-checks"],
          "Cannot release without the checks: --no-checks is for a dry run",
        ],
        [["0.2.0", "--force"], "Cannot release: Unknown option '--force'"],
      ] as const
    ) {
      const { code, output } = await release(args);
      assertEquals(code, 1);
      assertStringIncludes(output, what);
      assertStringIncludes(
        output,
        "usage: node tools/release.mjs <version> [--dry-run [--no-checks]]",
      );
    }
  });
});
