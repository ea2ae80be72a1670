/** libevent's own two benchmarks: one byte that hops from connection to connection, among others that are idle. */

import {
  EAGAIN,
  EV_PERSIST,
  EV_READ,
  EventBase,
  type EventHandle,
  type Runtime,
  select,
  type Socket,
} from "../../mod.ts";

/** Both ends of a connection: bytes are sent at one and received at the other. */
export interface Pair {
  sender: Socket;
  receiver: Socket;
}

const byte = new Uint8Array(1);
const TIMEOUT_MS = 60_000;

/** Makes connected pairs; neither is in this benchmark's time. */
export async function makePairs(runtime: Runtime, count: number): Promise<Pair[]> {
  const base = new EventBase({ runtime });
  const listening = await base.listen({ hostname: "127.0.0.1", port: 0 });
  const pairs: Pair[] = [];
  while (pairs.length < count) {
    const sender = base.connect(listening.address);
    await select({ write: [sender] });
    if (sender.error !== null) throw sender.error;
    await select({ read: [listening] });
    const receiver = listening.accept();
    if (receiver !== EAGAIN) pairs.push({ sender, receiver });
  }
  await listening.close();
  return pairs;
}

/** Releases them. */
export function closePairs(pairs: readonly Pair[]): void {
  for (const { sender, receiver } of pairs) {
    receiver.reset();
    sender.reset();
  }
}

/** As `bench.c`: persistent events on all pairs; `active` bytes begin, and there are `writes` more hops. */
export class Bench {
  readonly hops: number;
  readonly #base: EventBase;
  readonly #pairs: readonly Pair[];
  readonly #active: number;
  readonly #writes: number;
  readonly #events: EventHandle[] = [];
  #left = 0;
  #count = 0;

  constructor(runtime: Runtime, pairs: readonly Pair[], active: number, writes: number) {
    this.#base = new EventBase({ runtime });
    this.#pairs = pairs;
    this.#active = active;
    this.#writes = writes;
    this.hops = active + writes;
  }

  /** Makes the events again. */
  setUp(): void {
    for (const event of this.#events.splice(0)) event.free();
    this.#pairs.forEach(({ receiver }, i) => {
      const event = this.#base.event(receiver, EV_READ | EV_PERSIST, () => this.#read(i));
      event.add();
      this.#events.push(event);
    });
  }

  /** One round with the present events. @returns Milliseconds */
  async round(): Promise<number> {
    this.#count = 0;
    this.#left = this.#writes;
    const space = Math.floor(this.#pairs.length / this.#active);
    for (let i = 0; i < this.#active; i++) (this.#pairs[i * space] as Pair).sender.send(byte);
    const begun = performance.now();
    await this.#base.dispatch();
    const took = performance.now() - begun;
    if (this.#count !== this.hops) throw new Error(`${this.#count} hops for ${this.hops}`);
    return took;
  }

  /** Deletes the events, so that the pairs can be reused. */
  end(): void {
    for (const event of this.#events.splice(0)) event.free();
    this.#base.free();
  }

  #read(index: number): void {
    const pairs = this.#pairs;
    this.#count += (pairs[index] as Pair).receiver.recv(byte);
    if (this.#left > 0) {
      this.#left--;
      (pairs[index + 1 < pairs.length ? index + 1 : 0] as Pair).sender.send(byte);
    }
    if (this.#count === this.hops) this.#base.loopBreak();
  }
}

/** As `bench_cascade.c`: an event with a timeout on each pair, set up within the time, and a byte through all of them. */
export async function cascade(runtime: Runtime, pairs: readonly Pair[]): Promise<number> {
  const base = new EventBase({ runtime });
  const begun = performance.now();
  pairs.forEach(({ receiver }, i) => {
    base.event(receiver, EV_READ, () => {
      receiver.recv(byte);
      pairs[i + 1]?.sender.send(byte);
    }).add(TIMEOUT_MS);
  });
  (pairs[0] as Pair).sender.send(byte);
  const result = await base.dispatch();
  const took = performance.now() - begun;
  if (result !== "empty") throw new Error(`the cascade ended with ${result}`);
  base.free();
  return took;
}
