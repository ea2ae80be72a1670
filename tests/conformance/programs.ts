/** Programs of other processes that laws start: they are given as text, so that the laws need no other file. */

import process from "node:process";

/** The arguments with which this runtime runs a program in CommonJS. */
export function programArguments(program: string): readonly string[] {
  return process.versions.deno === undefined ? ["-e", program] : ["eval", "--ext=cjs", program];
}
