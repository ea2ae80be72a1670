// Shared by the tests of the programs: servers on a runtime, clients of several kinds, and the memory and sockets of a process.

import { execFileSync, spawn } from "node:child_process";
import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { assert, assertEquals, fail } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { endAllOnExit, start } from "../tools/processes.mjs";
import {
  collecting,
  exampleCommand,
  findRuntime,
  inspecting,
  plainEnvironment,
  ROOT,
  type RuntimeName,
} from "../tools/runtimes.mjs";

/** The longest time that a test waits for an event. Generous, because a test machine may be busy. */
export const PATIENCE_MS = 120_000;

// A test that fails may leave a server running.
endAllOnExit();

/** A running server of `examples/`. */
export interface RunningServer {
  port: number;
  pid: number;
  /** Its output, without the line that says where it listens. */
  printed(): string;
  /** Ends it with a signal. Resolves with null if its exit code was 0, otherwise with what went wrong. */
  stop(signal?: string): Promise<string | null>;
}

/** Starts a server of `examples/` on any port and waits until it listens. */
export function startServer(
  runtime: RuntimeName,
  name: string,
  moreArgs: readonly string[] = [],
): Promise<RunningServer> {
  return startCommand(exampleCommand(runtime, name, ["0", ...moreArgs]));
}

/** Starts a program that prints where it listens. */
export async function startCommand({ file, args }: { file: string; args: readonly string[] }): Promise<RunningServer> {
  const ready = /^listening on 127\.0\.0\.1:(\d+)\n/m;
  const server = await start(file, args, { cwd: ROOT, env: plainEnvironment(), ready });
  return {
    port: Number(server.match[1]),
    pid: server.pid,
    printed: () => server.output().replace(ready, ""),
    stop: (signal) => server.stop(signal),
  };
}

/** The same, for a process with a limit of open descriptors. */
export function startLimited(
  runtime: RuntimeName,
  name: string,
  descriptors: number,
  moreArgs: readonly string[] = [],
): Promise<RunningServer> {
  const { file, args } = exampleCommand(runtime, name, ["0", ...moreArgs]);
  const script = `ulimit -n ${descriptors}; exec "$@"`;
  return startCommand({ file: "bash", args: ["-c", script, "bash", file, ...args] });
}

/** A server whose memory can be measured without garbage. */
export interface MeasuredServer extends RunningServer {
  /** Makes it collect its garbage, and measures its memory. */
  collected(): Promise<Held>;
}

/** The memory of a server without garbage, in MiB. */
export interface Held {
  /** Its memory in RAM, with the memory that its allocator keeps for later. */
  resident: number;
  /** The memory of its objects and their bytes. */
  used: number;
}

/** Starts a server of `examples/` whose memory can be measured. */
export function startMeasured(
  runtime: RuntimeName,
  name: string,
  moreArgs: readonly string[] = [],
): Promise<MeasuredServer> {
  return startMeasuredCommand(runtime, exampleCommand(runtime, name, ["0", ...moreArgs]));
}

/** The same, for any program that prints where it listens. */
export async function startMeasuredCommand(
  runtime: RuntimeName,
  command: { file: string; args: string[] },
): Promise<MeasuredServer> {
  return measured(await startCommand(collecting(runtime, command)));
}

function measured(server: RunningServer): MeasuredServer {
  const report = /^collected, (\d+) bytes are used\n/gm;
  const reports = (): RegExpExecArray[] => [...server.printed().matchAll(report)];
  return {
    ...server,
    printed: () => server.printed().replaceAll(report, ""),
    collected: async () => {
      const before = reports().length;
      process.kill(server.pid, "SIGUSR2");
      await eventually("the garbage is collected", () => reports().length > before);
      return { resident: residentMiB(server.pid), used: Number(reports().at(-1)?.[1]) / 2 ** 20 };
    },
  };
}

/** A server that can also report what its event bases hold. */
export interface InspectedServer extends MeasuredServer {
  /** What it holds now. */
  holds(): Promise<Holds>;
}

/** What the event bases of a server hold. */
export interface Holds {
  /** `Runtime.openHandles`. */
  handles: number;
  /** Added events. */
  events: number;
  /** Active events. */
  active: number;
  /** Timers of the host that have not fired. */
  timers: number;
  /** The beginning of `EventBase.dumpEvents()`. */
  dump: string;
}

/** Starts a server of `examples/` that reports what it holds. */
export async function startInspected(
  runtime: RuntimeName,
  name: string,
  moreArgs: readonly string[] = [],
): Promise<InspectedServer> {
  const server = measured(await startCommand(inspecting(runtime, exampleCommand(runtime, name, ["0", ...moreArgs]))));
  const report = /^holds (.*)\n/gm;
  const reports = (): RegExpExecArray[] => [...server.printed().matchAll(report)];
  return {
    ...server,
    printed: () => server.printed().replaceAll(report, ""),
    holds: async () => {
      const before = reports().length;
      process.kill(server.pid, "SIGHUP");
      await eventually("the server says what it holds", () => reports().length > before);
      return JSON.parse(reports().at(-1)?.[1] as string);
    },
  };
}

/** The result of a command with input. */
export interface Fed {
  code: number | null;
  stdout: Buffer;
  stderr: string;
}

/** Runs a command with `input` on its standard input until it ends. */
export function feed(file: string, args: readonly string[], input: Uint8Array | string = ""): Promise<Fed> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { cwd: ROOT, env: plainEnvironment(), stdio: "pipe" });
    const out: Buffer[] = [];
    let stderr = "";
    const timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
    child.stdout.on("data", (chunk: Buffer) => void out.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => void (stderr += chunk.toString()));
    child.stdin.on("error", () => {});
    child.on("error", reject);
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve({ code, stdout: Buffer.concat(out), stderr });
    });
    child.stdin.end(input);
  });
}

/** Runs a program of `examples/` to its end. */
export function runProgram(runtime: RuntimeName, name: string, programArgs: readonly string[]): Promise<Fed> {
  const { file, args } = exampleCommand(runtime, name, programArgs);
  return feed(file, args);
}

/** Fails unless standard error is one line. Returns that line. */
export function oneLine({ stderr }: Fed): string {
  if (!/^[^\n]+\n$/.test(stderr)) fail(`not one line on standard error: ${JSON.stringify(stderr)}`);
  return stderr.trimEnd();
}

/** A client that keeps all that it receives. */
export class Client {
  static readonly #open: Set<Client> = new Set();
  readonly socket: Socket;
  readonly #chunks: Buffer[] = [];
  /** How many bytes it has received. */
  received = 0;
  /** Whether the server has finished its direction. */
  ended = false;
  /** Why the connection failed, if it did. */
  error: (Error & { code?: string }) | undefined;
  closed = false;
  #changed: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    const told = (): void => this.#changed?.();
    Client.#open.add(this);
    socket.on("data", (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.received += chunk.length;
      told();
    });
    socket.on("end", () => {
      this.ended = true;
      told();
    });
    socket.on("error", (error) => {
      this.error = error;
    });
    socket.on("close", () => {
      Client.#open.delete(this);
      this.closed = true;
      told();
    });
  }

  /** Connects to a server. */
  static open(port: number): Promise<Client> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
      socket.once("error", reject);
      socket.once("connect", () => {
        socket.off("error", reject);
        resolve(new Client(socket));
      });
    });
  }

  /** Resets the connections that a test has left open, so that a test that failed does not fail those after it. */
  static resetAll(): void {
    for (const client of Client.#open) client.reset();
  }

  /** The bytes that have come so far. */
  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }

  /** Forgets all but the last `keep` bytes. `received` still counts them. */
  forget(keep = 0): void {
    const rest = this.bytes.subarray(-keep || this.received);
    this.#chunks.splice(0, this.#chunks.length, rest);
  }

  /** Sends bytes, and waits until the system has accepted them. */
  send(bytes: Uint8Array | string): Promise<void> {
    return new Promise((resolve) => void this.socket.write(Buffer.from(bytes as Uint8Array), () => resolve()));
  }

  /** Finishes sending. */
  end(bytes: Uint8Array | string = ""): void {
    this.socket.end(bytes);
  }

  /** Resets the connection. */
  reset(): void {
    this.socket.resetAndDestroy();
  }

  /** Waits until a condition on this client holds. */
  async until(what: string, holds: () => boolean, patienceMs: number = PATIENCE_MS): Promise<void> {
    const timer = setTimeout(() => this.#changed?.(), patienceMs);
    const deadline = performance.now() + patienceMs - 1;
    try {
      while (!holds()) {
        if (performance.now() >= deadline) {
          const state = `${this.received} bytes${this.ended ? ", end" : ""}${this.closed ? ", closed" : ""}`;
          fail(`${what}: not within ${patienceMs} ms; came: ${state}${this.error ? `, ${this.error.message}` : ""}`);
        }
        await new Promise<void>((resolve) => this.#changed = resolve);
      }
    } finally {
      this.#changed = undefined;
      clearTimeout(timer);
    }
  }

  /** Waits for so many bytes. */
  untilReceived(count: number): Promise<void> {
    return this.until(`${count} bytes`, () => this.received >= count);
  }

  /** Waits until the server has finished, and closes. */
  async untilEnd(): Promise<void> {
    await this.until("the end", () => this.ended || this.closed);
    this.socket.destroy();
    if (this.error !== undefined) fail(`the connection failed: ${this.error.message}`);
  }
}

/** Why a test of TLS on a runtime is skipped, or false. The library says this of the runtime's version. */
export function withoutTls(runtime: RuntimeName): string | false {
  const { version } = findRuntime(runtime);
  const old = runtime === "deno" && version.localeCompare("2.9.3", "en", { numeric: true }) < 0;
  return old && `TLS takes Deno 2.9.3 or later, and this is ${version}`;
}

/** Waits, so that an event that must not happen has time to happen. */
export function quiet(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Checks a condition again and again until it holds. */
export async function eventually(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (!holds()) {
    if (performance.now() > deadline) fail(`${what}: not within ${PATIENCE_MS} ms`);
    await quiet(20);
  }
}

/** Fails if a server has `limit` MiB more in RAM than `before`, garbage not counted. */
export async function assertHeldLess(server: MeasuredServer, before: number, limit: number): Promise<void> {
  let held = residentMiB(server.pid) - before;
  if (held >= limit) held = (await server.collected()).resident - before;
  assert(held < limit, `the server holds ${held.toFixed(1)} MiB more than before`);
}

/** The memory that a process has in RAM, in MiB. */
export function residentMiB(pid: number): number {
  const kib = /^VmRSS:\s*(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kib) / 1024;
}

/** Waits until a process has no more than so many open sockets. */
export function untilClosed(pid: number, sockets: number): Promise<void> {
  return eventually("the sockets are closed", () => openSockets(pid) <= sockets);
}

/** Waits until a server has no more than so many open sockets, and stops it in any case. Its exit code must be 0. */
export async function stopWhenClosed(server: RunningServer, sockets: number): Promise<void> {
  try {
    await untilClosed(server.pid, sockets);
  } finally {
    assertEquals(await server.stop(), null);
  }
}

/** Waits until a process uses no processor time for half a second. */
export async function untilIdle(pid: number): Promise<void> {
  const deadline = performance.now() + 3 * PATIENCE_MS;
  for (let last = -Infinity, now = cpuSeconds(pid); now - last > 0.015; now = cpuSeconds(pid)) {
    if (performance.now() > deadline) fail(`the server works for more than ${3 * PATIENCE_MS} ms`);
    last = now;
    await quiet(500);
  }
}

/** How much processor time a process has used, in seconds. */
export function cpuSeconds(pid: number): number {
  // "pid (name) state ppid …": user and system time are the 12th and 13th behind the name, in hundredths of a second.
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** How many sockets a process holds. Without `/proc` it is always 0, so that comparisons hold. */
export function openSockets(pid: number): number {
  if (needs("/proc")) return 0;
  const folder = `/proc/${pid}/fd`;
  return readdirSync(folder).filter((fd) => {
    try {
      return readlinkSync(`${folder}/${fd}`).startsWith("socket:");
    } catch {
      return false; // closed while we looked
    }
  }).length;
}

/** ROT13 as `tr` does it, independent of the code under test. */
export function rot13(bytes: Uint8Array | string): Buffer {
  const from = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  const to = "NOPQRSTUVWXYZABCDEFGHIJKLMnopqrstuvwxyzabcdefghijklm";
  const table = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
  for (let i = 0; i < from.length; i++) table[from.charCodeAt(i)] = to.charCodeAt(i);
  return Buffer.from(Buffer.from(bytes as Uint8Array).map((c) => table[c] as number));
}

/** Makes a certificate for localhost, and its authority in `ca.pem`. */
export function makeCertificate(directory: string): { key: Buffer; cert: Buffer } {
  const at = (name: string): string => join(directory, name);
  const openssl = (...args: string[]): void => void execFileSync("openssl", args, { stdio: "pipe" });
  const newKey = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl(
    ...newKey,
    "-x509",
    "-keyout",
    at("ca.key"),
    "-out",
    at("ca.pem"),
    "-days",
    "2",
    "-subj",
    "/CN=Test authority",
  );
  openssl(...newKey, "-keyout", at("leaf.key"), "-out", at("leaf.csr"), "-subj", "/CN=localhost");
  writeFileSync(at("leaf.ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n");
  openssl(
    ...["x509", "-req", "-in", at("leaf.csr"), "-CA", at("ca.pem"), "-CAkey", at("ca.key"), "-CAcreateserial"],
    ...["-out", at("leaf.pem"), "-days", "2", "-extfile", at("leaf.ext")],
  );
  return { key: readFileSync(at("leaf.key")), cert: readFileSync(at("leaf.pem")) };
}

/** Sends a line to a server that answers `PID: line`. Resolves with the id of the process that answered. */
export function ask(port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1" });
    let answer = "";
    socket.setTimeout(PATIENCE_MS, () => socket.destroy(new Error("no answer")));
    socket.on("connect", () => socket.write("hello\n"));
    socket.on("data", (chunk) => {
      answer += chunk;
      if (answer.endsWith("\n")) socket.end();
    });
    socket.on("error", reject);
    socket.on("close", () => {
      const pid = /^(\d+): hello\n$/.exec(answer)?.[1];
      if (pid === undefined) reject(new Error(`the answer was ${JSON.stringify(answer)}`));
      else resolve(Number(pid));
    });
  });
}

/** Whether a process is alive. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
