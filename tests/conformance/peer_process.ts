/** A server in a separate process, which tests kill, stop and start again. */

import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import process from "node:process";

/** A running peer. */
export class PeerProcess {
  readonly #child: ChildProcess;
  readonly port: number;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  /** Starts it on a port, 0 for any, by the runtime that runs the test. Resolves when it listens. */
  static start(port: number): Promise<PeerProcess> {
    const script = join("tests", "conformance", "fixtures", "peer.mjs");
    const options = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
    const child = spawn(process.execPath, [...options, script, String(port)], { stdio: ["ignore", "pipe", "inherit"] });
    return new Promise((resolve, reject) => {
      let printed = "";
      child.on("error", reject);
      child.on("exit", (code) => reject(new Error(`the peer has ended with ${code}`)));
      child.stdout?.setEncoding("utf8");
      child.stdout?.on("data", (text: string) => {
        printed += text;
        const match = /listening on (\d+)\n/.exec(printed);
        if (match !== null) resolve(new PeerProcess(child, Number(match[1])));
      });
    });
  }

  /** Sends a signal. */
  signal(name: "SIGSTOP" | "SIGCONT"): void {
    this.#child.kill(name);
  }

  /** Kills it, stopped or not. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGKILL");
    await ended;
  }
}
