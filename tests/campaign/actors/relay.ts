// A relay between clients and a server: pipe() couples the connection of each client with one to the server behind.

import {
  BEV_EVENT_CONNECTED,
  BEV_OPT_CLOSE_ON_FREE,
  type BufferEvent,
  connectNow,
  pipe,
  serve,
  type Server,
  SocketBufferEvent,
} from "../../../core/mod.ts";
import type { SimHost } from "../../../runtimes/sim.ts";
import type { Dice } from "../../tools/dice.mjs";
import { chooseFormat, type Format } from "../formats.ts";
import { chooseLayers, cover, type Layers, uncover } from "../layers.ts";
import type { ActorPlan } from "../plan.ts";
import { chooseManner, Speaker } from "../speaker.ts";
import { type Actor, codeOf, keyOf, part, show, type World } from "../world.ts";

type Bev = SocketBufferEvent<Speaker | null>;

/** A relay, a server behind it, and clients. */
export class Relay implements Actor {
  readonly #world: World;
  readonly #dice: Dice;
  readonly #seed: number;
  readonly #messages: number;
  readonly #relay: SimHost;
  readonly #behind: SimHost;
  readonly #number: number;
  readonly #format: Format;
  /** The layers between the client and the relay. */
  readonly #layers: Layers;
  readonly #speakers: Speaker[] = [];
  #servers: { server: Server<Speaker | null>; host: SimHost; life: number }[] = [];
  #count = 0;

  constructor(world: World, { seed, only, messages = Infinity }: ActorPlan, number: number) {
    this.#world = world;
    this.#seed = seed;
    this.#messages = messages;
    this.#number = number;
    const dice = this.#dice = part(seed, 0);
    this.#relay = world.host(`r${number}`);
    world.middle.add(this.#relay);
    this.#behind = world.host(`b${number}`);
    this.#format = chooseFormat(dice);
    this.#layers = chooseLayers(dice, 3);
    world.note(`relay ${number}: ${this.#format.kind} ${this.#layers}`);
    this.#serveBehind();
    this.#serveRelay();
    for (let i = 1 + dice.below(2); i > 0; i--) {
      const from = world.host(`c${dice.below(2)}`);
      const atMs = 10 + dice.below(500);
      if (only?.includes(i) === false) continue;
      world.later(from, atMs, () => this.#connect(from, i));
    }
  }

  #serve(host: SimHost, serving: Promise<Server<Speaker | null>>): void {
    const world = this.#world;
    const life = world.life(host);
    world.task(host, "serve()", serving, (server) => void this.#servers.push({ server, host, life }), (error) => {
      if (codeOf(error) !== "EMFILE") world.blame(`serve() rejected: ${show(error)}`);
    });
  }

  #serveBehind(): void {
    const world = this.#world;
    const host = this.#behind;
    this.#serve(
      host,
      serve<Speaker | null>({ base: world.base(host), hostname: "0.0.0.0", port: 80 + this.#number }, {
        open: (bev) => {
          const speaker = this.#speaker(`behind ${this.#number}/${this.#count++}`, host, true);
          world.meet(keyOf(bev.remoteAddress), speaker.half);
          this.#begin(speaker, bev, bev);
        },
        read: (bev) => bev.context?.onRead(),
        write: (bev) => bev.context?.onWrite(),
        close: (bev, reason) => bev.context?.onClose(reason),
        error: (error, bev) => this.#onError(error, bev),
      }),
    );
  }

  #serveRelay(): void {
    const world = this.#world;
    const host = this.#relay;
    this.#serve(
      host,
      serve<Speaker | null>({ base: world.base(host), hostname: "0.0.0.0", port: 3000 + this.#number }, {
        open: (client) => this.#couple(client),
        error: (error, bev) => this.#onError(error, bev),
      }),
    );
  }

  /** A server that has run out of descriptors reports it. */
  #onError(error: unknown, bev: Bev | null): void {
    if (error instanceof Error && bev?.context?.failing === error) return;
    if (!["EMFILE", "ENOMEM"].includes(codeOf(error))) this.#world.blame(`error() of a relay: ${show(error)}`);
  }

  #couple(client: Bev): void {
    const world = this.#world;
    const host = this.#relay;
    const outer = keyOf(client.remoteAddress);
    const upstream = new SocketBufferEvent(world.base(host), null, BEV_OPT_CLOSE_ON_FREE);
    upstream.setCallbacks({
      event: (_bev, what) => {
        if ((what & BEV_EVENT_CONNECTED) !== 0) world.blame("a pipe has not taken the callbacks");
      },
    });
    upstream.connect({ hostname: this.#behind.addresses[0], port: 80 + this.#number, timeoutMs: 3000 });
    const near: BufferEvent = uncover(client, this.#layers);
    const dice = this.#dice;
    const abort = new AbortController();
    if (dice.below(10) === 0) world.later(host, dice.below(1000), () => abort.abort(new Error("enough")));
    const done = pipe(near, upstream, {
      ...(dice.below(6) === 0 ? { idleTimeoutMs: 200 + dice.below(5000) } : {}),
      signal: abort.signal,
    });
    const name = `pipe of ${outer}`;
    // The server behind knows the relay only.
    const tie = (): boolean => {
      const local = upstream.localAddress;
      if (local === undefined) return false;
      world.alias(keyOf(local), outer);
      return true;
    };
    const look = (): void => {
      if (!tie() && !settled) world.later(host, 1, look);
    };
    let settled = false;
    world.later(host, 0, look);
    world.task(host, name, done, ({ bytesAToB, bytesBToA }) => {
      settled = true;
      tie();
      world.note(`${name}: ${bytesAToB} and ${bytesBToA} bytes`);
    }, (error) => {
      settled = true;
      tie();
      world.note(`${name} failed: ${codeOf(error)}`);
    });
  }

  #speaker(name: string, host: SimHost, owned: boolean): Speaker {
    const seed = this.#seed + 6_700_417 * (this.#speakers.length + 1);
    let manner = chooseManner(part(seed, 3), this.#format);
    manner = { ...manner, messages: Math.min(manner.messages, this.#messages) };
    if (this.#layers.length > 0 && manner.writing === "web") manner = { ...manner, writing: "script" };
    this.#world.note(`${name}: ${JSON.stringify(manner)}`);
    const events = name.startsWith("client") && this.#layers.length > 0;
    const speaker = new Speaker(this.#world, host, name, this.#format, manner, seed, { owned, events });
    // Without resets, the relay can only end what it cuts.
    if (!this.#relay.capabilities.reset) speaker.half.middlebox = true;
    this.#speakers.push(speaker);
    return speaker;
  }

  #begin(speaker: Speaker, bev: Bev, top: BufferEvent): void {
    bev.context = speaker;
    speaker.attach(top, bev);
    void speaker.open();
  }

  #connect(from: SimHost, index: number): void {
    const world = this.#world;
    if (world.isStopping) return;
    const speaker = this.#speaker(`client ${3000 + this.#number}/${index}`, from, true);
    const bev: Bev = connectNow<Speaker | null>({
      base: world.base(from),
      hostname: this.#relay.addresses[0],
      port: 3000 + this.#number,
      timeoutMs: 10_000,
    }, {
      open: (bev) => {
        world.meet(keyOf(bev.localAddress), speaker.half);
        this.#begin(speaker, bev, cover(bev, this.#layers, speaker));
      },
      read: (bev) => bev.context?.onRead(),
      write: (bev) => bev.context?.onWrite(),
      close: (_bev, reason) => {
        if (speaker.attached) speaker.onClose(reason);
        else speaker.half.tell(reason?.code);
      },
      error: (error, bev) => this.#onError(error, bev),
    });
    void bev;
  }

  onRestart(host: SimHost): void {
    if (host === this.#relay) this.#serveRelay();
    if (host === this.#behind) this.#serveBehind();
  }

  calm(): void {
    for (const speaker of this.#speakers) speaker.calm();
  }

  stop(): void {
    for (const speaker of this.#speakers) if (!speaker.over && speaker.attached) speaker.close(20_000);
    for (const { server, host, life } of this.#servers) {
      if (this.#world.life(host) === life) {
        this.#world.task(host, "close of a relay", server.close({ graceMs: 30_000 }));
      }
    }
    this.#servers = [];
  }

  checkStopped(): void {
    for (const speaker of this.#speakers) {
      speaker.checkReferences();
      const { half } = speaker;
      if (speaker.attached && !speaker.over && !half.crashed) this.#world.blame(`${half.name} did not end`);
    }
  }
}
