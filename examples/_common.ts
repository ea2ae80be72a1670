/**
 * Shared by the programs of this folder, so that each shows only its own work: arguments, the line with the address
 * of a server, and errors in one line.
 */

import { type Address, EAGAIN, EventError, type ListeningSocket, type Socket } from "trivent";

// All three runtimes have it, with the same arguments, standard output and exit code.
const { process } = globalThis;

/** The program was called with wrong arguments. */
class UsageError extends Error {}

/** Runs a program. It ends with exit code 0, 1 after an error (printed in one line), or 2 after wrong arguments. */
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
  // The program has closed everything. Output that its peers have not read after this time is dropped.
  setTimeout(() => process.exit(), 2000).unref();
}

/** Prints the failure; the exit code will be 1. */
export function fail(message: string): void {
  console.error(message);
  process.exitCode = 1;
}

/** Refuses the arguments. */
export function refuse(message: string): never {
  throw new UsageError(message);
}

/** The only argument of a server: the port, or 0 for any free port. */
export function onlyPort(args: string[], otherwise: number): number {
  if (args.length > 1) refuse(`Cannot take ${args.length} arguments`);
  return port(args[0] ?? String(otherwise), 0);
}

/** Reads a port. */
export function port(text: string, lowest: number): number {
  const number = Number(text);
  if (!/^\d+$/.test(text) || number < lowest || number > 65535) {
    refuse(`Cannot take "${text}" for a port: it is not a number from ${lowest} to 65535`);
  }
  return number;
}

/** The values of named arguments: text or numbers, like their defaults. */
export type Options<Defaults> = { [Name in keyof Defaults]: Defaults[Name] extends number ? number : string };

/**
 * Reads named arguments: `--name value`, in any order.
 *
 * @param args The remaining arguments
 * @param defaults The names and default values; a number means that only numbers are accepted
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

/** Prints the address of a server that has begun to listen. */
export function announce(address: Address): void {
  if ("port" in address) console.log(`listening on ${address.hostname}:${address.port}`);
}

/**
 * Accepts a connection, if one waits. If that fails (for example without free descriptors), the other clients are
 * still served.
 */
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
