// The types: the core uses no runtime's types, and the declarations need few other types.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { before, describe, it } from "node:test";
import { assert } from "@std/assert";
import { installTarball, json, mustTool, packTarball, readmeProgram, writeFiles } from "./workshop.ts";

describe("the core", () => {
  it("compiles without any runtime's types", async () => {
    await mustTool("typescript", "tsc", ["-p", "tests/tsconfig.core.json"]);
  });
});

describe("the declarations", () => {
  let project: string;

  before(async () => {
    project = await installTarball((await packTarball()).path);
    writeFiles(project, {
      "consumer.ts": CONSUMER,
      "readme.ts": readmeProgram(),
    });
  });

  // The oldest version with `using`, which the declarations and the examples need.
  for (const compiler of ["typescript-oldest", "typescript"]) {
    const { version } = json<{ version: string }>(
      `node_modules/${compiler}/package.json`,
    );
    for (
      const [module, moduleResolution] of [["NodeNext", "NodeNext"], [
        "ESNext",
        "Bundler",
      ]] as const
    ) {
      for (const lib of [["ES2022"], ["ES2022", "DOM"], ["ESNext", "DOM"]]) {
        it(`need no other types in TypeScript ${version} with ${moduleResolution} and lib ${lib.join(", ")}`, async () => {
          // The program of the README uses the console, so it needs a runtime's types.
          const files = lib.includes("DOM") ? ["consumer.ts", "readme.ts"] : ["consumer.ts"];
          const compilerOptions = {
            module,
            moduleResolution,
            lib,
            target: "ES2022",
            types: [],
            strict: true,
            exactOptionalPropertyTypes: true,
            skipLibCheck: false,
            noEmit: true,
          };
          writeFiles(project, {
            "tsconfig.json": JSON.stringify({ compilerOptions, files }),
          });
          await mustTool(compiler, "tsc", ["-p", project]);
        });
      }
    }
  }

  it("name no type of Node, Deno or Bun", () => {
    const folder = join(project, "node_modules", "trivent", "dist");
    const seen = new Set<string>();
    const visit = (path: string): void => {
      if (seen.has(path)) return;
      seen.add(path);
      const text = readFileSync(path, "utf8");
      const others = text.replaceAll(
        '/// <reference lib="esnext.disposable" />',
        "",
      );
      assert(
        !/["'](node|bun):|\breference (types|lib|path)=|\bNodeJS\./.test(
          others,
        ),
        `${path} asks for other types`,
      );
      for (
        const [, specifier] of text.matchAll(
          /(?:from |import\()"(\.[^"]+)\.js"/g,
        )
      ) {
        visit(join(dirname(path), `${specifier}.d.ts`));
      }
    };
    for (
      const entry of [
        "mod",
        "core/mod",
        "runtimes/node",
        "runtimes/deno",
        "runtimes/bun",
        "runtimes/sim",
        "tests/conformance/mod",
      ]
    ) {
      visit(join(folder, `${entry}.d.ts`));
    }
    assert(seen.size > 6);
  });
});

/** A program that needs every entry point, `using`, and options that may be undefined. */
const CONSUMER = `import {
  bufferEventPair,
  connect,
  EvBuffer,
  EventBase,
  EventError,
  jsonLines,
  lengthPrefixed,
  mapCodec,
  serve,
} from "trivent";
import * as core from "trivent/core";
import type {} from "trivent/node";
import type {} from "trivent/deno";
import type {} from "trivent/bun";
import { simRuntime } from "trivent/sim";
import type {} from "trivent/conformance";

const buffer: core.EvBuffer = new EvBuffer();
const error: core.EventError = new EventError("no", { code: "ECONNRESET" });
export const length: number = buffer.length + error.code.length;

interface Session {
  name: string;
}

export async function main(text: boolean, maxLine?: number, onWrite?: (bev: core.BufferEvent) => void): Promise<void> {
  const runtime = simRuntime();
  await using server = await serve<Session>({ runtime, hostname: "127.0.0.1", port: 0, maxLine, tls: undefined }, {
    async open(bev) {
      bev.context = { name: "new" };
      await using connection = bev;
      for await (const line of connection.lines({ text: true })) connection.write(line.toUpperCase());
      for await (const line of connection.lines({ text })) buffer.add(line);
      for await (const chunk of connection) buffer.add(chunk);
    },
    write: onWrite,
    line: undefined,
    event: undefined,
    close(bev, reason) {
      const code: string | undefined = reason?.code;
      buffer.add(\`\${bev.context.name}: \${code}\`);
    },
    error(failure, bev) {
      // @ts-expect-error: anything can be thrown
      failure.message;
      // @ts-expect-error: null when accepting failed
      bev.context;
    },
  });
  for (const bev of server) buffer.add(bev.context.name);
  // @ts-expect-error: a session has no such thing
  for (const bev of server) buffer.add(bev.context.names);
  const port: number | undefined = server.port;

  const client = await connect({ runtime, hostname: "127.0.0.1", port, timeoutMs: maxLine });
  const writer = client.writable.getWriter();
  await writer.write("hello");
  await client.close();
  using base = new EventBase({ runtime });
  const [near, far] = bufferEventPair(base);
  const { value } = await near.readable.getReader().read();
  if (value !== undefined) await far.writable.getWriter().write(value);
  await server.close({ graceMs: maxLine });
  await typed(near, far);
}

/** The types of frames flow without a cast. */
async function typed(near: core.BufferEvent, far: core.BufferEvent): Promise<void> {
  const own: core.FrameCodec<Session> = {
    decode: (input) => ({ name: input.toString() }),
    encode: (output, session) => output.add(session.name),
  };
  for await (const session of near.frames(own)) session.name.trim();
  const written: boolean = far.writeFrame(own, { name: "x" });
  // @ts-expect-error: a session has a name
  far.writeFrame(own, { title: "x" });
  // @ts-expect-error: only bytes may be written as a text
  far.writeFrame(own, "x");
  for await (const bytes of near.frames(lengthPrefixed({ prefixBytes: 3, includesPrefix: written }))) bytes.subarray(1);
  far.writeFrame(lengthPrefixed({ prefixBytes: 8 }), "text");
  far.writeFrame(lengthPrefixed({ prefixBytes: 8 }), new Uint8Array(1));
  // @ts-expect-error: no such prefix
  lengthPrefixed({ prefixBytes: 5 });
  const lengths = mapCodec(lengthPrefixed({ prefixBytes: 1 }), (bytes) => bytes.length, (length) => "x".repeat(length));
  for await (const length of near.frames(lengths)) length.toFixed();
  const json = jsonLines<Session>({ maxBytes: 100 });
  for await (const { name } of near.frames(json)) name.trim();
  const names = mapCodec(json, ({ name }) => name, (name: string) => ({ name }));
  for await (const name of near.frames(names, { maxBytes: 5 })) name.trim();
  far.writeFrame(names, "ada");
  // @ts-expect-error: a name is a text
  far.writeFrame(names, 1);
  // @ts-expect-error: it is not known what comes
  for await (const value of near.frames(jsonLines())) value.name;
  const first: Session | undefined = (await near.frames(json).next()).value;
  first?.name.trim();
}
`;
