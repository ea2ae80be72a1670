/**
 * What the programs of this folder have in common, so that each shows its own business only: arguments, the line that
 * says where a server listens, and errors in one line.
 */

import { type Address, EAGAIN, EventError, type ListeningSocket, type Socket } from "trivent";

// All three runtimes have it, with the same arguments, standard output and exit code.
const { process } = globalThis;

/** The program was called with arguments that it doesn't have. */
class UsageError extends Error {}

/** Runs a program. It ends with exit code 0, 1 after an error (one line says which), or 2 after wrong arguments. */
export async function main(usage: string, program: (args: string[]) => Promise<void>): Promise<void> {
  try {
    await program(process.argv.slice(2));
  } catch (error) {
    if (error instanceof UsageError) {
      fail(`${error.message}; usage: ${usage}`);
      process.exitCode = 2;
    } else if (error instanceof EventError) fail(error.message);
    else throw error;
  }
  // The program has closed all it had. What its peers have not taken after this time is given up.
  setTimeout(() => process.exit(), 2000).unref();
}

/** Says what has failed; the exit code will be 1. */
export function fail(message: string): void {
  console.error(message);
  process.exitCode = 1;
}

/** Refuses the arguments. */
export function refuse(message: string): never {
  throw new UsageError(message);
}

/** The one argument of a server: the port, 0 for any that is free. */
export function onlyPort(args: string[], otherwise: number): number {
  if (args.length > 1) refuse(`Cannot take ${args.length} arguments`);
  return port(args[0] ?? String(otherwise), 0);
}

/** Reads a port. */
export function port(text: string, lowest: number): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || number < lowest || number > 65535) {
    refuse(`Cannot take "${text}" for a port: it is no number from ${lowest} to 65535`);
  }
  return number;
}

/** The values of named arguments: text or numbers, as their defaults are. */
export type Options<Defaults> = { [Name in keyof Defaults]: Defaults[Name] extends number ? number : string };

/**
 * Reads named arguments: `--name value`, in any order.
 *
 * @param args What is left of the arguments
 * @param defaults The names, and the values of those that are not given; a number means that only numbers are taken
 * @returns All values
 */
export function named<Defaults extends { readonly [name: `--${string}`]: string | number }>(
  args: readonly string[],
  defaults: Defaults,
): Options<Defaults> {
  const all: { [name: string]: string | number } = { ...defaults };
  for (let i = 0; i < args.length; i += 2) {
    const [name = "", value = ""] = args.slice(i, i + 2);
    if (!Object.hasOwn(all, name)) refuse(`Cannot take the argument "${name}"`);
    const isNumber = typeof all[name] === "number";
    if (value === "" || (isNumber && !/^\d+$/.test(value))) refuse(`Cannot take "${value}" for ${name}`);
    all[name] = isNumber ? Number(value) : value;
  }
  return all as Options<Defaults>;
}

/** Says where a server listens, now that it does. */
export function announce(address: Address): void {
  if ("port" in address) console.log(`listening on ${address.hostname}:${address.port}`);
}

/** Accepts a connection, if one waits. When that fails (no descriptors are left, say) the others are served on. */
export function accept(listening: ListeningSocket): Socket | typeof EAGAIN {
  try {
    return listening.accept();
  } catch (error) {
    if (!(error instanceof EventError)) throw error;
    console.error(error.message);
    return EAGAIN;
  }
}

/** Writes bytes to standard output. */
export function print(bytes: Uint8Array): void {
  process.stdout.write(bytes);
}
