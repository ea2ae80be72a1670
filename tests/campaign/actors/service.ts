// A server of serve() with all its limits, and clients of every kind.

import {
  BEV_EVENT_CONNECTED,
  BEV_OPT_CLOSE_ON_FREE,
  BEV_OPT_DEFER_CALLBACKS,
  type BufferEvent,
  connect,
  type ConnectionCallbacks,
  type ConnectionOptions,
  connectNow,
  type ConnectOptions,
  heartbeat,
  type Link,
  prometheus,
  RateLimitGroup,
  reconnect,
  serve,
  type ServeCallbacks,
  type ServeOptions,
  type Server,
  sleep,
  SocketBufferEvent,
  stopOnSignals,
  type TlsServeOptions,
} from "../../../core/mod.ts";
import { connect as connectSocket } from "../../../core/serve/sockets.ts";
import type { SimHost } from "../../../runtimes/sim.ts";
import type { Dice } from "../../tools/dice.mjs";
import { chooseFormat, type Format, LONGEST } from "../formats.ts";
import type { Half } from "../halves.ts";
import { chooseLayers, cover, type Layers } from "../layers.ts";
import type { ActorPlan } from "../plan.ts";
import { Proxy } from "../proxy.ts";
import { bucket, chooseManner, type Manner, Speaker, type Timeouts, unlimited } from "../speaker.ts";
import { type Actor, codeOf, keyOf, part, show, type World } from "../world.ts";

type Bev = SocketBufferEvent<Speaker | null>;

const CA = "our CA";
const TLS = { cert: "srv, localhost signed by our CA", key: "a key" };
/** The certificates by name; the usual one is for none of the names that clients ask for. */
const USUAL = { cert: "usual.example signed by our CA", key: "a key" };
const BY_NAME: Readonly<Record<string, typeof TLS>> = {
  "localhost": TLS,
  "*.example": { cert: "a.example signed by our CA", key: "another key" },
};
/** The names that clients ask for. The last has no certificate. */
const NAMES = ["localhost", "localhost", "localhost", "a.example", "nobody.test"] as const;
const NOBODY = "nobody.test";

/** What both sides of a service know of it. */
interface Terms {
  readonly format: Format;
  readonly layers: Layers;
  /** The most messages of each end. */
  readonly messages: number;
  /** From the beginning, or by a STARTTLS in the middle; none otherwise. */
  readonly tls: boolean;
  /** How the certificate is chosen by the name that the client asks for; none if it is not. */
  readonly sni: "table" | "function" | null;
  /** Whether it listens on a path of its host, and has its clients there. */
  readonly unix: boolean;
  readonly shared: boolean;
  readonly proxied: boolean;
  readonly lineCallback: boolean;
  readonly events: boolean;
  readonly keepAlive: boolean;
  readonly limits: ConnectionOptions;
  readonly timeouts: Timeouts;
  readonly most: number | null;
  readonly whenFull: "wait" | "reject";
  readonly accepts: boolean;
}

/** One service. */
export class Service implements Actor {
  readonly #world: World;
  readonly #seed: number;
  readonly #dice: Dice;
  readonly #host: SimHost;
  readonly #port: number;
  readonly #terms: Terms;
  readonly #speakers: Speaker[] = [];
  readonly #clients: Client[] = [];
  readonly #proxy: Proxy | null;
  readonly #group: RateLimitGroup | null;
  /** In which life of the host the group was made. */
  readonly #life: number;
  #server: Server<Speaker | null> | null = null;
  #count = 0;

  constructor(world: World, plan: ActorPlan, number: number) {
    const { seed, only } = plan;
    this.#world = world;
    this.#seed = seed;
    const dice = this.#dice = part(seed, 0);
    this.#host = world.host(`s${number}`);
    this.#port = 1000 + number;
    const format = chooseFormat(dice);
    this.#terms = chooseTerms(dice, format, plan.messages ?? Infinity);
    world.note(`service ${this.#port}: ${JSON.stringify({ ...this.#terms, format: format.kind })}`);
    this.#group = dice.below(6) === 0 && !this.#terms.shared
      ? new RateLimitGroup(world.base(this.#host), bucket(dice))
      : null;
    this.#life = world.life(this.#host);
    this.#proxy = !this.#terms.unix && dice.below(4) === 0 ? new Proxy(world, number, seed) : null;
    this.#listen();
    for (let i = 1 + dice.below(3); i > 0; i--) {
      const far = world.host(`c${dice.below(2)}`);
      const from = this.#terms.unix ? this.#host : far;
      const atMs = dice.below(500);
      if (only?.includes(i) === false) continue;
      const client = new Client(
        world,
        from,
        this.#host.addresses[0] as string,
        number,
        this.#port,
        this.#terms,
        seed + i * 7919,
        i,
        this.#proxy,
      );
      this.#clients.push(client);
      world.later(from, atMs, () => client.begin());
    }
    if (this.#terms.sni !== null && dice.below(2) === 0) {
      world.later(this.#host, dice.below(1000), () => this.#server?.setTls(tlsOf(this.#terms)));
    }
    if (dice.below(4) === 0) {
      world.later(this.#host, dice.below(2000), () => {
        if (this.#server === null || dice.below(3) > 0) return;
        if (dice.below(2) === 0) this.#closeServer(dice.below(1000));
        else this.#signalServer(dice.below(1000));
      });
    }
  }

  #listen(): void {
    const { terms, world, host } = { terms: this.#terms, world: this.#world, host: this.#host };
    const options: ServeOptions = {
      ...terms.limits,
      // The base of the runtime, or one of its own.
      ...(terms.shared ? { runtime: host } : { base: world.base(host) }),
      ...(terms.unix ? { path: pathOf(this.#port), replaceStale: true } : { hostname: "0.0.0.0", port: this.#port }),
      backlog: 5,
      whenFull: terms.whenFull,
      ...(terms.most === null ? {} : { maxConnections: terms.most }),
      ...(terms.tls ? { tls: tlsOf(terms), handshakeTimeoutMs: 3000 } : {}),
      ...(terms.proxied ? { proxyProtocol: { mode: "required", trusted: ["10.0.0.0/8"] } } : {}),
    };
    const life = world.life(host);
    world.task(host, "serve()", serve<Speaker | null>(options, this.#callbacks()), (server) => {
      if (world.life(host) !== life) return;
      this.#server = server;
      world.watchBase(host, server.base);
      if (world.isStopping) this.#closeServer(0);
    }, (error) => {
      if (codeOf(error) !== "EMFILE") world.blame(`serve() rejected: ${show(error)}`);
    });
  }

  #callbacks(): ServeCallbacks<Speaker | null> {
    const world = this.#world;
    const terms = this.#terms;
    const callbacks: ServeCallbacks<Speaker | null> = {
      open: (bev) => this.#open(bev),
      close: (bev, reason) => bev.context?.onClose(reason),
      error: (error, bev) => {
        if (bev?.context?.failing === error && error !== null) return;
        const code = codeOf(error);
        const expected = ["EMFILE", "ENOMEM", "EV_BACKLOG_FULL"].includes(code);
        if (!expected || bev !== null) world.blame(`error() of the server: ${show(error)}`);
      },
      reject: (address) => {
        const half = world.half(`refusal ${keyOf(address)}`, this.#host);
        half.drop("refusal");
        half.finished = true;
        world.meet(keyOf(address), half);
        if (terms.tls || terms.proxied || terms.layers.length > 0 || terms.format.kind === "frames") return undefined;
        const payload = Uint8Array.from("421 not now", (letter) => letter.charCodeAt(0));
        const wire = terms.format.wire(payload);
        half.say(wire, payload);
        return wire;
      },
    };
    if (terms.accepts) callbacks.accept = (): boolean => this.#dice.below(3) > 0;
    if (terms.lineCallback) callbacks.line = (bev, line) => bev.context?.onLine(line);
    else callbacks.read = (bev) => bev.context?.onRead();
    callbacks.write = (bev) => bev.context?.onWrite();
    if (terms.events) callbacks.event = (bev, what, error) => bev.context?.onEvent(what, error);
    return callbacks;
  }

  #open(bev: Bev): void | Promise<void> {
    const world = this.#world;
    const terms = this.#terms;
    const number = this.#count++;
    const seed = this.#seed + 104_729 * (number + 1);
    const dice = part(seed, 1);
    const manner = mannerFor(dice, terms, true);
    const name = `server ${this.#port}/${number}`;
    if (bev.remoteAddress === undefined) world.blame(`${name} has no remoteAddress`);
    if (terms.tls && bev.tls === undefined) world.blame(`${name} has no TLS in open()`);
    if (terms.most !== null && this.#server !== null && this.#server.connections > terms.most) {
      world.blame(`${this.#server.connections} connections, of at most ${terms.most}`);
    }
    const speaker = new Speaker(world, this.#host, name, terms.format, manner, seed, {
      owned: true,
      // A layer has callbacks of its own, and with them the events.
      events: terms.events || terms.layers.length > 0,
      lineCallback: terms.lineCallback,
      timeouts: terms.timeouts,
      counts: terms.layers.length === 0 && !terms.tls && !terms.proxied,
    });
    if (this.#life === world.life(this.#host)) speaker.group = this.#group;
    this.#speakers.push(speaker);
    world.note(`${name}: ${JSON.stringify(manner)}`);
    bev.context = speaker;
    world.meet(keyOf(bev.remoteAddress), speaker.half);
    const top = cover(bev, terms.layers, speaker);
    speaker.attach(top, bev);
    if (this.#group !== null && this.#life === world.life(this.#host) && dice.below(2) === 0) {
      bev.joinRateLimitGroup(this.#group);
    }
    const reading = speaker.open();
    return dice.below(2) === 0 ? reading : undefined;
  }

  /** A signal closes the server. */
  #signalServer(graceMs: number): void {
    const server = this.#server;
    if (server === null) return;
    const stop = stopOnSignals(server, { signals: ["SIGTERM"], graceMs });
    this.#world.note(`SIGTERM to server ${this.#port}`);
    this.#host.raise("SIGTERM");
    this.#world.later(this.#host, 0, () => this.#closeServer(graceMs));
    this.#world.later(this.#host, graceMs + 1, stop);
  }

  #closeServer(graceMs: number): void {
    const server = this.#server;
    if (server === null) return;
    this.#server = null;
    this.#world.note(`close of server ${this.#port}`);
    for (const speaker of this.#speakers) {
      if (speaker.over) continue;
      speaker.half.finished = true;
      if (this.#terms.layers.length > 0) speaker.half.cut ??= "server.close()";
    }
    this.#world.task(this.#host, `close of server ${this.#port}`, server.close({ graceMs }), () => {
      if (server.connections !== 0) this.#world.blame(`a closed server has ${server.connections} connections`);
      const { accepted, open, ended } = server.stats();
      const ends = Object.values(ended).reduce((sum, n) => sum + n, 0);
      if (open !== 0 || accepted !== ends) {
        this.#world.blame(`${accepted} were accepted, ${ends} have ended, ${open} are open`);
      }
      prometheus(server);
    });
  }

  onRestart(host: SimHost): void {
    this.#proxy?.onRestart(host);
    if (host === this.#host) {
      this.#server = null;
      this.#listen();
    }
    for (const client of this.#clients) client.onRestart(host);
  }

  calm(): void {
    if (this.#life === this.#world.life(this.#host)) this.#group?.setConfig(unlimited());
    for (const speaker of this.#speakers) speaker.calm();
    for (const client of this.#clients) client.calm();
  }

  check(): void {
    for (const client of this.#clients) client.check();
  }

  stop(): void {
    for (const client of this.#clients) client.stop();
    this.#proxy?.stop();
    this.#closeServer(5000);
    // What has a handler of its own is ended by it.
    for (const speaker of this.#speakers) if (!speaker.over) speaker.close(20_000);
  }

  checkStopped(): void {
    const group = this.#group;
    if (group !== null && this.#life === this.#world.life(this.#host)) {
      if (group.members !== 0) this.#world.blame(`${group.members} are members of a group at the end`);
      else group.free();
    }
    for (const speaker of this.#speakers) {
      speaker.checkReferences();
      if (!speaker.over && !speaker.half.crashed) this.#world.blame(`${speaker.half.name} got no close()`);
    }
    for (const client of this.#clients) client.checkStopped();
  }
}

function pathOf(port: number): string {
  return `/run/${port}.sock`;
}

/** The option `tls` of the server. */
function tlsOf({ sni }: Terms): TlsServeOptions {
  if (sni === null) return TLS;
  if (sni === "table") return { ...USUAL, sni: BY_NAME };
  return { ...USUAL, sni: (name) => BY_NAME[name.replace(/^a\./, "*.")] ?? null };
}

function chooseTerms(dice: Dice, format: Format, messages: number): Terms {
  const layers = chooseLayers(dice, 5);
  const limits: ConnectionOptions = {};
  const some = (oneIn: number): boolean => dice.below(oneIn) === 0;
  const readMs = some(6) ? dice.pick([300, 2500, 30_000]) : Infinity;
  const idleMs = some(6) ? dice.pick([400, 3000, 40_000]) : Infinity;
  const messageMs = some(8) ? dice.pick([200, 5000]) : Infinity;
  if (readMs !== Infinity) limits.readTimeoutMs = readMs;
  if (idleMs !== Infinity) limits.idleTimeoutMs = idleMs;
  if (messageMs !== Infinity) limits.messageTimeoutMs = messageMs;
  if (some(8)) limits.writeTimeoutMs = dice.pick([500, 5000]);
  if (some(6)) limits.stallTimeoutMs = dice.pick([300, 5000]);
  if (some(8)) limits.handlerTimeoutMs = dice.pick([50, 2000]);
  if (some(4)) limits.writeHigh = 500 + dice.below(20_000);
  if (some(6)) limits.readWhileFull = some(2);
  if (some(6)) limits.maxOutputBytes = 30_000 + dice.below(100_000);
  const lineCallback = format.kind === "lines" && layers.length === 0 && some(2);
  if (lineCallback) {
    limits.eol = format.eol;
    limits.maxLine = LONGEST;
  } else if (some(4)) {
    limits.readHigh = format.kind === "bytes"
      ? (layers.length > 0 ? 300 : 1) + dice.below(5000)
      : LONGEST + 200 + dice.below(5000);
  }
  if (some(3)) limits.keepAlive = { delayMs: 5000, intervalMs: 2000, count: 3 };
  // No address tells the clients of a path apart: they need a header.
  const unix = some(8);
  const proxied = some(8) || unix;
  const tls = some(5);
  return {
    format,
    layers,
    messages,
    tls,
    sni: tls && some(2) ? dice.pick(["table", "function"] as const) : null,
    unix,
    shared: some(4),
    proxied,
    lineCallback,
    events: some(2),
    keepAlive: limits.keepAlive !== undefined,
    limits,
    timeouts: { readMs, idleMs, messageMs },
    most: some(5) ? 1 + dice.below(2) : null,
    whenFull: dice.pick(["wait", "wait", "reject"] as const),
    accepts: some(10),
  };
}

/** A manner that the terms allow. */
function mannerFor(dice: Dice, { format, lineCallback, most, layers, messages }: Terms, isServer: boolean): Manner {
  let manner = chooseManner(dice, format);
  manner = { ...manner, messages: Math.min(manner.messages, messages) };
  if (isServer && lineCallback) manner = { ...manner, reading: "callbacks", partial: false };
  // A filter in the middle, or the limits of the next client, must not wait for who stays.
  if (most !== null && (manner.ending === "stay" || manner.writing === "answers")) {
    manner = { ...manner, ending: "close", writing: "script" };
  }
  if (layers.length > 0 && manner.writing === "web") manner = { ...manner, writing: "script" };
  return manner;
}

const CLIENTS = ["connect", "connect", "connectNow", "bare", "reconnect", "reconnect", "sockets"] as const;

/** A link that has been open so often is closed. */
const MOST_OPENS = 6;

/** One client of a service. */
class Client {
  readonly #world: World;
  readonly #host: SimHost;
  readonly #terms: Terms;
  readonly #seed: number;
  readonly #dice: Dice;
  readonly #kind: typeof CLIENTS[number];
  readonly #name: string;
  readonly #options: ConnectOptions;
  readonly #serverName: string;
  /** Whether a proxy may end the stream without a word. */
  readonly #middlebox: boolean;
  readonly #speakers: Speaker[] = [];
  #link: Link<Speaker | null> | null = null;
  readonly #halves: Half[] = [];
  #socket: { close(): Promise<void>; half: Half } | null = null;
  #abort: AbortController | null = null;
  #losses = 0;
  #begun = -1;

  constructor(
    world: World,
    host: SimHost,
    address: string,
    number: number,
    port: number,
    terms: Terms,
    seed: number,
    index: number,
    proxy: Proxy | null,
  ) {
    this.#world = world;
    this.#host = host;
    this.#terms = terms;
    this.#seed = seed;
    const dice = this.#dice = part(seed, 2);
    this.#serverName = terms.sni === null ? "localhost" : dice.pick(NAMES);
    const kind = dice.pick(CLIENTS);
    // A link has the same options for all its attempts, and here each connection needs a header of its own.
    this.#kind = terms.proxied && kind === "reconnect" ? "connect" : kind;
    this.#name = `${this.#kind} ${port}/${index}`;
    const hostname = dice.pick([`s${number}`, address]);
    const via = proxy !== null && this.#kind !== "sockets" && dice.below(2) === 0 ? proxy : null;
    // Without resets, the proxy can only end what it cuts.
    this.#middlebox = via?.host.capabilities.reset === false;
    this.#options = {
      ...(terms.unix ? { path: pathOf(port) } : { hostname, port }),
      ...(via === null ? {} : { via: via.url(dice) }),
      ...(dice.below(3) > 0 ? { timeoutMs: dice.pick([50, 1000, 5000, 20_000]) } : {}),
      ...(terms.tls ? { tls: { ca: CA, serverName: this.#serverName } } : {}),
    };
  }

  #connectOptions(): ConnectOptions {
    if (!this.#terms.proxied) return this.#options;
    const family = "IPv4" as const;
    const port = 1 + this.#dice.below(60_000);
    return {
      ...this.#options,
      proxyHeader: {
        version: this.#dice.pick([1, 2] as const),
        command: "PROXY",
        source: { hostname: `192.0.2.${this.#dice.below(250)}`, port, family },
        destination: { hostname: "198.51.100.1", port: 80, family },
        tlvs: [],
      },
    };
  }

  #key(options: ConnectOptions, bev: SocketBufferEvent<Speaker | null>): string {
    return keyOf(options.proxyHeader?.source ?? bev.localAddress);
  }

  #speaker(owned: boolean, defers: boolean = false): Speaker {
    const seed = this.#seed + 15_485_863 * (this.#speakers.length + 1);
    const manner = mannerFor(part(seed, 3), this.#terms, false);
    const name = `${this.#name}/${this.#speakers.length}`;
    const speaker = new Speaker(this.#world, this.#host, name, this.#terms.format, manner, seed, {
      owned,
      defers,
      events: this.#terms.events || this.#terms.layers.length > 0,
    });
    if (this.#middlebox) speaker.half.middlebox = true;
    this.#speakers.push(speaker);
    this.#world.note(`${name}: ${JSON.stringify(manner)}`);
    return speaker;
  }

  /** It is connected: the server must have shown the certificate for the name. */
  #checkName(): void {
    if (this.#serverName === NOBODY) this.#world.blame(`${this.#name}: open without a certificate for its name`);
  }

  /** Begins to connect. */
  begin(): void {
    const world = this.#world;
    if (world.isStopping) return;
    this.#begun = world.life(this.#host);
    const options = this.#connectOptions();
    const all: ConnectOptions & ConnectionOptions = { ...options, ...this.#limits(), base: world.base(this.#host) };
    if (this.#dice.below(8) === 0 && this.#kind !== "sockets") {
      const abort = new AbortController();
      all.signal = abort.signal;
      this.#abort = abort;
      world.later(this.#host, this.#dice.below(60), () => {
        world.note(`${this.#name} aborts`);
        abort.abort(new Error("enough"));
        if (this.#kind === "reconnect") this.#forgetLink();
      });
    }
    world.note(`${this.#name} begins`);
    switch (this.#kind) {
      case "connect": {
        const speaker = this.#speaker(true);
        const callbacks = this.#callbacks(options, () => speaker);
        world.task(this.#host, this.#name, connect<Speaker | null>(all, callbacks), undefined, (error) => {
          speaker.half.tell(codeOf(error));
          if (this.#abort?.signal.aborted === false && error === this.#abort.signal.reason) {
            world.blame("aborted too early");
          }
          this.#checkFailure(codeOf(error));
        });
        break;
      }
      case "connectNow": {
        const speaker = this.#speaker(true);
        const bev = connectNow<Speaker | null>(all, this.#callbacks(options, () => speaker));
        bev.context = speaker;
        break;
      }
      case "reconnect": {
        this.#losses = 0;
        this.#link = reconnect<Speaker | null>(
          {
            ...all,
            backoff: { initialMs: 20, maxMs: 500 },
            stableMs: this.#dice.pick([0, 300, 5000]),
            maxAttempts: this.#dice.pick([3, 6]),
          },
          {
            ...this.#callbacks(options, () => {
              if (this.#speakers.length >= MOST_OPENS) world.later(this.#host, 1, () => this.#closeLink());
              return this.#speaker(true);
            }),
            lost: (error, delayMs, attempt) => {
              world.note(`${this.#name} lost: ${error?.code}, again in ${delayMs}, ${attempt}`);
              if (attempt > this.#losses + 1) world.blame(`${this.#name}: attempt ${attempt} after ${this.#losses}`);
              this.#losses = attempt;
              if (!(delayMs >= 0)) world.blame(`${this.#name}: a delay of ${delayMs}`);
              if (this.#link?.connection != null) world.blame(`${this.#name}: lost with a connection`);
            },
          },
        );
        break;
      }
      case "sockets":
        this.#sockets(options);
        break;
      case "bare":
        this.#bare(options);
    }
  }

  #limits(): ConnectionOptions {
    const dice = this.#dice;
    return {
      ...(dice.below(4) === 0 ? { writeHigh: 1000 + dice.below(5000) } : {}),
      ...(this.#terms.keepAlive ? { keepAlive: { delayMs: 5000, intervalMs: 2000, count: 3 } } : {}),
    };
  }

  #callbacks(options: ConnectOptions, speakerOf: () => Speaker): ConnectionCallbacks<Speaker | null> {
    const terms = this.#terms;
    const callbacks: ConnectionCallbacks<Speaker | null> = {
      open: (bev) => {
        const speaker = speakerOf();
        this.#checkName();
        bev.context = speaker;
        this.#world.meet(this.#key(options, bev), speaker.half);
        speaker.attach(cover(bev, terms.layers, speaker), bev);
        if (this.#dice.below(6) === 0 && terms.format.kind === "bytes" && terms.layers.length === 0) {
          heartbeat(bev, { everyMs: 300, timeoutMs: this.#dice.pick([900, 1_000_000]), send: () => speaker.ping() });
        }
        const reading = speaker.open();
        return this.#dice.below(2) === 0 ? reading : undefined;
      },
      read: (bev) => bev.context?.onRead(),
      write: (bev) => bev.context?.onWrite(),
      close: (bev, reason) => {
        const speaker = bev.context;
        if (speaker instanceof Speaker && speaker.attached) return speaker.onClose(reason);
        speaker?.half.tell(reason?.code);
        if (reason === undefined) this.#world.blame(`${this.#name}: an attempt ended without a reason`);
        else this.#checkFailure(reason.code);
      },
      error: (error, bev) => {
        if (bev?.context?.failing !== error) this.#world.blame(`error() of ${this.#name}: ${show(error)}`);
      },
    };
    if (terms.events) callbacks.event = (bev, what, error) => bev.context?.onEvent(what, error);
    return callbacks;
  }

  #bare(options: ConnectOptions): void {
    const world = this.#world;
    const defers = this.#dice.below(2) === 0;
    const speaker = this.#speaker(false, defers);
    const flags = BEV_OPT_CLOSE_ON_FREE | (defers ? BEV_OPT_DEFER_CALLBACKS : 0);
    const bev = new SocketBufferEvent<Speaker | null>(world.base(this.#host), null, flags);
    bev.context = speaker;
    speaker.attach(bev);
    let connected = false;
    bev.setCallbacks({
      read: () => void speaker.onRead(),
      write: () => speaker.onWrite(),
      event: (_bev, what, error) => {
        if (!connected && (what & BEV_EVENT_CONNECTED) !== 0) {
          connected = true;
          this.#checkName();
          world.meet(this.#key(options, bev), speaker.half);
          const top: BufferEvent = cover(bev, this.#terms.layers, speaker);
          speaker.attach(top, bev);
          if (top === bev) bev.setCallbacks(speaker.callbacks());
          void speaker.open();
          return;
        }
        if (!connected) this.#checkFailure(error?.code ?? "none");
        speaker.onEvent(what, error);
      },
    });
    bev.connect(options);
    if (this.#dice.below(10) === 0) world.later(this.#host, this.#dice.below(5), () => speaker.free());
  }

  /** A client with the streams of the Sockets API. */
  #sockets(options: ConnectOptions): void {
    const world = this.#world;
    const { terms, host } = { terms: this.#terms, host: this.#host };
    // It knows neither headers nor layers.
    if (terms.proxied || terms.layers.length > 0 || terms.format.kind !== "bytes") return;
    if (this.#serverName === NOBODY) return;
    const dice = this.#dice;
    const half = world.half(`${this.#name}/0`, host);
    this.#halves.push(half);
    const socket = connectSocket({ hostname: options.hostname as string, port: options.port as number }, {
      base: world.base(host),
      secureTransport: terms.tls ? "on" : "off",
      allowHalfOpen: dice.below(2) === 0,
      ...(terms.tls ? { tls: { ca: CA, serverName: this.#serverName } } : {}),
      ...(dice.below(3) === 0 ? { highWaterMark: 1 + dice.below(5000) } : {}),
      ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
    });
    const name = half.name;
    const failed = (error: unknown): void => half.tell(codeOf(error));
    world.task(host, `${name} opened`, socket.opened, ({ localAddress }) => {
      world.meet(localAddress ?? "none", half);
    }, failed);
    world.task(host, `${name} closed`, socket.closed, undefined, failed);
    const writer = socket.writable.getWriter();
    writer.closed.catch(() => {});
    world.task(
      host,
      `${name} writing`,
      (async (): Promise<void> => {
        for (let i = Math.min(dice.below(6), terms.messages); i > 0; i--) {
          const bytes = terms.format.payload(dice, dice.below(5000));
          half.say(bytes);
          await writer.write(bytes);
          if (dice.below(2) === 0) await sleep(dice.below(30), { base: world.base(host) });
        }
        half.finished = true;
        world.note(`${name} writer.close()`);
        await writer.close();
      })(),
      undefined,
      () => half.cut ??= "failed writer",
    );
    world.task(
      host,
      `${name} reading`,
      (async (): Promise<void> => {
        const reader = socket.readable.getReader();
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          half.hear(value);
        }
        if (half.deaf === null) half.end();
        // Without half-open, the end of the peer is the end of both.
        half.cut ??= "end of the peer";
        world.note(`${name} has read to the end`);
        world.task(host, `${name} close()`, socket.close());
      })(),
      undefined,
      failed,
    );
    this.#socket = { close: () => socket.close(), half };
  }

  /** Connecting has failed: somebody must be to blame. */
  #checkFailure(code: string): void {
    this.#world.note(`${this.#name} failed: ${code}`);
    if (code === "EV_HANDLER_FAILED") this.#world.blame(`a handler of ${this.#name} failed`);
    if (code === "ERR_TLS_CERT" && this.#serverName !== NOBODY) {
      this.#world.blame(`${this.#name}: no certificate for ${this.#serverName}`);
    }
  }

  onRestart(host: SimHost): void {
    if (host !== this.#host || this.#begun < 0) return;
    this.#link = null;
    this.#world.later(host, 5, () => this.begin());
  }

  calm(): void {
    for (const speaker of this.#speakers) speaker.calm();
  }

  /** Whoever was connected was served, or was told. */
  check(): void {
    const { breaking, middlebox } = this.#world;
    if (breaking || middlebox) return;
    for (const speaker of this.#speakers) {
      const { half, over } = speaker;
      if (half.peer === null && half.told === null && half.deaf === null && !half.heardEnd && !over) {
        this.#world.blame(`${half.name} was never served`);
      }
    }
  }

  stop(): void {
    this.#closeLink();
    const socket = this.#socket;
    if (socket !== null && socket.half.deaf === null) {
      socket.half.deaf = "close()";
      socket.half.finished = true;
      socket.half.cut ??= "close()";
      this.#world.task(this.#host, `${this.#name} close()`, socket.close(), undefined, () => {});
    }
    for (const speaker of this.#speakers) {
      if (!speaker.over && speaker.attached) speaker.close(20_000);
    }
  }

  #closeLink(): void {
    const link = this.#link;
    if (link === null) return;
    this.#forgetLink();
    this.#world.note(`${this.#name} link.close()`);
    this.#world.task(this.#host, `${this.#name} link.close()`, link.close({ graceMs: 20_000 }), () => {
      if (link.state !== "closed" || link.connection !== null) this.#world.blame(`${this.#name}: a closed link lives`);
    });
  }

  /** The link is being closed, and with it its connection. */
  #forgetLink(): void {
    this.#link = null;
    for (const speaker of this.#speakers) {
      if (speaker.over) continue;
      speaker.half.finished = true;
      speaker.half.deaf ??= "link.close()";
      if (this.#terms.layers.length === 0) continue;
      // What is written to a layer from now on is lost; its program is told.
      speaker.closedBelow = true;
      speaker.half.cut ??= "link.close()";
    }
  }

  checkStopped(): void {
    for (const speaker of this.#speakers) {
      speaker.checkReferences();
      const { half } = speaker;
      if (speaker.attached && !speaker.over && !half.crashed) this.#world.blame(`${half.name} did not end`);
    }
  }
}
