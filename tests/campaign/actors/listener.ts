// A ConnListener that is disabled, enabled, left without a callback and freed, with bufferevents that nobody owns, and TLS
// that begins in the middle of a connection, in both roles.

import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_ERROR,
  BEV_EVENT_TIMEOUT,
  BEV_OPT_CLOSE_ON_FREE,
  BEV_OPT_DEFER_CALLBACKS,
  ConnListener,
  EV_READ,
  EVBUFFER_EOL_LF,
  LEV_OPT_CLOSE_ON_FREE,
  LEV_OPT_DISABLED,
  type ListenerCallback,
  SocketBufferEvent,
  type StartTlsOptions,
} from "../../../core/mod.ts";
import type { SimHost } from "../../../runtimes/sim.ts";
import type { Dice } from "../../tools/dice.mjs";
import { chooseFormat, type Format } from "../formats.ts";
import type { Half } from "../halves.ts";
import type { ActorPlan } from "../plan.ts";
import { chooseManner, Speaker } from "../speaker.ts";
import { type Actor, codeOf, keyOf, part, show, type World } from "../world.ts";

// The peer's ClientHello may arrive together with its line.
const SERVER_TLS: StartTlsOptions = { role: "server", unread: true, cert: "localhost signed by our CA", key: "a key" };
const CLIENT_TLS: StartTlsOptions = { role: "client", ca: "our CA", serverName: "localhost" };
/** After this time an end that has asked for TLS gives up. */
const UPGRADE_MS = 5000;

/** A listener and its clients. */
export class Listening implements Actor {
  readonly #world: World;
  readonly #host: SimHost;
  readonly #seed: number;
  readonly #port: number;
  readonly #dice: Dice;
  readonly #format: Format;
  readonly #messages: number;
  /** Which end is the client of TLS; none without TLS. */
  readonly #tls: "client" | "server" | null;
  readonly #flags: number;
  readonly #speakers: Speaker[] = [];
  #listener: ConnListener | null = null;
  #freed = false;
  /** Connections whose speakers have not begun yet. */
  readonly #upgrading: Map<SocketBufferEvent, Half> = new Map();
  #count = 0;

  constructor(world: World, { seed, only, messages = Infinity }: ActorPlan, number: number) {
    this.#world = world;
    this.#seed = seed;
    this.#messages = messages;
    const dice = this.#dice = part(seed, 0);
    const host = this.#host = world.host(`l${number}`);
    this.#port = 2000 + number;
    this.#format = chooseFormat(dice);
    this.#tls = dice.below(3) > 0 ? null : dice.pick(["client", "server"] as const);
    this.#flags = LEV_OPT_CLOSE_ON_FREE | (dice.below(4) === 0 ? LEV_OPT_DISABLED : 0);
    world.note(`listener ${this.#port}: ${this.#flags} ${this.#format.kind} ${this.#tls}`);
    this.#listen();
    for (let i = 1 + dice.below(4); i > 0; i--) {
      const from = world.host(`c${dice.below(2)}`);
      const atMs = dice.below(700);
      if (only?.includes(i) === false) continue;
      world.later(from, atMs, () => this.#connect(from, i));
    }
    for (let i = dice.below(5); i > 0; i--) world.later(host, dice.below(1800), () => this.#fidget());
  }

  #listen(): void {
    const world = this.#world;
    const host = this.#host;
    const life = world.life(host);
    const backlog = this.#dice.pick([1, 2, 128]);
    const address = { hostname: "0.0.0.0", port: this.#port };
    const binding = ConnListener.bind(world.base(host), this.#onAccept, this.#flags, backlog, address);
    world.task(host, "bind()", binding, (listener) => {
      if (world.life(host) !== life) return;
      this.#listener = listener;
      listener.setErrorCallback((_listener, error) => {
        if (!["EMFILE", "ENOMEM", "EV_BACKLOG_FULL"].includes(error.code)) world.blame(`a listener: ${show(error)}`);
      });
      if (world.isCalm) listener.enable();
    }, (error) => {
      if (codeOf(error) !== "EMFILE") world.blame(`bind() rejected: ${show(error)}`);
    });
  }

  #fidget(): void {
    const listener = this.#listener;
    if (listener === null || this.#world.isCalm) return;
    const what = this.#dice.below(9);
    this.#world.note(`listener ${this.#port} fidget ${what}`);
    if (what < 3) listener.disable();
    else if (what < 6) listener.enable();
    else if (what === 6) listener.setCallback(null);
    else if (what === 7) listener.setCallback(this.#onAccept);
    else {
      listener.free();
      this.#listener = null;
      this.#freed = true;
    }
  }

  #speaker(name: string, host: SimHost, seed: number, defers: boolean): Speaker {
    let manner = chooseManner(part(seed, 3), this.#format);
    manner = { ...manner, messages: Math.min(manner.messages, this.#messages) };
    this.#world.note(`${name}: ${JSON.stringify(manner)}`);
    const counts = this.#tls === null;
    const speaker = new Speaker(this.#world, host, name, this.#format, manner, seed, {
      owned: false,
      events: true,
      defers,
      counts,
    });
    this.#speakers.push(speaker);
    return speaker;
  }

  readonly #onAccept: ListenerCallback = (listener, socket, address) => {
    const world = this.#world;
    const host = this.#host;
    const number = this.#count++;
    if (listener !== this.#listener && this.#listener !== null) world.blame("a listener that was freed has accepted");
    const seed = this.#seed + 7907 * (number + 1);
    const defers = part(seed, 9).below(3) === 0;
    const flags = BEV_OPT_CLOSE_ON_FREE | (defers ? BEV_OPT_DEFER_CALLBACKS : 0);
    const speaker = this.#speaker(`listener ${this.#port}/${number}`, host, seed, defers);
    world.meet(keyOf(address), speaker.half);
    const bev = new SocketBufferEvent(world.base(host), socket, flags);
    if (this.#tls === null) this.#begin(speaker, bev);
    else this.#awaitTls(speaker, bev, this.#tls === "client" ? SERVER_TLS : CLIENT_TLS);
  };

  /** Starts the speakers. */
  #begin(speaker: Speaker, bev: SocketBufferEvent): void {
    speaker.attach(bev);
    bev.setCallbacks(speaker.callbacks());
    if (this.#world.isStopping) return speaker.free();
    void speaker.open();
  }

  /** The server of the connection: waits for the line that asks for TLS, agrees, and begins TLS. */
  #awaitTls(speaker: Speaker, bev: SocketBufferEvent, tls: StartTlsOptions): void {
    this.#upgrade(speaker, bev, (line) => {
      if (line !== "STARTTLS") this.#world.blame(`${speaker.half.name}: ${line} in place of STARTTLS`);
      bev.write("GO\n");
      bev.startTls(tls);
    });
  }

  /** Waits for one line, then begins the handshake. */
  #upgrade(speaker: Speaker, bev: SocketBufferEvent, onLine: (line: string) => void): void {
    this.#upgrading.set(bev, speaker.half);
    let started = false;
    const done = (): void => void this.#upgrading.delete(bev);
    bev.setTimeouts(UPGRADE_MS, UPGRADE_MS);
    bev.setCallbacks({
      read: () => {
        const line = bev.input.readln(EVBUFFER_EOL_LF);
        if (line === null) return;
        if (started) this.#world.blame(`${speaker.half.name}: input before the handshake is done`);
        started = true;
        try {
          onLine(String.fromCharCode(...line));
        } catch (error) {
          speaker.half.tell(codeOf(error));
          if (speaker.half.told !== "ENOTCONN") this.#world.blame(`${speaker.half.name}: ${show(error)}`);
          done();
          bev.free();
        }
      },
      event: (_bev, what, error) => {
        if ((what & BEV_EVENT_CONNECTED) !== 0) {
          if (!started) return;
          if (bev.tls === undefined) this.#world.blame(`${speaker.half.name}: no TLS after the handshake`);
          done();
          bev.setTimeouts(null, null);
          this.#begin(speaker, bev);
          return;
        }
        done();
        this.#world.note(`${speaker.half.name}: upgrade failed ${error?.code}`);
        if ((what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) === 0 || error !== undefined) speaker.half.tell(error?.code);
        speaker.half.tell("ended");
        speaker.half.drop("failed upgrade");
        bev.free();
      },
    });
    bev.enable(EV_READ);
  }

  #connect(from: SimHost, index: number): void {
    const world = this.#world;
    if (world.isStopping) return;
    const seed = this.#seed + 104_717 * index;
    const defers = part(seed, 9).below(3) === 0;
    const flags = BEV_OPT_CLOSE_ON_FREE | (defers ? BEV_OPT_DEFER_CALLBACKS : 0);
    const speaker = this.#speaker(`client ${this.#port}/${index}`, from, seed, defers);
    const bev = new SocketBufferEvent(world.base(from), null, flags);
    bev.setCallbacks({
      event: (_bev, what, error) => {
        if ((what & BEV_EVENT_CONNECTED) === 0) {
          world.note(`client ${this.#port}/${index} failed: ${error?.code}`);
          speaker.half.tell(error?.code);
          this.#upgrading.delete(bev);
          bev.free();
          return;
        }
        this.#upgrading.delete(bev);
        world.meet(keyOf(bev.localAddress), speaker.half);
        if (this.#tls === null) return this.#begin(speaker, bev);
        const tls = this.#tls === "client" ? CLIENT_TLS : SERVER_TLS;
        bev.write("STARTTLS\n");
        this.#upgrade(speaker, bev, () => bev.startTls(tls));
      },
    });
    this.#upgrading.set(bev, speaker.half);
    bev.connect({ hostname: this.#host.addresses[0], port: this.#port, timeoutMs: 10_000 });
  }

  onRestart(host: SimHost): void {
    if (host !== this.#host) return;
    this.#listener = null;
    this.#freed = false;
    this.#listen();
  }

  calm(): void {
    this.#listener?.setCallback(this.#onAccept);
    this.#listener?.enable();
    for (const speaker of this.#speakers) speaker.calm();
  }

  check(): void {
    if (this.#world.breaking || this.#freed || this.#host.capabilities.pauseAccept === false) return;
    for (const { half, over } of this.#speakers) {
      if (half.peer === null && half.told === null && half.deaf === null && !half.heardEnd && !over) {
        this.#world.blame(`${half.name} was never served`);
      }
    }
  }

  stop(): void {
    this.#listener?.free();
    this.#listener = null;
    for (const [bev, half] of this.#upgrading) if (!half.crashed) bev.free();
    for (const speaker of this.#speakers) if (!speaker.over && speaker.attached) speaker.close(20_000);
  }

  checkStopped(): void {
    for (const speaker of this.#speakers) {
      speaker.checkReferences();
      const { half } = speaker;
      if (speaker.attached && !speaker.over && !half.crashed) this.#world.blame(`${half.name} did not end`);
    }
  }
}
