// One end of a connection that records its callbacks, for the tests of the simulator.

import type { EventError } from "../../../core/errors.ts";
import type {
  AcceptSink,
  InetAddress,
  ListenerBinding,
  ListenOptions,
  TransportBinding,
  TransportSink,
} from "../../../core/runtime.ts";
import { type SimHost, type SimOptions, type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";

/** A sink that records its callbacks. */
export class End implements TransportSink {
  /** The callbacks, with the time: `2 connect`, `3 data 5`. */
  readonly log: string[] = [];
  /** All that arrived. */
  readonly bytes: number[] = [];
  /** The number of calls of onWritable(). */
  writables = 0;
  /** Undefined while open, then the code of the error, or "ok". */
  closed: string | undefined;
  /** More work for the callbacks. */
  on: Partial<TransportSink> = {};
  readonly #host: SimHost;
  #binding: TransportBinding | undefined;

  constructor(host: SimHost) {
    this.#host = host;
  }

  get binding(): TransportBinding {
    if (this.#binding === undefined) throw new Error("the end has no binding yet");
    return this.#binding;
  }

  set binding(binding: TransportBinding) {
    this.#binding = binding;
  }

  /** The callbacks, without the times. */
  get events(): string[] {
    return this.log.map((line) => line.slice(line.indexOf(" ") + 1));
  }

  onSecure(): void {}

  onConnect(): void {
    this.#write("connect");
    this.on.onConnect?.();
  }

  onData(chunk: Uint8Array): void {
    this.#write(`data ${chunk.length}`);
    for (const byte of chunk) this.bytes.push(byte);
    this.on.onData?.(chunk);
  }

  onEnd(): void {
    this.#write("end");
    this.on.onEnd?.();
  }

  onWritable(): void {
    this.writables++;
    this.#write("writable");
    this.on.onWritable?.();
  }

  onClose(error?: EventError): void {
    this.closed = error?.code ?? "ok";
    this.#write(`close ${this.closed}`);
    this.on.onClose?.(error);
  }

  #write(line: string): void {
    this.log.push(`${this.#host.now()} ${line}`);
  }
}

/** A listener that keeps the ends that it accepted. */
export class Door implements AcceptSink {
  /** The ends, in the order of their arrival. */
  readonly ends: End[] = [];
  /** A function for each end. */
  accept: (end: End) => void = () => {};
  readonly #host: SimHost;

  constructor(host: SimHost) {
    this.#host = host;
  }

  onAccept(binding: TransportBinding): TransportSink {
    const end = new End(this.#host);
    end.binding = binding;
    this.ends.push(end);
    this.accept(end);
    return end;
  }

  onError(error: EventError): void {
    throw error;
  }

  /** The end that was accepted first. */
  get first(): End {
    const [end] = this.ends;
    if (end === undefined) throw new Error("nothing was accepted");
    return end;
  }
}

/** Listens on a host. */
export async function listen(
  host: SimHost,
  options: ListenOptions = {},
): Promise<{ door: Door; listener: ListenerBinding; port: number }> {
  const door = new Door(host);
  const listener = await host.listen(options, door);
  return { door, listener, port: (listener.address as InetAddress).port };
}

/** Begins to connect. */
export function connect(host: SimHost, options: Parameters<SimHost["connect"]>[0]): End {
  const end = new End(host);
  end.binding = host.connect(options, end);
  return end;
}

/** Two connected ends on the main host; the clock is at 3. */
export async function pair(sim: SimRuntime): Promise<[client: End, server: End]> {
  const { door, listener, port } = await listen(sim);
  const client = connect(sim, { port });
  await sim.advance(3);
  await listener.close();
  return [client, door.first];
}

/** Bytes that count up from `first`. */
export function counting(length: number, first = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => first + i);
}

/** The address of host b's listener. */
export const AT_B = { hostname: "10.0.0.3", port: 80 };

/** Two hosts with a connection from a to b. */
export interface Linked {
  sim: SimRuntime;
  a: SimHost;
  b: SimHost;
  client: End;
  server: End;
  listener: ListenerBinding;
}

/** Connects host a to host b. */
export async function linked(options: SimOptions = {}): Promise<Linked> {
  const sim = simRuntime(options);
  const [a, b] = [sim.host("a"), sim.host("b")];
  const { door, listener } = await listen(b, { port: AT_B.port });
  const client = connect(a, AT_B);
  await sim.advance(5 + 3 * (options.faults?.jitterMs ?? 0));
  return { sim, a, b, client, server: door.first, listener };
}
