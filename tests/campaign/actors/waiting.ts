// Sockets without bufferevents: a server that waits by an event, a poller, select() or overlapped operations, and clients
// that receive and send by themselves.

import {
  CompletionPort,
  EAGAIN,
  EV_PERSIST,
  EV_READ,
  EV_WRITE,
  type EventError,
  type EventHandle,
  type ListeningSocket,
  Overlapped,
  Poller,
  select,
  Socket,
} from "../../../core/mod.ts";
import type { SimHost } from "../../../runtimes/sim.ts";
import type { Dice } from "../../tools/dice.mjs";
import type { Half } from "../halves.ts";
import type { ActorPlan } from "../plan.ts";
import { type Actor, codeOf, keyOf, part, show, type World } from "../world.ts";

const STYLES = ["event", "poller", "select", "overlapped", "port"] as const;

/** One end of a connection, by calls of its socket. */
class Caller {
  readonly half: Half;
  readonly socket: Socket;
  readonly #world: World;
  readonly #host: SimHost;
  readonly #dice: Dice;
  /** The bytes that are still to be sent, and whether our end follows. */
  #waiting: Uint8Array = new Uint8Array(0);
  #left: number;
  closed = false;
  onClosed: () => void = () => {};

  constructor(world: World, host: SimHost, name: string, socket: Socket, seed: number, messages: number) {
    this.#world = world;
    this.#host = host;
    this.half = world.half(name, host);
    this.socket = socket;
    this.#dice = part(seed, 1);
    this.#left = Math.min(messages, this.#dice.below(6));
  }

  /** Receives all bytes that have arrived. @returns Whether the connection is still to be read */
  receive(): boolean {
    if (this.closed) return false;
    const into = new Uint8Array(1 + this.#dice.below(20_000));
    for (;;) {
      let n: number;
      try {
        n = this.socket.recv(into);
      } catch (error) {
        this.fail(error);
        return false;
      }
      if (n === EAGAIN) return true;
      if (n === 0) {
        this.half.end();
        this.#world.note(`${this.half.name} end`);
        if (this.half.finished) this.close();
        return false;
      }
      this.half.hear(into.subarray(0, n));
    }
  }

  /** Takes bytes that an operation has received. */
  heard(bytes: Uint8Array): void {
    if (bytes.length > 0) this.half.hear(bytes);
    else {
      this.half.end();
      if (this.half.finished) this.close();
    }
  }

  /** Sends as much as it can. @returns Whether it waits for space */
  send(): boolean {
    while (!this.closed) {
      if (this.#waiting.length === 0) {
        if (this.#left === 0) {
          this.finish();
          return false;
        }
        this.#left--;
        this.#waiting = this.#dice.bytes(1 + this.#dice.below(30_000)).slice();
      }
      let n: number;
      try {
        n = this.socket.send(this.#waiting);
      } catch (error) {
        this.fail(error);
        return false;
      }
      if (n === EAGAIN) return true;
      this.half.say(this.#waiting.subarray(0, n));
      this.#waiting = this.#waiting.subarray(n);
    }
    return false;
  }

  finish(): void {
    if (this.closed || this.half.finished) return;
    this.half.finished = true;
    this.#world.note(`${this.half.name} shutdown()`);
    this.socket.shutdown();
    if (this.half.heardEnd) this.close();
  }

  fail(error: unknown): void {
    this.#world.note(`${this.half.name} ${codeOf(error)}`);
    this.half.tell(codeOf(error));
    this.close();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    if (!this.half.heardEnd) this.half.drop("close()");
    this.half.deaf ??= "close()";
    if (!this.half.finished) this.half.cut ??= "close()";
    this.socket.close();
    this.onClosed();
  }

  get host(): SimHost {
    return this.#host;
  }
}

/** A server in one of five styles, and clients. */
export class Waiting implements Actor {
  readonly #world: World;
  readonly #host: SimHost;
  readonly #seed: number;
  readonly #port: number;
  readonly #messages: number;
  readonly #dice: Dice;
  readonly #style: typeof STYLES[number];
  readonly #callers: Caller[] = [];
  readonly #ends: (() => void)[] = [];
  #listening: ListeningSocket | null = null;
  #count = 0;
  #ended = false;

  constructor(world: World, { seed, only, messages = Infinity }: ActorPlan, number: number) {
    this.#world = world;
    this.#seed = seed;
    this.#messages = messages;
    const dice = this.#dice = part(seed, 0);
    const host = this.#host = world.host(`w${number}`);
    this.#port = 5000 + number;
    this.#style = dice.pick(STYLES);
    world.note(`waiting ${this.#port}: ${this.#style}`);
    this.#listen();
    for (let i = 1 + dice.below(3); i > 0; i--) {
      const from = world.host(`c${dice.below(2)}`);
      const atMs = 5 + dice.below(500);
      if (only?.includes(i) === false) continue;
      world.later(from, atMs, () => this.#connect(from, i));
    }
    void host;
  }

  #listen(): void {
    const world = this.#world;
    const host = this.#host;
    const life = world.life(host);
    const address = { hostname: "0.0.0.0", port: this.#port };
    world.task(host, "listen()", world.base(host).listen(address), (listening) => {
      if (world.life(host) !== life) return;
      if (this.#ended) return void listening.close();
      this.#listening = listening;
      if (this.#style === "event") this.#serveByEvents(listening);
      else if (this.#style === "poller") world.task(host, "poller", this.#serveByPoller(listening));
      else if (this.#style === "select") world.task(host, "select", this.#serveBySelect(listening));
      else if (this.#style === "port") world.task(host, "port", this.#serveByPort(listening));
      else this.#serveOverlapped(listening);
    }, (error) => {
      if (codeOf(error) !== "EMFILE") world.blame(`listen() rejected: ${show(error)}`);
    });
  }

  #caller(socket: Socket, host: SimHost, name: string, seed: number): Caller {
    const caller = new Caller(this.#world, host, name, socket, seed, this.#messages);
    this.#callers.push(caller);
    return caller;
  }

  #accepted(socket: Socket): Caller {
    const number = this.#count++;
    const caller = this.#caller(socket, this.#host, `waiting ${this.#port}/${number}`, this.#seed + 7 * number);
    this.#world.meet(keyOf(socket.remoteAddress), caller.half);
    return caller;
  }

  /** Waits for one connection by events. */
  #byEvents(caller: Caller): void {
    const base = this.#world.base(caller.host);
    const handles: EventHandle[] = [];
    const reading = base.event(caller.socket, EV_READ | EV_PERSIST, () => {
      if (!caller.receive()) reading.del();
    });
    const writing = base.event(caller.socket, EV_WRITE | EV_PERSIST, () => {
      if (!caller.send()) writing.del();
    });
    handles.push(reading, writing);
    caller.onClosed = (): void => handles.forEach((handle) => handle.del());
    for (const handle of handles) handle.add();
  }

  #accept(listening: ListeningSocket, take: (caller: Caller) => void): void {
    for (;;) {
      let socket: Socket | typeof EAGAIN;
      try {
        socket = listening.accept();
      } catch (error) {
        if (!["EMFILE", "ENOMEM"].includes(codeOf(error))) this.#world.blame(`accept() threw ${show(error)}`);
        continue;
      }
      if (socket === EAGAIN) return;
      take(this.#accepted(socket));
    }
  }

  #serveByEvents(listening: ListeningSocket): void {
    const handle = this.#world.base(this.#host).event(listening, EV_READ | EV_PERSIST, () => {
      this.#accept(listening, (caller) => this.#byEvents(caller));
    });
    handle.add();
    this.#ends.push(() => handle.del());
  }

  async #serveByPoller(listening: ListeningSocket): Promise<void> {
    const poller = new Poller<Caller | null>(this.#world.base(this.#host));
    poller.add(listening, EV_READ, null);
    this.#ends.push(() => poller.close());
    try {
      for (;;) {
        for (const { data: caller, what, source } of await poller.wait(undefined, this.#dice.pick([1, Infinity]))) {
          if (caller === null) {
            this.#accept(listening, (accepted) => {
              poller.add(accepted.socket, EV_READ | EV_WRITE, accepted);
              accepted.onClosed = (): void => {};
            });
            continue;
          }
          let wanted = EV_READ | EV_WRITE;
          if ((what & EV_READ) !== 0 && !caller.receive()) wanted &= ~EV_READ;
          if (!caller.closed && (what & EV_WRITE) !== 0 && !caller.send()) wanted &= ~EV_WRITE;
          if (caller.closed) continue;
          if (caller.half.finished) wanted &= ~EV_WRITE;
          if (caller.half.heardEnd) wanted &= ~EV_READ;
          if (wanted === 0) caller.close();
          else poller.modify(source, wanted);
        }
      }
    } catch (error) {
      if (codeOf(error) !== "ECANCELED") throw error;
    }
  }

  async #serveBySelect(listening: ListeningSocket): Promise<void> {
    const open = new Set<Caller>();
    while (!this.#ended) {
      const alive = [...open].filter(({ closed }) => !closed);
      const reading = alive.filter(({ half }) => !half.heardEnd);
      const writing = alive.filter(({ half }) => !half.finished);
      const { read, write } = await select({
        read: [listening, ...reading.map(({ socket }) => socket)],
        write: writing.map(({ socket }) => socket),
      }, 500);
      if (this.#ended) return;
      for (const caller of reading) if (read.includes(caller.socket)) caller.receive();
      for (const caller of writing) if (write.includes(caller.socket)) caller.send();
      for (const caller of alive) if (caller.half.finished && caller.half.heardEnd) caller.close();
      if (read.includes(listening)) this.#accept(listening, (caller) => open.add(caller));
    }
  }

  /** Each operation begins the next. */
  #serveOverlapped(listening: ListeningSocket): void {
    const accept = new Overlapped((ov, _bytes, error) => {
      if (error !== null) {
        if (error.code === "ECANCELED" || this.#ended) return;
        if (!["EMFILE", "ENOMEM"].includes(error.code)) this.#world.blame(`an overlapped accept: ${show(error)}`);
      } else if (ov.socket !== null) {
        const caller = this.#accepted(ov.socket);
        this.#receiveOverlapped(caller);
        this.#sendOverlapped(caller);
      }
      if (!this.#ended) listening.acceptOverlapped(ov);
    });
    listening.acceptOverlapped(accept);
  }

  #receiveOverlapped(caller: Caller): void {
    const buffer = new Uint8Array(1 + this.#dice.below(10_000));
    const receive = new Overlapped((ov, bytes, error) => {
      if (caller.closed) return;
      if (error !== null) return caller.fail(error);
      caller.heard(buffer.subarray(0, bytes));
      if (bytes > 0) caller.socket.recvOverlapped(buffer, ov);
    });
    caller.socket.recvOverlapped(buffer, receive);
  }

  #sendOverlapped(caller: Caller): void {
    let left = this.#dice.below(5);
    const next = (ov: Overlapped): void => {
      if (left-- === 0) return caller.finish();
      const bytes = this.#dice.bytes(1 + this.#dice.below(9000)).slice();
      caller.half.say(bytes);
      caller.socket.sendOverlapped(bytes, ov);
    };
    next(
      new Overlapped((ov, _bytes, error: EventError | null) => {
        if (caller.closed) return;
        if (error !== null) caller.fail(error);
        else next(ov);
      }),
    );
  }

  /** The same, with a completion port. */
  async #serveByPort(listening: ListeningSocket): Promise<void> {
    const port = new CompletionPort<Caller | null>(this.#world.base(this.#host));
    port.associate(listening, null);
    this.#ends.push(() => port.close());
    const buffers = new Map<Overlapped, Uint8Array>();
    listening.acceptOverlapped(new Overlapped());
    try {
      for (;;) {
        const completion = await port.wait();
        if (completion === null) continue;
        const { key: caller, overlapped, bytes, error } = completion;
        if (overlapped === null) continue;
        if (caller === null) {
          if (error === null && overlapped.socket !== null) {
            const accepted = this.#accepted(overlapped.socket);
            port.associate(accepted.socket, accepted);
            const buffer = new Uint8Array(4000);
            const receive = new Overlapped();
            buffers.set(receive, buffer);
            accepted.socket.recvOverlapped(buffer, receive);
            accepted.finish();
          } else if (this.#ended) continue;
          listening.acceptOverlapped(overlapped);
          continue;
        }
        if (caller.closed) continue;
        const buffer = buffers.get(overlapped) as Uint8Array;
        if (error !== null) caller.fail(error);
        else {
          caller.heard(buffer.subarray(0, bytes));
          if (bytes > 0) caller.socket.recvOverlapped(buffer, overlapped);
        }
      }
    } catch (error) {
      if (!["ECANCELED", "EBADF"].includes(codeOf(error))) throw error;
    }
  }

  #connect(from: SimHost, index: number): void {
    const world = this.#world;
    if (world.isStopping) return;
    const socket = Socket.connect(from, {
      hostname: this.#host.addresses[0],
      port: this.#port,
      timeoutMs: 10_000,
    });
    const caller = this.#caller(socket, from, `caller ${this.#port}/${index}`, this.#seed + 977 * index);
    let met = false;
    const base = world.base(from);
    const first = base.event(socket, EV_WRITE, () => {
      if (socket.error !== null) return caller.fail(socket.error);
      met = true;
      world.meet(keyOf(socket.localAddress), caller.half);
      this.#byEvents(caller);
    });
    first.add();
    caller.onClosed = (): void => {
      if (!met) first.del();
    };
  }

  onRestart(host: SimHost): void {
    if (host !== this.#host) return;
    this.#ends.length = 0;
    this.#listening = null;
    this.#listen();
  }

  check(): void {
    if (this.#world.breaking) return;
    for (const { half, closed } of this.#callers) {
      if (half.peer === null && half.told === null && !half.heardEnd && !closed) {
        this.#world.blame(`${half.name} was never served`);
      }
    }
  }

  stop(): void {
    this.#ended = true;
    const listening = this.#listening;
    for (const end of this.#ends) end();
    if (listening !== null) this.#world.task(this.#host, "close of a listening socket", listening.close());
    for (const caller of this.#callers) if (!caller.half.crashed) caller.close();
  }
}
