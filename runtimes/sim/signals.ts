/**
 * The signals that a simulated host knows.
 *
 * @module
 */

import { shorten, show } from "../../core/checks.ts";
import { EventError } from "../../core/errors.ts";

const CATCHABLE: ReadonlySet<string> = /* @__PURE__ */ new Set(
  /* @__PURE__ */ (
    "SIGHUP SIGINT SIGQUIT SIGILL SIGTRAP SIGABRT SIGBUS SIGFPE SIGUSR1 SIGSEGV SIGUSR2 SIGPIPE SIGALRM SIGTERM " +
    "SIGSTKFLT SIGCHLD SIGCONT SIGTSTP SIGTTIN SIGTTOU SIGURG SIGXCPU SIGXFSZ SIGVTALRM SIGPROF SIGWINCH SIGIO " +
    "SIGPWR SIGSYS SIGBREAK SIGINFO"
  ).split(" "),
);

/**
 * Throws unless a signal can be caught.
 *
 * @param name The signal
 * @throws {EventError} `EV_UNSUPPORTED` for `SIGKILL`, `SIGSTOP` and names that are not a signal
 */
export function checkSignal(name: string): void {
  if (CATCHABLE.has(name)) return;
  const shown = typeof name === "string" ? shorten(name) : show(name);
  throw new EventError(`Cannot catch signal ${shown}: it cannot be caught`, { code: "EV_UNSUPPORTED" });
}
