// The manifests of npm and JSR agree.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { ROOT } from "../tools/runtimes.mjs";
import { json } from "./workshop.ts";

interface NpmManifest {
  name: string;
  version: string;
  license: string;
  type: string;
  sideEffects: string[];
  engines: { node: string; deno: string; bun: string };
  dependencies?: unknown;
  peerDependencies?: unknown;
  peerDependenciesMeta?: unknown;
  optionalDependencies?: unknown;
  bin: Record<string, string>;
  exports: Record<string, string | Record<string, string>>;
}

interface DenoManifest {
  name: string;
  version: string;
  license: string;
  exports: Record<string, string>;
}

const npm = json<NpmManifest>("package.json");
const deno = json<DenoManifest>("deno.json");

describe("the manifests", () => {
  it("have the same version and license as the lock file and the change log", () => {
    assertEquals(deno.version, npm.version);
    assertEquals(deno.license, npm.license);
    const lock = json<
      { version: string; packages: Record<string, { version: string }> }
    >("package-lock.json");
    assertEquals([lock.version, lock.packages[""]?.version], [
      npm.version,
      npm.version,
    ]);
    const [, latest] = /^## \[?(\d+\.\d+\.\d+[^\]\s]*)/m.exec(
      readFileSync(join(ROOT, "CHANGELOG.md"), "utf8"),
    ) ?? [];
    assertEquals(latest ?? npm.version, npm.version);
    const standIn = ["deno.json", "package.json"].map((file) => json<DenoManifest>(`tests/std_assert/${file}`).version);
    assertEquals(standIn[0], standIn[1]);
  });

  it("have the same entry points, and each exists", () => {
    const entries = Object.keys(npm.exports).filter((name) => name !== "./package.json");
    assertEquals(entries, [
      ".",
      "./core",
      "./node",
      "./deno",
      "./bun",
      "./sim",
      "./duplex",
      "./nats",
      "./conformance",
    ]);
    // npm has the command as `bin`.
    const { "./cli": cli, ...exports } = deno.exports;
    assertEquals(npm.bin, {
      trivent: (cli ?? "").replace(/^\.\/(.*)\.ts$/, "dist/$1.js"),
    });
    assertEquals(entries, Object.keys(exports));
    for (const [name, source] of Object.entries(exports)) {
      assert(existsSync(join(ROOT, source)), source);
      const conditions = npm.exports[name] as Record<string, string>;
      // The first condition that matches wins: with `node` first, Deno and Bun would use it. Only
      // bundlers use `module`.
      const order = name === "." ? ["bun", "module", "deno", "module-sync"] : ["deno", "bun"];
      assertEquals(Object.keys(conditions), ["types", ...order, "node", "default"]);
      const built = source.replace(/^\.\//, "./dist/").replace(/\.ts$/, "");
      assertEquals(conditions["types"], `${built}.d.ts`);
      // A bundle made for Node may run on another runtime. A file that is loaded or bundled for Bun
      // or Deno runs there. Only Node uses `module-sync`, in versions that can require an ES
      // module.
      const hosts: Record<string, string> = { deno: "deno", bun: "bun", "module-sync": "node" };
      for (const condition of [...order, "node", "default"]) {
        const host = name === "." ? hosts[condition] : undefined;
        assertEquals(conditions[condition], host === undefined ? `${built}.js` : `./dist/mod.${host}.js`, condition);
      }
    }
  });

  it("declare an ES module without dependencies, whose main entry alone has side effects when imported", () => {
    assertEquals(npm.type, "module");
    // It chooses the runtime. Without this entry, a bundler would drop that choice if only classes
    // are imported.
    assertEquals(npm.sideEffects, [
      "./mod.ts",
      "./dist/mod.js",
      "./dist/mod.node.js",
      "./dist/mod.deno.js",
      "./dist/mod.bun.js",
    ]);
    assertEquals([npm.dependencies, npm.optionalDependencies], [
      undefined,
      undefined,
    ]);
    // The package that a bridge connects. npm does not install it for programs that do not use it.
    assertEquals(npm.peerDependencies, { "@nats-io/nats-core": "^3.4.0" });
    assertEquals(npm.peerDependenciesMeta, {
      "@nats-io/nats-core": { optional: true },
    });
  });

  it("require the same versions as the adapters, the README and the guide to contributing", () => {
    assertEquals(npm.engines, {
      node: "^20.16.0 || >=22.3.0",
      deno: ">=2.9.0",
      bun: ">=1.4.1",
    });
    const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");
    // tests/conformance/versions_host.test.ts tests their messages for older versions.
    const [node, deno, bun] = ["node", "deno", "bun"].map((name) => read(`runtimes/${name}.ts`));
    assert(
      node!.includes(`"20.16 or 22.3"`) && deno!.includes(`"2.9.0"`) &&
        bun!.includes(`"1.4.1"`),
    );
    const readme = read("README.md");
    const guarantees = read("docs/guarantees.md");
    assertMatch(
      readme,
      /You need Node 22\.3 or\s+later or Node 20 from 20\.16 on, Deno 2\.9 or later \(with TLS 2\.9\.3\), or Bun 1\.4\.1 or later\./,
    );
    assertMatch(
      guarantees,
      /^\| +\| Node ≥ 20\.16 or 22\.3 +\| Deno ≥ 2\.9 +\| Bun ≥ 1\.4\.1 +\|$/m,
    );
    for (
      const row of [
        "TLS",
        "changing to TLS (`startTls()`) in either role",
        "certificates of clients",
      ]
    ) {
      const cells = guarantees.split("\n").find((line) => line.startsWith(`| ${row} `))?.split("|");
      assertMatch(cells?.[3] ?? "", /^ \[from 2\.9\.3\]\[\w+\] +$/, row);
    }
    assertMatch(read("CONTRIBUTING.md"), /Node 22\.3 or later, or Node 20 from 20\.16 on/);
  });

  it("lock the packages of every platform, or npm ci would fail", () => {
    // npm omits packages from the lock file that the current registry does not have: restore them
    // by hand.
    const { packages } = json<
      { packages: Record<string, { optionalDependencies?: object }> }
    >("package-lock.json");
    for (
      const [path, { optionalDependencies = {} }] of Object.entries(packages)
    ) {
      for (const name of Object.keys(optionalDependencies)) {
        assert(
          packages[`node_modules/${name}`] !== undefined,
          `${path} may need ${name}`,
        );
      }
    }
  });

  it("lock packages by name and checksum, and name no host", () => {
    const lock = readFileSync(join(ROOT, "package-lock.json"), "utf8");
    assert(
      !/https?:\/\/(?!(?:[\w-]+\.)*(?:github\.com|opencollective\.com|tidelift\.com|patreon\.com)\b)[^"]*\.tgz/
        .test(
          lock,
        ),
    );
    assertMatch(
      readFileSync(join(ROOT, ".npmrc"), "utf8"),
      /^omit-lockfile-registry-resolved=true$/m,
    );
  });
});
