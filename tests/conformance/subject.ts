/** The input of a conformance run: the runtime under test, and what else the laws need. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { EventBase, type Runtime, type Socket } from "../../core/mod.ts";
import { needs } from "../tools/needs.ts";
import { makeCertificates, makeLeaf } from "./certificates.ts";

/** Certificates in PEM. */
export interface Certificates {
  /** The authority that has signed the certificate. */
  readonly ca: string;
  /** A certificate for `localhost` and `127.0.0.1`. */
  readonly cert: string;
  /** Its key. */
  readonly key: string;
  /** Another certificate of the authority, for `one.example`, with its key. Without it, the laws that need two are skipped. */
  readonly other?: { readonly cert: string; readonly key: string } | undefined;
}

/** A peer that is not under test. It can reset its connection. */
export interface Stranger {
  /** Sends as many of the bytes as the connection accepts. */
  write(bytes: Uint8Array): void;
  /** Begins to read, and drops the bytes. */
  read(): void;
  /** Resets the connection. */
  reset(): void;
}

/**
 * A law that a runtime makes impossible to keep. Name it only with the runtime's issue beside it.
 *
 * - `attempt-stays`: the runtime cannot abort an attempt to connect. Its handle stays open until the system gives up.
 * - `last-words-lost`: when a write fails, the runtime drops bytes that had arrived and were not read.
 * - `unreachable-is-refused`: the runtime reports `ECONNREFUSED` for an address that it has no route to.
 */
export type Deviation = "attempt-stays" | "last-words-lost" | "unreachable-is-refused";

/** The input of a conformance run. Only the runtime is required; the defaults suit a runtime on the machine's own network. */
export interface Subject {
  /** The runtime under test. */
  readonly runtime: Runtime;
  /**
   * For a runtime with its own clock: advances time until the promise settles.
   * @default the time of the machine passes
   */
  readonly run?: (<T>(promise: Promise<T>) => Promise<T>) | undefined;
  /**
   * Whether the runtime's network is not the machine's, so that other programs cannot reach it.
   * @default true with `run`, otherwise false
   */
  readonly ownNetwork?: boolean | undefined;
  /**
   * Raises a signal.
   * @default `process.kill(process.pid, signal)`
   */
  readonly raise?: ((signal: string) => void) | undefined;
  /**
   * A file of 100,000 bytes or more that `readFile()` can read, and its contents.
   * @default a temporary file
   */
  readonly file?: { readonly path: string; readonly bytes: Uint8Array } | undefined;
  /**
   * Gives a new path for a unix socket with each call.
   * @default a path in a temporary directory
   */
  readonly unixPath?: (() => string) | undefined;
  /**
   * Certificates for the laws of TLS.
   * @default made by the program `openssl`; without it the laws of TLS are skipped
   */
  readonly tls?: Certificates | undefined;
  /**
   * Connects a stranger to a port of 127.0.0.1.
   * @default a socket of `node:net`; with `ownNetwork` a client of the runtime itself
   */
  readonly stranger?: ((port: number) => Promise<Stranger>) | undefined;
  /**
   * The URL of a module that exports a function that returns the runtime, as `default` or under a name that ends in
   * `Runtime`. The laws of processes start new processes of this runtime with it.
   * @default the laws of processes are skipped
   */
  readonly module?: string | undefined;
  /**
   * How long a process of the laws may take to end.
   * @default 15000
   */
  readonly processTimeoutMs?: number | undefined;
  /**
   * How long a law waits for an event that must come. A whole law may take three times as long.
   * @default 30000
   */
  readonly patienceMs?: number | undefined;
  /** The laws that the runtime makes impossible to keep. */
  readonly deviations?: readonly Deviation[] | undefined;
}

/** A subject with its defaults. */
export interface FullSubject {
  readonly runtime: Runtime;
  readonly run: <T>(promise: Promise<T>) => Promise<T>;
  /** Whether time passes only in `run`. */
  readonly virtual: boolean;
  readonly ownNetwork: boolean;
  readonly raise: (signal: string) => void;
  readonly file: { readonly path: string; readonly bytes: Uint8Array };
  readonly unixPath: () => string;
  readonly tls: Certificates | undefined;
  readonly stranger: (port: number) => Promise<Stranger>;
  readonly module: string | undefined;
  readonly processTimeoutMs: number;
  readonly patienceMs: number;
  readonly deviates: (deviation: Deviation) => boolean;
  /** Returns why a law that needs these addresses or programs is skipped, or false. */
  readonly missing: (...what: string[]) => string | false;
}

/** Fills in the defaults. */
export function complete(subject: Subject): FullSubject {
  const { runtime, run, raise, unixPath, stranger, deviations = [] } = subject;
  const ownNetwork = subject.ownNetwork ?? run !== undefined;
  return {
    runtime,
    run: run ?? ((promise) => promise),
    virtual: run !== undefined,
    ownNetwork,
    raise: raise ?? ((signal) => void process.kill(process.pid, signal)),
    get file() {
      return subject.file ?? temporaryFile();
    },
    unixPath: unixPath ?? (() => join(temporaryDirectory(), `socket-${paths++}`)),
    get tls() {
      return runtime.capabilities.tls ? subject.tls ?? temporaryCertificates() : undefined;
    },
    stranger: stranger ?? (ownNetwork ? (port) => Promise.resolve(ownStranger(runtime, port)) : netStranger),
    module: subject.module,
    processTimeoutMs: subject.processTimeoutMs ?? 15_000,
    patienceMs: subject.patienceMs ?? 30_000,
    deviates: (deviation) => deviations.includes(deviation),
    missing: (...what) => {
      const there = (each: string): boolean => ownNetwork && /^[\d.:]+$/.test(each);
      return needs(...what.filter((each) => !there(each)));
    },
  };
}

let directory: string | undefined;
let file: FullSubject["file"] | undefined;
/** Null if there is no `openssl`. */
let certificates: Certificates | null | undefined;
let paths = 0;

/** A directory that is removed when the process ends. */
function temporaryDirectory(): string {
  if (directory === undefined) {
    directory = mkdtempSync(join(tmpdir(), "trivent-"));
    process.on("exit", removeTemporary);
  }
  return directory;
}

/** A directory below it. */
export function temporaryFolder(name: string): string {
  const path = join(temporaryDirectory(), name);
  mkdirSync(path, { recursive: true });
  return path;
}

/** Removes the files that the defaults have made. */
export function removeTemporary(): void {
  if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
  directory = file = certificates = undefined;
}

function temporaryFile(): FullSubject["file"] {
  if (file === undefined) {
    file = { path: join(temporaryDirectory(), "file"), bytes: noise(100_000, 1) };
    writeFileSync(file.path, file.bytes);
  }
  return file;
}

function temporaryCertificates(): Certificates | undefined {
  if (certificates === undefined) {
    const directory = temporaryDirectory();
    const made = makeCertificates(directory);
    certificates = made === undefined
      ? null
      : { ...made, other: makeLeaf(directory, "test", "other-leaf", "one.example") };
  }
  return certificates ?? undefined;
}

/** A socket of `node:net`, which can send a RST on every runtime. */
function netStranger(port: number): Promise<Stranger> {
  const socket = connect({ host: "127.0.0.1", port });
  socket.on("error", () => {});
  return new Promise((resolve) => {
    socket.on("connect", () => {
      resolve({
        write: (bytes) => void socket.write(bytes),
        read: () => void socket.resume(),
        reset: () => void socket.resetAndDestroy(),
      });
    });
  });
}

/** A client of the runtime itself. */
function ownStranger(runtime: Runtime, port: number): Stranger {
  const socket: Socket = new EventBase({ runtime }).connect({ port });
  let left: Uint8Array = new Uint8Array();
  let reads = false;
  let over = false;
  const into = new Uint8Array(65_536);
  const act = (): void => {
    if (over) return;
    try {
      for (let n = 1; left.length > 0 && (n = socket.send(left)) > 0;) left = left.subarray(n);
      if (reads) { while (socket.recv(into) > 0); }
    } catch {
      // The connection is gone. The socket waits for its reset.
      return;
    }
    runtime.setTimer(runtime.now() + 1, act);
  };
  act();
  return {
    write: (bytes) => void (left = bytes),
    read: () => void (reads = true),
    reset: () => {
      over = true;
      socket.reset();
    },
  };
}

/** Bytes that are the same for the same seed, and others for another. */
export function noise(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  const next = dice(seed);
  for (let i = 0; i + 4 <= length; i += 4) {
    const word = next();
    bytes[i] = word;
    bytes[i + 1] = word >>> 8;
    bytes[i + 2] = word >>> 16;
    bytes[i + 3] = word >>> 24;
  }
  return bytes;
}

/** Numbers of 32 bits, the same for the same seed. */
export function dice(seed: number): () => number {
  let x = (seed * 2654435761) >>> 0 || 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}
