/** Shared by the tests of TLS: the `openssl` command as the peer, and ends of connections that record their events. */

import { type ChildProcess, spawn } from "node:child_process";
import { connect as netConnect, createServer, type Socket as NetSocket } from "node:net";
import process from "node:process";
import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  type BufferEventCallbacks,
  type EventError,
  type Runtime,
  type SocketBufferEvent,
} from "../../mod.ts";

const LIMIT_MS = 40_000;

/** The reason why tests of TLS are skipped, or false. */
export function noTls(host: Runtime): string | false {
  return host.capabilities.tls ? false : `TLS: ${host.lacks?.tls ?? `${host.name} does not support it`}`;
}

/** A running program, and its output. */
export class Program {
  readonly child: ChildProcess;
  output = "";
  ended = false;
  readonly #over: Promise<number | null>;

  constructor(command: string, args: readonly string[]) {
    this.child = spawn(command, [...args], { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, LC_ALL: "C" } });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.on("data", (chunk: Uint8Array) => this.output += new TextDecoder().decode(chunk));
    }
    this.child.stdin?.on("error", () => {});
    this.#over = new Promise((resolve, reject) => {
      this.child.once("error", reject);
      this.child.once("close", (code) => {
        this.ended = true;
        resolve(code);
      });
    });
  }

  write(text: string): void {
    this.child.stdin?.write(text);
  }

  end(text: string = ""): void {
    this.child.stdin?.end(text);
  }

  /** Waits until it has printed a text. */
  async prints(text: string): Promise<void> {
    await until(() => this.output.includes(text) || this.ended, () => `"${text}" is not in: ${this.output}`);
    if (!this.output.includes(text)) throw new Error(`It ended without "${text}": ${this.output}`);
  }

  /** Waits for its end. */
  over(): Promise<number | null> {
    return within(this.#over, () => `does not end: ${this.output}`);
  }

  /** Kills it. */
  async kill(): Promise<void> {
    if (!this.ended) this.child.kill("SIGKILL");
    await this.over();
  }
}

/** The events of one end of a connection. */
export class End {
  text = "";
  /** `connected`, `eof`, or the code of an error, in order. */
  readonly events: string[] = [];
  error: EventError | undefined;
  bev: SocketBufferEvent | undefined;

  readonly callbacks: BufferEventCallbacks<SocketBufferEvent> = {
    read: (bev) => {
      this.text += bev.input.toString();
      bev.input.drain(bev.input.length);
    },
    event: (bev, what, error) => {
      this.bev = bev;
      if ((what & BEV_EVENT_CONNECTED) !== 0) this.events.push("connected");
      if ((what & BEV_EVENT_EOF) !== 0) this.events.push("eof");
      if ((what & BEV_EVENT_ERROR) === 0) return;
      this.error = error;
      this.events.push(error?.code ?? "an error without a reason");
    },
  };

  heard(event: string): Promise<void> {
    return until(() => this.events.includes(event), () => `no ${event}: ${this.events}, ${this.error?.message}`);
  }

  said(text: string): Promise<void> {
    return until(() => this.text.includes(text), () => `no "${text}": ${this.text}; ${this.events}`);
  }
}

/** Checks a condition again and again until it holds. */
export async function until(condition: () => boolean, what: () => string): Promise<void> {
  const deadline = performance.now() + LIMIT_MS;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`Not in time: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

async function within<T>(promise: Promise<T>, what: () => string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(what())), LIMIT_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A TCP connection without TLS. */
export function plainClient(port: number): Promise<NetSocket> {
  return new Promise((resolve, reject) => {
    const socket = netConnect({ port, host: "127.0.0.1" }, () => resolve(socket));
    socket.once("error", reject);
    socket.on("error", () => {});
  });
}

/** A server without TLS. */
export async function plainServer(
  onConnection: (socket: NetSocket) => void,
): Promise<{ port: number; close: () => Promise<void> }> {
  const sockets = new Set<NetSocket>();
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as { port: number }).port,
    close: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

/** `openssl s_server` on a free port. */
export async function opensslServer(args: readonly string[]): Promise<{ program: Program; port: number }> {
  const program = new Program("openssl", ["s_server", "-accept", "127.0.0.1:0", "-naccept", "1000", ...args]);
  await program.prints("ACCEPT");
  const port = /ACCEPT [^\n]*:(\d+)/.exec(program.output)?.[1];
  if (port === undefined) throw new Error(`s_server does not say its port: ${program.output}`);
  return { program, port: Number(port) };
}

/** `gnutls-serv` as an echo server on a free port of IPv4 and IPv6. It refuses an address in SNI. */
export async function gnutlsServer(args: readonly string[]): Promise<{ program: Program; port: number }> {
  for (;;) {
    // It cannot choose a free port by itself.
    const { port, close } = await plainServer(() => {});
    await close();
    const program = new Program("gnutls-serv", ["--port", String(port), "--echo", "--disable-client-cert", ...args]);
    await until(() => /(done|failed)[^]*(done|failed)/.test(program.output), () => program.output);
    if (!program.output.includes("failed")) return { program, port };
    await program.kill();
  }
}
