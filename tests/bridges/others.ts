/** Shared by the tests of bridges: third-party packages, and checks. */

import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import process from "node:process";
import type { Readable } from "node:stream";
import { pathToFileURL } from "node:url";
import { assertEquals } from "@std/assert";
import { detectRuntime } from "../../mod.ts";

const FOLDER = join(process.cwd(), "tests", "bridges");
const require = createRequire(join(FOLDER, "package.json"));

/**
 * Why tests with third-party packages are skipped; false if the test command has installed them.
 */
export const noPackages: string | false = installed() ? false : "the packages of tests/bridges/ are not installed";

function installed(): boolean {
  const stamp = join(FOLDER, "node_modules", ".installed");
  return existsSync(stamp) &&
    readFileSync(stamp, "utf8") ===
      readFileSync(join(FOLDER, "package-lock.json"), "utf8");
}

/**
 * A third-party package. Its types are not used: otherwise the check of our types would need the
 * packages.
 */
// deno-lint-ignore no-explicit-any
export type Package = any;

/**
 * Loads a package of `tests/bridges/package.json`.
 *
 * @param name Its name
 * @returns The exports of CommonJS, or the module if it is an ES module
 */
export async function load(name: string): Promise<Package> {
  const path = require.resolve(name);
  try {
    return require(path);
  } catch (error) {
    if ((error as { code?: string }).code !== "ERR_REQUIRE_ESM") throw error;
    return await import(pathToFileURL(path).href);
  }
}

/** The version of a package. */
export function versionOf(name: string): string {
  return JSON.parse(
    readFileSync(join(FOLDER, "node_modules", name, "package.json"), "utf8"),
  ).version;
}

/** Bytes without a repeated pattern. */
export function dataOf(
  length: number,
  seed: number = 1,
): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(Math.ceil(length / 4));
  let x = seed * 2_654_435_761 >>> 0;
  for (let i = 0; i < words.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x;
  }
  return new Uint8Array(words.buffer, 0, length);
}

/** The checksum of bytes. */
export function sha(...chunks: readonly (Uint8Array | string)[]): string {
  const hash = createHash("sha256");
  for (const chunk of chunks) hash.update(chunk);
  return hash.digest("hex");
}

/** Reads all of a stream. */
export async function checksumOf(
  stream: AsyncIterable<Uint8Array>,
): Promise<{ sha: string; length: number }> {
  const hash = createHash("sha256");
  let length = 0;
  for await (const chunk of stream) {
    hash.update(chunk);
    length += chunk.length;
  }
  return { sha: hash.digest("hex"), length };
}

/** Reads a number of bytes of a stream that goes on. Returns their checksum. */
export function checksumOfFirst(stream: Readable, bytes: number): Promise<string> {
  const hash = createHash("sha256");
  let length = 0;
  return within(
    `${bytes} bytes`,
    new Promise((resolve) => {
      stream.on("data", (chunk: Uint8Array) => {
        hash.update(chunk);
        length += chunk.length;
        if (length === bytes) resolve(hash.digest("hex"));
      }).resume();
    }),
  );
}

/**
 * Waits until a condition holds. It does not throw after the timeout: the assertion that follows
 * fails.
 */
export async function until(
  what: () => boolean,
  ms: number = 60_000,
): Promise<void> {
  const end = Date.now() + ms;
  while (!what() && Date.now() < end) await pause(5);
}

/** The time limit for an event that must come. Generous, because a test machine may be busy. */
const PATIENCE_MS = 60_000;

/**
 * Waits for a promise, with a timeout: a test that waits in vain then fails with a name, and its
 * file does not hang.
 *
 * @param what The name of the awaited event, in the message
 * @param promise The promise
 * @returns Its value
 */
export async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Waits until a stream ends in any way: its end, a failure, or a close without either, as some
 * runtimes report a reset. Call it before the stream can end.
 *
 * @param stream The stream, which somebody reads
 * @returns The error if it has failed
 */
export function over(stream: Readable): Promise<Error | undefined> {
  if (stream.readableEnded || stream.destroyed) return Promise.resolve(stream.errored ?? undefined);
  return within(
    "the end of a stream",
    new Promise((resolve) => {
      stream.on("error", resolve).on("end", () => resolve(undefined)).on("close", () => resolve(undefined));
    }),
  );
}

/** Lets time pass. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * Waits until this process has as many connections and listeners as before, and fails otherwise.
 */
export async function nothingLeft(before: number = 0): Promise<void> {
  const host = detectRuntime();
  await until(() => host.openHandles <= before);
  assertEquals(host.openHandles, before, "connections are left open");
}
