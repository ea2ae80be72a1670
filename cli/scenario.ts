/**
 * Loads the scenario of a file.
 *
 * @module
 */

import process from "node:process";
import type { ExploreOptions, Scenario, SimRuntime } from "../runtimes/sim.ts";

/** The command, or the file that it names, is wrong. */
export class UsageError extends Error {
  /** Whether the usage is shown, too. */
  readonly showsUsage: boolean;

  /**
   * Makes an error.
   *
   * @param message The message
   * @param showsUsage Whether the usage is shown, too
   */
  constructor(message: string, showsUsage = false) {
    super(message);
    this.showsUsage = showsUsage;
  }
}

/** The exports of a file. */
export interface Loaded {
  /** Its default export. */
  readonly scenario: Scenario;
  /** Its export `options`. */
  readonly options: ExploreOptions;
}

/** The simulator of the run that is in progress, or was the last one. */
let current: SimRuntime | undefined;

/**
 * Loads a scenario. From then on, an unhandled rejection fails the run that is in progress.
 *
 * @param url The URL of its file
 * @returns The exports of the file
 * @throws {UsageError} When it exports no scenario, or this runtime cannot load it
 */
export async function loadScenario(url: string): Promise<Loaded> {
  let module: { default?: unknown; options?: unknown };
  try {
    module = await import(url);
  } catch (error) {
    throw new UsageError(whyNotLoaded(url, error));
  }
  const { default: scenario, options = {} } = module;
  if (typeof scenario !== "function") {
    throw new UsageError(`${url} has no scenario: its default export is not a function: received ${typeof scenario}`);
  }
  if (typeof options !== "object" || options === null) {
    throw new UsageError(`${url} has an export "options" that is not an object: received ${typeof options}`);
  }
  const onUnhandled = (error: unknown): void => {
    if (current === undefined) throw error;
    current.report(error);
  };
  process.on("unhandledRejection", onUnhandled);
  process.on("uncaughtException", onUnhandled);
  return {
    scenario: (sim) => {
      current = sim;
      return (scenario as Scenario)(sim);
    },
    options: options as ExploreOptions,
  };
}

function whyNotLoaded(url: string, error: unknown): string {
  const { code, stack, message } = error as { code?: string; stack?: string; message?: string };
  if (code === "ERR_UNKNOWN_FILE_EXTENSION" && /\.[cm]?ts$/.test(url)) {
    return `cannot load ${url}: Node ${process.versions.node} does not run TypeScript: take Node 22.18 or later, Deno or ` +
      "Bun, or a scenario in JavaScript";
  }
  return `cannot load ${url}: ${stack?.includes(message ?? "") === true ? stack : `${message}\n${stack}`}`;
}
