// One end of a connection: says messages and hears those of its peer, in one of many manners, and checks that it is called
// as the rules say.

import {
  BEV_EVENT_CONNECTED,
  BEV_EVENT_EOF,
  BEV_EVENT_ERROR,
  BEV_EVENT_READING,
  BEV_EVENT_TIMEOUT,
  BEV_FLUSH,
  type BufferEvent,
  type BufferEventCallbacks,
  EV_READ,
  EV_WRITE,
  EvBuffer,
  type EventError,
  FileSegment,
  FilterBufferEvent,
  type RateLimitGroup,
  setDefaultRuntime,
  sleep,
  SocketBufferEvent,
  TokenBucketConfig,
} from "../../core/mod.ts";
import type { SimHost } from "../../runtimes/sim.ts";
import type { Dice } from "../tools/dice.mjs";
import type { Format } from "./formats.ts";
import type { Half } from "./halves.ts";
import { codeOf, part, show, type World } from "./world.ts";

/** How a speaker behaves. */
export interface Manner {
  readonly reading: "callbacks" | "chunks" | "messages" | "batches" | "web";
  readonly writing: "script" | "polite" | "web" | "answers";
  readonly messages: number;
  readonly everyMs: number;
  readonly maxSize: number;
  ending: "shutdown" | "close" | "free" | "reset" | "stay";
  /** Whether a read callback sometimes takes a part only. */
  readonly partial: boolean;
  /** How many things it changes while it goes on: watermarks, limits, what is enabled. */
  readonly fidgets: number;
  /** How long it thinks about each thing that it hears in a view. */
  readonly thinkMs: number;
  /** Whether one of its callbacks throws. */
  readonly fails: boolean;
  /** After how many items it leaves its view, and goes on with callbacks. */
  readonly leaveAfter: number;
}

/** Chooses a manner. */
export function chooseManner(dice: Dice, format: Format): Manner {
  const reading = dice.pick(
    format.kind === "bytes"
      ? ["callbacks", "callbacks", "callbacks", "chunks", "web"] as const
      : ["callbacks", "messages", "messages", "batches", "web"] as const,
  );
  const writing = dice.pick(["script", "script", "script", "polite", "web", "answers"] as const);
  return {
    reading,
    writing,
    messages: dice.below(8) === 0 ? dice.below(40) : dice.below(6),
    everyMs: dice.pick([0, 1, 10, 100]),
    maxSize: dice.pick([5, 60, 600, 3000, 3000, 20_000, 60_000]),
    ending: dice.pick(["shutdown", "shutdown", "shutdown", "close", "close", "free", "reset", "stay"] as const),
    partial: dice.below(4) === 0,
    fidgets: dice.below(3) === 0 ? dice.below(6) : 0,
    thinkMs: dice.pick([0, 0, 0, 0.5, 20]),
    fails: dice.below(25) === 0,
    leaveAfter: dice.below(5) === 0 ? dice.below(4) : Infinity,
  };
}

const MOST_ANSWERS = 30;

/** The timeouts that a connection has; Infinity for none. */
export interface Timeouts {
  readonly readMs: number;
  readonly idleMs: number;
  readonly messageMs: number;
}

const NO_TIMEOUTS: Timeouts = { readMs: Infinity, idleMs: Infinity, messageMs: Infinity };

/** What a speaker's connection is. */
export interface Standing {
  /** Whether `serve()`, `connect()` or `reconnect()` owns the connection, so that it ends by itself. */
  readonly owned: boolean;
  /** Whether the program gets the events, and has to end the connection. */
  readonly events: boolean;
  /** Whether it gets lines by the callback of `serve()`. */
  readonly lineCallback?: boolean;
  readonly timeouts?: Timeouts;
  /** Whether the bufferevent counts what the speaker says and hears, and nothing else. */
  readonly counts?: boolean;
  /** Whether its callbacks are deferred, so that something may have happened since they were due. */
  readonly defers?: boolean;
}

/** One end of a connection. */
export class Speaker {
  readonly world: World;
  readonly host: SimHost;
  readonly half: Half;
  readonly format: Format;
  readonly manner: Manner;
  readonly owned: boolean;
  readonly events: boolean;
  readonly lineCallback: boolean;
  readonly counts: boolean;
  readonly defers: boolean;
  readonly timeouts: Timeouts;
  /** Whether the connection is being closed below the layers that it knows. */
  closedBelow = false;
  group: RateLimitGroup | null = null;
  /** What one of its callbacks has thrown on purpose. */
  failing: Error | null = null;
  /** Called once, when the connection is over for this end. */
  onOver: (() => void) | null = null;
  readonly #dice: Dice;
  #bev: BufferEvent | null = null;
  /** The connection below the layers. */
  #root: BufferEvent | null = null;
  /** How many messages are to be said. */
  #left: number;
  #over = false;
  #finished = false;
  #opened = false;
  #viewing = false;
  #thinking = false;
  #lastHeard = 0;
  /** How many bytes its last read callback has left. */
  #unread = 0;
  /** Whether it enables reading while it goes on. */
  #enables = false;
  #references = 0;
  #answers = 0;
  /** Whether it waits for its output to drain. */
  #drains = false;

  constructor(
    world: World,
    host: SimHost,
    name: string,
    format: Format,
    manner: Manner,
    seed: number,
    { owned, events, lineCallback = false, timeouts = NO_TIMEOUTS, counts = false, defers = false }: Standing,
  ) {
    this.world = world;
    this.host = host;
    this.half = world.half(name, host);
    this.format = format;
    this.manner = manner;
    this.owned = owned;
    this.events = events;
    this.lineCallback = lineCallback;
    this.counts = counts;
    this.defers = defers;
    this.timeouts = timeouts;
    this.#dice = part(seed, 77);
    this.#left = manner.writing === "answers" ? 0 : manner.messages;
    world.speakers.push(this);
  }

  get bev(): BufferEvent {
    return this.#bev as BufferEvent;
  }

  get attached(): boolean {
    return this.#bev !== null;
  }

  get over(): boolean {
    return this.#over;
  }

  /** Whether it still has to say something. */
  get #saying(): boolean {
    return this.#left > 0;
  }

  #note(text: string): void {
    this.world.note(`${this.half.name} ${text}`);
  }

  #blame(problem: string): void {
    this.world.blame(`${this.half.name}: ${problem}`);
  }

  // ---- what is called

  /** The callbacks of a bufferevent that nobody owns. */
  callbacks(): BufferEventCallbacks<BufferEvent> {
    return {
      read: () => this.onRead(),
      write: () => this.onWrite(),
      event: (_bev, what, error) => this.onEvent(what, error),
    };
  }

  /** The bufferevent is there, but need not be connected. */
  attach(bev: BufferEvent, root: BufferEvent = bev): void {
    this.#bev = bev;
    this.#root = root;
    this.#lastHeard = this.host.now();
  }

  /** The connection is there. @returns A promise for a handler that reads by itself */
  open(): Promise<void> | undefined {
    if (this.#opened) this.#blame("opened twice");
    if (this.#over) this.#blame("opened after its end");
    this.#opened = true;
    this.#lastHeard = this.host.now();
    this.#note("open");
    const { manner, bev, format } = this;
    if (manner.writing === "web") this.#writeWeb();
    else if (manner.writing === "polite") {
      this.world.task(this.host, `${this.half.name} writing`, this.#writePolitely());
    } else this.#script();
    if (format.kind === "bytes" && manner.writing === "script" && this.#dice.below(6) === 0) this.#sendFile();
    for (let i = 0; i < manner.fidgets; i++) this.world.later(this.host, this.#dice.below(1500), () => this.#fidget());
    if (this.#over || this.half.deaf !== null) return undefined;
    // The end of a connection that came open with its end may be pending.
    if (this.defers && (bev.enabled & EV_READ) === 0) this.#enables = true;
    if (manner.reading === "callbacks") {
      if (!this.owned || !(bev instanceof SocketBufferEvent)) bev.enable(EV_READ);
      return undefined;
    }
    // So that the callbacks go on when it leaves its view.
    if (!(bev instanceof SocketBufferEvent)) bev.enable(EV_READ);
    const reading = manner.reading === "web" ? this.#readWeb() : this.#readView();
    this.world.task(this.host, `${this.half.name} reading`, reading);
    return reading;
  }

  onRead(): void | Promise<void> {
    this.#called("read");
    void this.#checkView("read");
    if (this.#thinking) this.#blame("read() while its promise is pending");
    const { bev } = this;
    if (this.half.heardEnd) this.#blame("read() after the end");
    if (bev.input.length === 0) return;
    // A call that was triggered tells of nothing new.
    if (bev.input.length > this.#unread) this.#lastHeard = this.host.now();
    const part = this.manner.partial && !this.world.isCalm && this.#dice.below(2) === 0;
    this.#take(part ? 1 + this.#dice.below(bev.input.length) : bev.input.length);
    this.#unread = bev.input.length;
    this.#answer();
    this.#checkSums();
    if (this.owned && this.manner.fails && bev instanceof SocketBufferEvent && this.#dice.below(2) === 0) this.#fail();
    if (!this.owned || this.manner.thinkMs === 0 || this.#dice.below(3) > 0) return;
    return this.#think();
  }

  /** Fails: the connection is cut, and the others go on. */
  #fail(): never {
    this.#note("fails");
    this.#left = 0;
    this.#finished = true;
    this.half.drop("failing callback");
    this.failing = new Error("on purpose");
    throw this.failing;
  }

  /** Says something when a heartbeat asks for it. */
  ping(): void {
    // At the end all that was said must have arrived.
    if (!this.#finished && !this.#over && this.half.deaf === null && !this.world.isCalm) this.#say();
  }

  /** The counters of the connection are what it has heard and said. */
  #checkSums(): void {
    const { bev } = this;
    if (!(bev instanceof SocketBufferEvent) || !this.counts || this.half.torn) return;
    const { bytesRead, bytesWritten, input, output } = bev;
    if (bytesRead !== this.half.heard + input.length) {
      this.#blame(`bytesRead is ${bytesRead}, and ${this.half.heard} were heard and ${input.length} wait`);
    }
    if (bytesWritten + output.length > this.half.saidLength) {
      this.#blame(`bytesWritten is ${bytesWritten}, ${output.length} wait, and ${this.half.saidLength} were said`);
    }
  }

  async #think(): Promise<void> {
    this.#thinking = true;
    await sleep(this.manner.thinkMs, { base: this.bev.base });
    this.#thinking = false;
  }

  /** A line of `serve()`. */
  onLine(line: Uint8Array): void | Promise<void> {
    this.#called("line");
    if (this.#thinking) this.#blame("line() while its promise is pending");
    this.#lastHeard = this.host.now();
    this.half.hearMessage(line);
    this.#answer();
    if (this.manner.thinkMs === 0 || this.#dice.below(3) > 0) return;
    return this.#think();
  }

  onWrite(): void {
    this.#called("write");
    const { bev } = this;
    const { low } = bev.getWatermark(EV_WRITE);
    if (bev.output.length > low && !this.defers) {
      this.#blame(`write() with ${bev.output.length} bytes of output above ${low}`);
    }
  }

  onEvent(what: number, error: EventError | undefined): void {
    this.#called("event");
    this.#note(`event ${what.toString(16)} ${error?.code ?? ""}`);
    if ((what & BEV_EVENT_CONNECTED) !== 0) return;
    void this.#checkView("event");
    if ((what & BEV_EVENT_EOF) !== 0) {
      this.#take(this.bev.input.length);
      // Enabling reading reports the end again.
      if (!this.half.heardEnd || !this.#enables) this.half.end();
      if (error !== undefined) this.half.tell(error.code);
      this.#settle();
      return;
    }
    if ((what & BEV_EVENT_TIMEOUT) !== 0) this.#checkTimeout(what);
    if ((what & (BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)) === 0) this.#blame(`event ${what}`);
    if (error === undefined && (what & BEV_EVENT_ERROR) !== 0) this.#blame("an error without a reason");
    if (error?.code === "ENOBUFS") return;
    this.half.tell(error?.code ?? "ETIMEDOUT");
    this.free();
  }

  /** The `close` callback. */
  onClose(reason: EventError | undefined): void {
    if (this.#over && this.half.deaf === null) this.#blame("close() twice");
    this.#note(`close ${reason?.code ?? ""}`);
    if (reason !== undefined) {
      if (reason.code === "EV_HANDLER_FAILED" && reason.cause !== (this.failing ?? undefined)) {
        this.#blame(`its handler failed: ${show(reason.cause)}`);
      }
      if (reason.code === "ECANCELED") this.half.drop("server.close()");
      this.half.tell(reason.code);
    } else if (this.half.deaf === null && !this.half.heardEnd) {
      // What a program has left in the input, or below its low watermark, it does not hear.
      const { reading, partial, fidgets } = this.manner;
      this.half.end(reading === "callbacks" && !partial && fidgets === 0);
    }
    this.half.finished = true;
    this.half.deaf ??= "close";
    this.#end();
  }

  #called(name: string): void {
    if (!this.#opened && name !== "event") this.#blame(`${name}() before it is open`);
    if (this.#over) this.#blame(`${name}() after its end`);
    else if (this.half.deaf !== null && !this.closedBelow) this.#blame(`${name}() after its ${this.half.deaf}`);
  }

  /** A view that is over says so by a promise, so the program may hear of it a little later than a callback is called. */
  async #checkView(name: string): Promise<void> {
    // These look ahead: at the end of the stream they have ended the view, and the program hears of it with its next read.
    if (this.manner.reading === "batches" || this.manner.reading === "web") return;
    for (let i = 0; i < 10 && this.#viewing; i++) await undefined;
    if (this.#viewing) this.#blame(`${name}() while a view is open`);
  }

  #checkTimeout(what: number): void {
    const { readMs, idleMs, messageMs } = this.timeouts;
    if ((what & BEV_EVENT_READING) === 0 || messageMs !== Infinity) return;
    const silentMs = this.host.now() - this.#lastHeard;
    const least = Math.min(readMs, idleMs);
    // It may have arrived while the program thought, or its timer was late.
    const slackMs = 1.001 + this.manner.thinkMs + this.world.plan.rates.timerLateMs;
    if (least !== Infinity && silentMs < least - slackMs) this.#blame(`a timeout of ${least} ms after ${silentMs} ms`);
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.onOver?.();
  }

  /** Takes bytes from the front of the input. */
  #take(length: number): void {
    const { input } = this.bev;
    if (length === 0) return;
    const into = new Uint8Array(length);
    const n = this.bev.read(into);
    if (n !== length) this.#blame(`read ${n} of ${length} bytes`);
    this.half.hear(into);
    // Only from a socket: a pair and a filter bring more in the same call.
    if (input.length > 0 && this.world.isCalm && this.bev instanceof SocketBufferEvent) {
      this.#blame("read() has left bytes");
    }
  }

  // ---- what it says

  #script(): void {
    if (this.#over || this.#finished) return;
    if (!this.#saying) return this.#said();
    this.#left--;
    this.#say();
    const { everyMs } = this.manner;
    if (everyMs === 0 && this.#dice.below(4) > 0) this.#script();
    else this.world.later(this.host, everyMs === 0 ? 0 : this.#dice.below(everyMs * 2), () => this.#script());
  }

  #message(): { payload: Uint8Array; wire: Uint8Array } {
    const payload = this.format.payload(this.#dice, this.#dice.below(this.manner.maxSize));
    return { payload, wire: this.format.wire(payload) };
  }

  /** Says a message. @returns What write() gives */
  #say(): boolean {
    const { bev, format } = this;
    const { payload, wire } = this.#message();
    const full = bev.output.length >= bev.maxOutputBytes;
    const queued = bev.output.length;
    const before = this.half.saidLength;
    // Noted first: on a pair the bytes are there at once.
    this.half.say(wire, payload);
    let goesOn = true;
    try {
      switch (this.#dice.below(6)) {
        case 0: {
          const buffer = new EvBuffer();
          buffer.add(wire);
          goesOn = bev.writeBuffer(buffer);
          break;
        }
        case 1:
          if (format.codec !== null) goesOn = bev.writeFrame(format.codec, payload);
          else goesOn = bev.write(wire);
          break;
        case 2:
          if (full || this.half.deaf !== null || (this.owned && bev.signal.aborted)) {
            goesOn = false;
            break;
          }
          this.#references++;
          bev.output.addReference(wire, () => void this.#references--);
          break;
        default:
          goesOn = bev.write(wire);
      }
      const closed = this.owned && !goesOn && this.#root?.signal.aborted === true && bev.output.length === queued;
      if (closed || (!goesOn && (full || this.#over))) this.half.unsay(before);
    } catch (error) {
      this.half.unsay(before);
      const code = codeOf(error);
      if (code !== "EV_FREED" && code !== "EPIPE" && !(this.half.told !== null || this.owned)) {
        this.#blame(`write() threw ${show(error)}`);
      }
      if (!this.#over && !this.owned && this.half.deaf === null) this.#blame(`write() threw ${show(error)}`);
      goesOn = false;
    }
    this.#note(`says ${this.half.saidLength - before}`);
    return goesOn;
  }

  /** Sends a part of a file, which may fail or be shorter than it was. */
  #sendFile(): void {
    const { host, world } = this;
    const path = "/tmp/data";
    const bytes = this.#dice.bytes(3000);
    host.files.set(path, bytes);
    const fault = this.#dice.below(4);
    host.fileFaults.delete(path);
    if (fault === 0) host.fileFaults.set(path, { error: "EIO" });
    if (fault === 1) host.fileFaults.set(path, { maxBytes: 700 });
    const offset = this.#dice.below(500);
    setDefaultRuntime(host);
    world.task(host, `${this.half.name} file`, FileSegment.open(path, offset, 1000), (segment) => {
      const expected = fault === 1 ? 700 - offset : 1000;
      if (fault === 0 || segment.length !== Math.max(0, expected)) this.#blame(`a segment of ${segment.length} bytes`);
      if (!this.#over && !this.#finished && this.half.deaf === null && !(this.owned && this.bev.signal.aborted)) {
        const before = this.half.saidLength;
        this.half.say(bytes.subarray(offset, offset + segment.length));
        try {
          this.bev.output.addFileSegment(segment);
        } catch (error) {
          this.half.unsay(before);
          this.#blame(`addFileSegment() threw ${show(error)}`);
        }
      }
      segment.free();
    }, (error) => {
      if (fault > 1 || (fault === 0 && codeOf(error) !== "EIO")) this.#blame(`opening a file: ${show(error)}`);
    });
  }

  /** Answers what it has heard, but not for ever: the peer may answer the answers. */
  #answer(): void {
    if (this.manner.writing !== "answers" || this.#finished || this.#over || this.#answers++ >= MOST_ANSWERS) return;
    this.#say();
  }

  async #writePolitely(): Promise<void> {
    const { bev } = this;
    while (this.#saying && !this.#over && !this.#finished) {
      this.#left--;
      if (!this.#say() && !this.#over) {
        try {
          this.#drains = true;
          await bev.drained();
          this.#drains = false;
        } catch {
          // The connection is over; who reads, or the callbacks, will say why.
          return;
        }
      }
      if (this.manner.everyMs > 0) await sleep(this.#dice.below(this.manner.everyMs), { base: bev.base });
    }
    if (!this.#over) this.#said();
  }

  #writeWeb(): void {
    const { bev } = this;
    const writer = bev.writable.getWriter();
    const { host, world } = this;
    world.task(host, `${this.half.name} writer.closed`, writer.closed, undefined, () => {});
    world.task(
      host,
      `${this.half.name} web writing`,
      (async (): Promise<void> => {
        while (this.#saying && !this.#over && !this.#finished) {
          this.#left--;
          const { payload, wire } = this.#message();
          this.half.say(wire, payload);
          await writer.write(wire);
          if (this.manner.everyMs > 0) await sleep(this.#dice.below(this.manner.everyMs), { base: bev.base });
        }
        const { ending } = this.manner;
        if (ending === "shutdown" || ending === "close") {
          if (this.#over || this.half.deaf !== null) return;
          this.#finished = this.half.finished = true;
          this.#note("writer.close()");
          await writer.close();
          this.#settle();
        } else if (ending === "free" || ending === "reset") {
          if (this.#over) return;
          this.#finished = true;
          // A stream that has failed ends nothing; the event callback follows.
          if (writer.desiredSize === null) return;
          this.#note("writer.abort()");
          // Streams abort when what is under way has settled; until then everything goes on.
          this.half.cut ??= "abort";
          await writer.abort(new Error("enough"));
          this.half.deaf ??= "abort";
          if (!this.owned) this.#end();
        } else this.#settle();
      })(),
      undefined,
      () => {
        // The connection is over. What was not sent was not promised.
        this.#finished = true;
        this.#left = 0;
        this.half.cut ??= "failed writer";
        if (!this.#over) this.#settle();
      },
    );
  }

  /** It has said all. */
  #said(): void {
    const { ending } = this.manner;
    if (this.manner.writing === "answers" && !this.half.heardEnd && ending !== "stay") {
      // Its answers follow as long as there are questions.
      if (ending === "shutdown" || ending === "close") return;
    }
    this.#note(`said all: ${ending}`);
    if (ending === "shutdown" || ending === "close") this.#sayLastLine();
    if (ending === "shutdown") this.shutdown();
    else if (ending === "close") this.close();
    else if (ending === "free") this.free();
    else if (ending === "reset") this.reset();
    this.#settle();
  }

  /** The last line needs no terminator. */
  #sayLastLine(): void {
    if (this.format.kind !== "lines" || this.#over || this.#finished || this.half.deaf !== null) return;
    if (this.bev.output.length >= this.bev.maxOutputBytes || this.#dice.below(3) > 0) return;
    if (this.owned && this.bev.signal.aborted) return;
    const payload = this.format.payload(this.#dice, 1 + this.#dice.below(50));
    const before = this.half.saidLength;
    this.half.say(payload, payload);
    try {
      this.bev.write(payload);
    } catch (error) {
      this.half.unsay(before);
      if (this.half.told === null) this.#blame(`write() threw ${show(error)}`);
    }
  }

  /** When the peer has ended and all was said, the connection ends. */
  #settle(): void {
    if (!this.half.heardEnd || this.#saying || this.#over || this.half.deaf !== null) return;
    // A writer ends it by itself.
    if (this.manner.writing === "web" && !this.#finished && this.manner.ending !== "stay") return;
    // By callbacks the end of the peer ends it; who reads in another way has to finish, unless its handler ends with that.
    if (this.owned && !this.events && this.manner.reading === "callbacks") this.#finished = true;
    else if (this.owned && !this.events) this.shutdown();
    else this.close();
  }

  // ---- how it ends

  shutdown(): void {
    if (this.#over || this.#finished || this.half.deaf !== null) return;
    this.#finished = this.half.finished = true;
    this.#note("shutdown()");
    try {
      this.bev.shutdown();
    } catch (error) {
      if (!this.owned) this.#blame(`shutdown() threw ${show(error)}`);
    }
  }

  close(timeoutMs: number = 60_000): void {
    if (this.half.deaf !== null) return;
    this.#note("close()");
    this.#left = 0;
    this.#finished = this.half.finished = true;
    this.half.deaf = "close()";
    const closing = this.bev.close({ timeoutMs });
    this.world.task(this.host, `${this.half.name} close()`, closing, (whole) => {
      this.#note(`closed ${whole}`);
      if (!whole) this.half.cut ??= "close() in vain";
      if (!this.owned) this.#end();
    });
  }

  free(): void {
    if (this.half.cut !== null && this.#over) return;
    this.#note("free()");
    this.#left = 0;
    this.#finished = true;
    this.half.drop("free()");
    this.bev.free();
    if (!this.owned) this.#end();
  }

  reset(): void {
    const { bev } = this;
    if (this.#over) return;
    if (!(bev instanceof SocketBufferEvent)) return this.free();
    this.#note("reset()");
    this.#left = 0;
    this.#finished = true;
    this.half.drop("reset()");
    bev.reset();
    if (!this.owned) this.#end();
  }

  // ---- how it hears by views

  async #readView(): Promise<void> {
    const { bev, manner, format } = this;
    const view = manner.reading === "chunks" || format.kind === "bytes"
      ? bev[Symbol.asyncIterator]()
      : format.kind === "lines"
      ? bev.lines({ eol: format.eol })
      : bev.frames(format.codec as NonNullable<Format["codec"]>);
    let items = 0;
    const hear = (item: Uint8Array): void => {
      items++;
      this.#heardNow();
      if (manner.reading === "chunks" || format.kind === "bytes") this.half.hear(item);
      else this.half.hearMessage(item);
      this.#answer();
    };
    this.#viewing = true;
    let left = false;
    try {
      if (manner.reading === "batches") {
        for await (const batch of view.batches()) {
          for (const item of batch) hear(item);
          if (this.#thinks) await sleep(manner.thinkMs, { base: bev.base });
        }
      } else {
        for await (const item of view) {
          hear(item);
          if (this.#thinks) await sleep(manner.thinkMs, { base: bev.base });
          if (items > manner.leaveAfter && this.half.deaf === null) {
            left = true;
            this.#viewing = false;
            this.#note("leaves its view");
            break;
          }
        }
      }
    } catch (error) {
      this.#viewing = false;
      return this.#viewFailed(error);
    }
    this.#viewing = false;
    if (left || this.#over || this.half.deaf !== null) return;
    this.#note("view has ended");
    this.#viewEnded();
    this.#settle();
  }

  /** Whether it thinks about what it has heard. At the end there is no time for it. */
  get #thinks(): boolean {
    return this.manner.thinkMs > 0 && !this.world.isCalm;
  }

  /** Of a view: who thinks hears later than it has arrived. */
  #heardNow(): void {
    if (this.manner.thinkMs === 0) this.#lastHeard = this.host.now();
  }

  #viewFailed(error: unknown): void {
    const code = codeOf(error);
    this.#note(`view failed: ${code}`);
    if (this.half.deaf !== null) return;
    this.half.tell(code);
    if (!this.#over && (!this.owned || this.events)) this.free();
  }

  async #readWeb(): Promise<void> {
    const reader = this.bev.readable.getReader();
    reader.closed.catch(() => {});
    this.#viewing = true;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        this.#heardNow();
        this.half.hear(value);
        this.#answer();
        if (this.#thinks) await sleep(this.manner.thinkMs, { base: this.bev.base });
      }
    } catch (error) {
      this.#viewing = false;
      return this.#viewFailed(error);
    }
    this.#viewing = false;
    if (this.#over || this.half.deaf !== null) return;
    this.#note("readable has ended");
    this.#viewEnded();
    this.#settle();
  }

  /** The program hears of the end. A view that looks ahead had met it before, and then enabling reading reports it, too. */
  #viewEnded(): void {
    if (!this.half.heardEnd || !this.#enables) this.half.end(true);
  }

  // ---- what it changes on the way

  #fidget(): void {
    const { bev } = this;
    if (this.#over || this.half.deaf !== null || this.world.isCalm) return;
    const dice = this.#dice;
    const onSocket = !(bev instanceof FilterBufferEvent);
    const what = dice.below(11);
    this.#note(`fidget ${what}`);
    try {
      switch (what) {
        case 0:
          if (this.#viewing) break;
          bev.disable(EV_READ);
          this.#enables = true;
          this.world.later(this.host, dice.below(300), () => {
            if (this.#over || this.half.deaf !== null || this.half.told !== null || this.half.heardEnd) return;
            bev.enable(EV_READ);
          });
          break;
        case 1:
          bev.disable(EV_WRITE);
          this.world.later(this.host, dice.below(300), () => {
            if (!this.#over && this.half.deaf === null && this.half.told === null) bev.enable(EV_WRITE);
          });
          break;
        case 2:
          if (this.manner.reading === "callbacks" && !this.lineCallback) {
            bev.setWatermark(EV_READ, dice.below(200), 200 + dice.below(4000));
          }
          break;
        case 3:
          bev.setWatermark(EV_WRITE, dice.below(500), dice.below(2) * (500 + dice.below(4000)));
          break;
        case 4:
          bev.setMaxSingleRead(dice.below(3000));
          break;
        case 5:
          bev.setMaxSingleWrite(dice.below(3000));
          break;
        case 6:
          if (!this.#viewing && !this.lineCallback && !this.half.heardEnd) bev.trigger(EV_READ, 0);
          break;
        case 7:
          bev.flush(EV_WRITE, BEV_FLUSH);
          break;
        case 8:
          if (onSocket) bev.setRateLimit(dice.below(3) === 0 ? null : bucket(dice));
          break;
        case 9:
          if (onSocket && this.group !== null) {
            if (dice.below(2) === 0) bev.joinRateLimitGroup(this.group);
            else bev.leaveRateLimitGroup();
          }
          break;
        default:
          if (onSocket) bev.priority = dice.below(bev.base.npriorities);
      }
    } catch (error) {
      const code = codeOf(error);
      if (code !== "EV_ACTIVE" && code !== "EV_FREED" && code !== "EV_UNSUPPORTED") {
        this.#blame(`fidget ${what} threw ${show(error)}`);
      }
    }
  }

  /** From now on it takes all that comes. */
  calm(): void {
    if (this.#over || this.half.deaf !== null || this.half.told !== null || !this.#opened) return;
    const { bev } = this;
    try {
      bev.setWatermark(EV_WRITE, 0, 0);
      if (!(bev instanceof FilterBufferEvent)) bev.setRateLimit(null);
      bev.enable(EV_WRITE);
      this.#enables = true;
      if (!this.half.heardEnd) bev.enable(EV_READ);
      if (this.#viewing || this.lineCallback || this.half.heardEnd) return;
      bev.setWatermark(EV_READ, 0, 65_536);
      if (!this.#thinking && bev.input.length > 0) this.#take(bev.input.length);
    } catch (error) {
      if (!this.owned) this.#blame(`calm: ${show(error)}`);
    }
  }

  /** There was time for all: who waits for an output that is empty waits for ever. */
  checkDrained(): void {
    if (!this.#drains || this.#over || this.half.told !== null || this.half.deaf !== null) return;
    if (this.bev.output.length === 0) this.#blame("drained() waits for an empty output");
  }

  /** Whether each reference that it gave has come back; asked at the very end. */
  checkReferences(): void {
    if (this.#references !== 0 && !this.half.crashed) this.#blame(`${this.#references} references were not released`);
  }
}

/** A rate limit that lets some thousand bytes pass in a second. */
export function bucket(dice: Dice): TokenBucketConfig {
  const rate = 50 + dice.below(2000);
  const tickMs = dice.pick([10, 50, 100]);
  return new TokenBucketConfig({
    readRate: rate,
    readBurst: rate + dice.below(2000),
    writeRate: rate,
    writeBurst: rate + dice.below(2000),
    tickMs,
  });
}

/** A rate limit that nobody notices. */
export function unlimited(): TokenBucketConfig {
  const rate = 1e9;
  return new TokenBucketConfig({ readRate: rate, readBurst: rate, writeRate: rate, writeBurst: rate, tickMs: 50 });
}
