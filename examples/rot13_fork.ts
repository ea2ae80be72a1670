/**
 * A ROT13 server with a separate worker for every connection: `rot13_fork [port]`.
 *
 * After the forking ROT13 server of the libevent book. The differences from fork(2): a process of JavaScript cannot
 * be split in two, and not every runtime can hand a connection to another thread or process. So the child is a new
 * thread that runs this same file from its first line, and the parent keeps the connection: it passes on received
 * bytes, and sends the child's answers. The child's loop is that of the book, one step after the other, for one
 * client. Unlike the book's parent, this one waits for its children when they end, and closes its connections.
 *
 * Memory is bounded: a chunk goes to the child when the one before it has been answered and sent.
 */

import { isMainThread, parentPort, Worker } from "node:worker_threads";
import { EAGAIN, EvBuffer, EventBase, EventError, select, type Socket } from "trivent";
import { accept, announce, main, onlyPort } from "./_common.ts";
import { untilStopped } from "./_poll.ts";
import { sendAll } from "./_relay.ts";
import { rot13 } from "./_rot13.ts";

const MAX_LINE = 16384;
const NEWLINE = 10;
/** A thread takes 4 to 16 MiB. Further clients wait in the backlog until a child has ended. */
const MAX_CHILDREN = 32;

if (isMainThread) await main("rot13_fork [port]", run);
// Not awaited: on Deno 2.9 a thread that ends inside a top-level await leaves its memory behind.
else void child();

/** The parent accepts, and has a child for each connection. */
async function run(args: string[]): Promise<void> {
  const base = new EventBase();
  const listening = await base.listen({ hostname: "127.0.0.1", port: onlyPort(args, 40713) });
  const connections = new Map<Socket, Promise<void>>();

  await untilStopped(base, async (stop) => {
    announce(listening.address);
    for (;;) {
      await select({ read: [listening] }, undefined, { signal: stop });
      while (connections.size >= MAX_CHILDREN) await Promise.race(connections.values());
      const socket = accept(listening);
      if (socket !== EAGAIN) {
        connections.set(
          socket,
          attend(socket, fork()).then(() => void connections.delete(socket)),
        );
      }
    }
  });
  await listening.close();
  for (const socket of connections.keys()) socket.close();
  await Promise.all(connections.values());
}

/** A child, seen from the parent. */
interface Child {
  /** Lets it work on a client's bytes, and returns the answer. */
  ask(chunk: Uint8Array): Promise<Uint8Array>;
  /** `waitpid()`: reports that the client has finished, and waits until the child has ended. */
  wait(): Promise<void>;
  /** `kill()` and `waitpid()`. */
  kill(): Promise<void>;
}

/** Starts a thread that runs this file. */
function fork(): Child {
  const worker = new Worker(new URL(import.meta.url));
  let answered: (chunk: Uint8Array) => void;
  let failed: (reason: Error) => void = () => {};
  worker.on("message", (chunk: Uint8Array) => answered(chunk));
  worker.on("error", (error) => console.error("A child has failed:", error));
  const ended = new Promise<void>((resolve) => {
    worker.on("exit", () => {
      failed(new EventError("Cannot ask a child: it has ended", { code: "ECHILD" }));
      resolve();
    });
  });
  return {
    ask(chunk) {
      return new Promise((resolve, reject) => {
        answered = resolve;
        failed = reject;
        worker.postMessage(chunk);
      });
    },
    wait() {
      worker.postMessage(null);
      return ended;
    },
    async kill() {
      await worker.terminate();
      await ended;
    },
  };
}

/** Relays the bytes until the connection has ended. Then nothing is left of the child. */
async function attend(socket: Socket, child: Child): Promise<void> {
  const chunk = new Uint8Array(4096);
  try {
    for (;;) {
      const n = socket.recv(chunk);
      if (n === 0) break;
      if (n === EAGAIN) await select({ read: [socket] });
      else await sendAll(socket, await child.ask(chunk.slice(0, n)));
    }
    await child.wait();
  } catch (error) {
    // The connection or the child has failed, or the program closes the connection to end.
    if (!(error instanceof EventError)) throw error;
    await child.kill();
  }
  socket.close();
}

/** The child serves one client: it receives, answers whole lines, and exits when the client has finished. */
async function child(): Promise<void> {
  const outbuf = new Uint8Array(MAX_LINE + 1);
  let used = 0;
  for (;;) {
    const received = await recv();
    if (received === null) break; // an unfinished last line is dropped
    const lines = new EvBuffer();
    for (const c of rot13(received)) {
      outbuf[used++] = c;
      // A line that is too long ends here.
      if (c !== NEWLINE && used === MAX_LINE) outbuf[used++] = NEWLINE;
      if (outbuf[used - 1] !== NEWLINE) continue;
      lines.add(outbuf.subarray(0, used));
      used = 0;
    }
    parentPort?.postMessage(lines.toUint8Array());
  }
  globalThis.process.exit(0); // of this thread only
}

/** Waits for the next bytes of the client; null if it has finished. */
function recv(): Promise<Uint8Array | null> {
  return new Promise((resolve) => parentPort?.once("message", resolve));
}
