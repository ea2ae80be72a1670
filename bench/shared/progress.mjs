/**
 * One line with the progress of a long run. On a terminal it is overwritten, elsewhere it is
 * printed at most every 10 s.
 */

const EVERY_MS = 10_000;
const begun = performance.now();
let part = "";
let last = -Infinity;

/** Prints the running part. @param {string} name */
export function enter(name) {
  part = name;
  last = -Infinity;
  step("begins");
}

/** Prints the present step of the part. @param {string} what */
export function step(what) {
  const now = performance.now();
  const terminal = process.stderr.isTTY === true;
  if (part === "" || (!terminal && now - last < EVERY_MS)) return;
  last = now;
  const seconds = Math.round((now - begun) / 1000);
  const time = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  const line = `[${time}] ${part}: ${what}`;
  process.stderr.write(terminal ? `\r\x1b[K${line.slice(0, (process.stderr.columns ?? 80) - 1)}` : `${line}\n`);
}

/** Clears the line for other output. */
export function leave() {
  if (process.stderr.isTTY === true && part !== "") process.stderr.write("\r\x1b[K");
  part = "";
}
