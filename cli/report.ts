/**
 * The texts for faults and errors.
 *
 * @module
 */

import type { Fault } from "../runtimes/sim.ts";

/** The text for a kind in a list. */
const WORDS: Readonly<Record<string, string>> = {
  segmentLate: "late by",
  packetLate: "late by",
  answerLate: "late by",
  timerLate: "late by",
};

/**
 * Shows a fault in one line.
 *
 * @param fault The fault
 * @returns The line: the time, the kind, the object and the duration
 */
export function faultLine({ kind, atMs, about = "", amount, forMs }: Fault): string {
  const much = forMs !== undefined
    ? `for ${shortMs(forMs)} ms`
    : amount !== undefined && WORDS[kind] !== undefined
    ? `${WORDS[kind]} ${shortMs(amount)} ms`
    : "";
  return `at ${shortMs(atMs)} ms`.padEnd(14) + `${kind.padEnd(18)} ${about}  ${much}`.trimEnd();
}

/**
 * Gives the stack of an error, with its message and its causes.
 *
 * @param error The error
 * @returns The text
 */
export function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return `thrown: ${String(error)}`;
  const { stack = "", message, cause } = error;
  // Not every engine puts the message there.
  const whole = stack.includes(message) ? stack : `${error.name}: ${message}\n${stack}`;
  const lines = whole.split("\n");
  // The frames after the scenario belong to the explorer.
  const end = lines.findIndex((line) => /^ *at .*\brunScenario\b/.test(line));
  const text = (end < 0 ? lines : lines.slice(0, end)).filter((line) => !/^ *at .*(node:internal|ext:core)/.test(line))
    .join("\n");
  return cause === undefined ? text : `${text}\ncause: ${stackOf(cause)}`;
}

/**
 * Indents a text.
 *
 * @param text The text
 * @returns The same, each line two columns further right
 */
export function indented(text: string): string {
  return text.replaceAll(/^(?=.)/gm, "  ");
}

function shortMs(ms: number): string {
  return String(Math.round(ms * 1000) / 1000);
}
