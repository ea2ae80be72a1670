/**
 * An echo server with a poller for each thread: `epoll_workers [port] [threads]`.
 *
 * After "thread pooling with epoll" of the chapter on socket programming: there are as many pollers as threads, by
 * default one for each core; each thread serves its own poller, and a connection belongs to one thread from its first
 * byte to its last. At the end each thread reports its number of connections.
 *
 * The threads listen on the same port, and the system assigns the connections (SO_REUSEPORT). If the runtime cannot
 * share a port, each thread listens on its own port. The main thread accepts, assigns the connections in turn, and
 * relays their bytes over the loopback, since it cannot hand over the sockets themselves.
 */

import { availableParallelism } from "node:os";
import { isMainThread, parentPort, Worker } from "node:worker_threads";
import {
  EAGAIN,
  EV_PERSIST,
  EV_READ,
  EV_WRITE,
  EventBase,
  EventError,
  type InetAddress,
  type ListeningSocket,
  Poller,
  type Socket,
  stopOnSignals,
} from "trivent";
import { accept, announce, fail, main, onlyPort, refuse } from "./_common.ts";
import { stopped } from "./_poll.ts";
import { pump } from "./_relay.ts";

const MAX_THREADS = 64;
const BUFFER_SIZE = 16384;

/** A message of a thread. */
type Said = { port: number } | { connections: number } | { error: string };

async function run(args: string[]): Promise<void> {
  const port = onlyPort(args.slice(0, 1), 8080);
  const count = Number(args[1] ?? Math.min(availableParallelism(), MAX_THREADS));
  if (args.length > 2) refuse(`Cannot take ${args.length} arguments`);
  if (!Number.isInteger(count) || count < 1 || count > MAX_THREADS) {
    refuse(`Cannot start "${args[1]}" threads: it is not a number from 1 to ${MAX_THREADS}`);
  }
  const base = new EventBase();
  const threads: Thread[] = [];
  try {
    if (base.runtime.capabilities.reusePort) await shared(base, threads, port, count);
    else await assigned(base, threads, port, count);
  } finally {
    for (const [index, thread] of threads.entries()) {
      const connections = await thread.end();
      if (connections !== undefined) console.log(`thread ${index + 1}: ${connections} connections`);
    }
  }
}

/** All threads listen on the port. */
async function shared(base: EventBase, threads: Thread[], port: number, count: number): Promise<void> {
  let address: InetAddress = { hostname: "127.0.0.1", port, family: "IPv4" };
  while (threads.length < count) {
    const thread = new Thread();
    threads.push(thread);
    // With port 0, the first one finds a free port.
    address = { ...address, port: await thread.listen(address.port, true) };
  }
  const stop = stopped(base);
  announce(address);
  await stop;
}

/** The main thread listens, and relays all bytes. */
async function assigned(base: EventBase, threads: Thread[], port: number, count: number): Promise<void> {
  const listening = await base.listen({ hostname: "127.0.0.1", port });
  const ports: number[] = [];
  while (threads.length < count) {
    const thread = new Thread();
    threads.push(thread);
    ports.push(await thread.listen(0, false));
  }
  const relayed = new Set<Socket>();
  let next = 0;
  const accepting = base.event(listening, EV_READ | EV_PERSIST, () => {
    for (let socket = accept(listening); socket !== EAGAIN; socket = accept(listening)) {
      void relay(relayed, socket, base.connect({ port: ports[next++ % count] }));
    }
  });
  accepting.add();
  stopOnSignals({
    base,
    close() {
      accepting.free();
      listening.close();
      for (const socket of relayed) socket.close();
    },
  });
  announce(listening.address);
  await base.dispatch();
}

async function relay(relayed: Set<Socket>, ...[client, thread]: [Socket, Socket]): Promise<void> {
  relayed.add(client).add(thread);
  try {
    await Promise.all([pump(client, thread), pump(thread, client)]);
    client.close();
  } catch (error) {
    if (!(error instanceof EventError)) throw error;
    // One of them has failed, so the other one is reset.
    client.reset();
  }
  thread.close();
  relayed.delete(client);
  relayed.delete(thread);
}

/** A thread, seen from the main thread. */
class Thread {
  readonly #worker: Worker;
  readonly #exit: Promise<void>;
  #hear: (said: Said) => void = () => {};
  #ended = false;

  constructor() {
    this.#worker = new Worker(new URL(import.meta.url));
    this.#worker.on("message", (said: Said) => this.#hear(said));
    this.#worker.on("error", (error) => fail(`A thread has failed: ${error}`));
    this.#exit = new Promise((resolve) =>
      this.#worker.on("exit", () => {
        this.#ended = true;
        this.#hear({ error: "A thread has ended" });
        resolve();
      })
    );
  }

  /** Makes it listen. @returns The port */
  async listen(port: number, reusePort: boolean): Promise<number> {
    const said = await this.#ask({ port, reusePort });
    if ("port" in said) return said.port;
    // It sends no more messages.
    await this.#worker.terminate();
    throw new EventError("error" in said ? said.error : "A thread does not listen", { code: "ECHILD" });
  }

  /** Ends it and waits for its end. @returns The number of its connections, if it can report that */
  async end(): Promise<number | undefined> {
    const said = await this.#ask("end");
    await this.#worker.terminate();
    await this.#exit;
    return "connections" in said ? said.connections : undefined;
  }

  #ask(message: unknown): Promise<Said> {
    return new Promise((resolve) => {
      this.#hear = resolve;
      if (this.#ended) resolve({ error: "A thread has ended" });
      this.#worker.postMessage(message);
    });
  }
}

/** The program of a thread. */
async function thread(): Promise<void> {
  const base = new EventBase();
  const end = new AbortController();
  let connections = 0;
  const options = await new Promise<{ port: number; reusePort: boolean }>((resolve) => {
    parentPort?.on("message", (message) => message === "end" ? end.abort() : resolve(message));
  });
  try {
    const listening = await base.listen({
      hostname: "127.0.0.1",
      port: options.port,
      // A key that exists is read, even if its value is false.
      ...(options.reusePort ? { reusePort: true } : {}),
    });
    say({ port: (listening.address as InetAddress).port });
    await serve(new Poller<Client | null>(base), listening, end.signal, () => connections++);
  } catch (error) {
    if (error instanceof EventError) return say({ error: error.message });
    if (!end.signal.aborted) throw error;
  }
  say({ connections });
}

function say(said: Said): void {
  parentPort?.postMessage(said);
}

/** The data of a connection of the poller. */
interface Client {
  socket: Socket;
  /** Bytes that were received and not sent back. */
  unsent: Uint8Array;
}

/** Serves the poller of this thread, for ever. */
async function serve(
  epoll: Poller<Client | null>,
  listening: ListeningSocket,
  end: AbortSignal,
  count: () => void,
): Promise<void> {
  const buffer = new Uint8Array(BUFFER_SIZE);
  epoll.add(listening, EV_READ, null);
  for (;;) {
    for (const { data: client } of await epoll.wait(undefined, undefined, { signal: end })) {
      if (client === null) {
        for (let socket = accept(listening); socket !== EAGAIN; socket = accept(listening)) {
          epoll.add(socket, EV_READ, { socket, unsent: buffer.subarray(0, 0) });
          count();
        }
      } else if (!echo(epoll, client, buffer)) client.socket.close(); // and it is out of the poller
    }
  }
}

/** @returns False if the connection has ended */
function echo(epoll: Poller<Client | null>, client: Client, buffer: Uint8Array): boolean {
  const { socket, unsent } = client;
  try {
    const n = unsent.length > 0 ? unsent.length : socket.recv(buffer);
    if (n === EAGAIN) return true;
    if (n === 0) return false;
    const bytes = unsent.length > 0 ? unsent : buffer.subarray(0, n);
    const sent = Math.max(socket.send(bytes), 0);
    // Bytes without space are kept, and nothing is received until they are sent. All connections share the buffer.
    client.unsent = sent < n ? bytes.slice(sent) : buffer.subarray(0, 0);
    epoll.modify(socket, sent < n ? EV_WRITE : EV_READ);
    return true;
  } catch (error) {
    if (error instanceof EventError) return false;
    throw error;
  }
}

if (isMainThread) await main("epoll_workers [port] [threads]", run);
// Not awaited: on Deno 2.9 a thread that ends inside a top-level await leaves its memory behind.
else void thread();
