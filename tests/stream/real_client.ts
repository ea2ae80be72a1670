// A real client of the tests in this folder: a command with input and output.

import { spawn } from "node:child_process";

/** Runs a command with `input` on its standard input until it ends. Returns its output. */
export function feed(file: string, args: readonly string[], input: Uint8Array | string): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit"] });
    const chunks: Uint8Array[] = [];
    child.on("error", reject);
    child.stdout.on("data", (chunk: Uint8Array) => chunks.push(chunk));
    child.on("close", (code, signal) => {
      if (code === 0) resolve(Buffer.concat(chunks));
      else reject(new Error(`${file} ${args.join(" ")} ended with ${code ?? signal}`));
    });
    // A command that has read enough closes its input.
    child.stdin.on("error", () => {});
    child.stdin.end(input);
  });
}

/** `nc` that sends its input, finishes, and waits for the server to finish too. */
export function nc(port: number, input: Uint8Array | string): Promise<Uint8Array> {
  return feed("nc", ["-N", "127.0.0.1", String(port)], input);
}

/** Bytes that differ by position. */
export function pattern(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 167 + (i >> 8)) & 255);
}
