/** Runs a program on the simulator, in a worker: an endless loop there does not stop the page. */

import type { FaultPlan, SimRuntime } from "../../runtimes/sim.ts";
import * as library from "./library.ts";
import { Observer } from "./observe.ts";
import { compile, describe, type Exports } from "./program.ts";
import type { Action, Command, News, Settings, Slider } from "./protocol.ts";

/** The interval of messages to the page, in real milliseconds. */
const TICK_MS = 40;
/**
 * How long a run goes on after the program has ended, in virtual milliseconds: for packets that are
 * still on their way.
 */
const AFTER_MS = 2000;
/** The clock stops at each multiple of this, so that a run ends at the same moment at each speed. */
const SLICE_MS = 100;
/**
 * The most callbacks of one step of the clock: with more, it counts as an endless loop of
 * callbacks.
 */
const MAX_STEPS = 200_000;

/** `sim.install()` replaces these, so they are taken before. */
const real = {
  setTimeout: globalThis.setTimeout.bind(globalThis),
  now: performance.now.bind(performance),
  console: globalThis.console,
};
const post = (news: News): void => (globalThis as unknown as Worker).postMessage(news);
const pause = (ms: number): Promise<void> => new Promise((resolve) => void real.setTimeout(resolve, ms));

// The program may come from a link of somebody else. It has only the simulated network, so it
// cannot send anything, and no answer from outside makes a run that cannot be repeated.
for (
  const name of [
    "fetch",
    "XMLHttpRequest",
    "WebSocket",
    "WebSocketStream",
    "WebTransport",
    "EventSource",
    "importScripts",
  ]
    .concat("Worker", "BroadcastChannel", "indexedDB", "caches")
) {
  Object.defineProperty(globalThis, name, {
    get() {
      throw new Error(`Cannot use ${name}: the playground has no network but the simulator's`);
    },
  });
}

/** The events that the list does not show at first. */
const QUIET = new Set(["timer", "writable"]);

interface Started {
  sim: SimRuntime;
  program: Promise<unknown>;
  /** The simulator's own: a program that calls them waits for the page. */
  advance(ms: number): Promise<void>;
  stop(): void;
}

/** Starts a program on its own network. */
function start(
  source: string,
  settings: Settings,
  plan: FaultPlan | null,
  log: (kind: string, text: string) => void,
  watch: (sim: SimRuntime) => void,
): Started {
  const program = compile(source);
  const { seed, latencyMs, jitterMs, segmentCut, bandwidth } = settings;
  const options = {
    seed,
    latencyMs,
    maxSteps: MAX_STEPS,
    faults: { jitterMs, segmentCut: segmentCut / 100, ...(bandwidth === 0 ? {} : { bandwidth: bandwidth * 1000 }) },
    capture: true,
  };
  const sim = library.simRuntime(options);
  if (plan !== null) sim.replay(plan);
  watch(sim);
  const advance = sim.advance.bind(sim);
  // The page moves the clock. A program that moves it waits until the page has.
  const mine = {
    run: (promise: Promise<unknown>) => Promise.resolve(promise),
    advance: (ms: number) => new Promise<void>((resolve) => void sim.setTimer(sim.now() + ms, resolve)),
    advanceSync() {
      throw new Error("Cannot move the clock: the page does it. Use `await sim.advance(ms)`");
    },
    install: () => () => {},
  };
  Object.assign(sim, mine);
  library.setDefaultRuntime(() => sim);
  const restore = Object.getPrototypeOf(sim).install.call(sim);
  const show = (...values: unknown[]): string =>
    values.map((value) => {
      if (typeof value === "string") return value;
      try {
        return value instanceof Error ? describe(value) : JSON.stringify(value) ?? String(value);
      } catch {
        return String(value);
      }
    }).join(" ");
  const say = (...values: unknown[]): void => log("log", show(...values));
  globalThis.console = { ...real.console, log: say, info: say, debug: say, warn: say, error: say } as Console;
  const exports: Exports = {};
  const running = (async () => {
    await program({ ...library, simRuntime: () => sim }, exports);
    if (exports.default !== undefined) await exports.default(sim);
  })();
  // It is awaited later; until then its rejection must not count as unhandled.
  running.catch(() => {});
  return {
    sim,
    program: running,
    advance,
    stop() {
      restore();
      globalThis.console = real.console;
    },
  };
}

/** One run that the page shows. */
class Run {
  readonly #started: Started;
  readonly #observer: Observer;
  readonly #actions: Action[];
  /** The actions of the reader while the clock moved. */
  readonly #wanted: Omit<Action, "at">[] = [];
  #speed: number;
  #paused = false;
  #steps = 0;
  #over = false;
  #endsAt = Infinity;
  #failure: { error: unknown } | undefined;

  constructor({ source, settings, actions, plan, speed }: Extract<Command, { type: "run" }>) {
    let observer: Observer | undefined;
    this.#started = start(
      source,
      settings,
      plan,
      (kind, text) => observer?.say(kind, text),
      (sim) => observer = new Observer(sim),
    );
    this.#observer = observer as unknown as Observer;
    this.#actions = [...actions].sort((a, b) => a.at - b.at);
    this.#speed = speed;
    const { program, sim } = this.#started;
    program.then(
      () => {
        this.#observer.say("end", "the program has ended");
        this.#endsAt = Math.ceil(sim.now() / SLICE_MS) * SLICE_MS + AFTER_MS;
      },
      (error) => this.fail(error),
    );
  }

  /** The program has failed. */
  fail(error: unknown): void {
    this.#failure ??= { error };
  }

  async loop(): Promise<void> {
    const { sim } = this.#started;
    let last = real.now();
    let owed = 0;
    while (!this.#over) {
      const now = real.now();
      owed += this.#paused ? 0 : (now - last) * this.#speed / 1000;
      last = now;
      // The clock stands at a whole millisecond, and a repeated run does the same there.
      for (const wanted of this.#wanted.splice(0)) {
        const action = { ...wanted, at: sim.now() };
        post({ type: "action", action });
        this.act(action);
      }
      if (this.#steps > 0) {
        this.#steps--;
        await this.#step();
      } else if (owed >= 1) {
        // Whole milliseconds, so that a run that is repeated stops at the same moments.
        const ms = Math.min(Math.floor(owed), 20_000);
        owed = Math.min(owed - ms, 1000);
        await this.#advance(ms);
      }
      this.#tell();
      if (this.#failure !== undefined || sim.now() >= this.#endsAt || (this.#endsAt < Infinity && sim.pending === 0)) {
        break;
      }
      await pause(TICK_MS);
    }
    this.#started.stop();
    if (this.#over) return;
    post({ type: "ended", error: this.#failure === undefined ? null : describe(this.#failure.error) });
  }

  /** Moves the clock, and repeats the actions of the reader at their times. */
  async #advance(ms: number): Promise<void> {
    const { sim, advance } = this.#started;
    const end = sim.now() + ms;
    try {
      while (this.#failure === undefined && sim.now() < end) {
        const [next] = this.#actions;
        const slice = (Math.floor(sim.now() / SLICE_MS) + 1) * SLICE_MS;
        await advance(Math.max(0, Math.min(next?.at ?? Infinity, slice, end) - sim.now()));
        if (next !== undefined && next.at <= sim.now()) {
          this.#actions.shift();
          this.act(next);
        }
        if (sim.now() >= this.#endsAt || (this.#endsAt < Infinity && sim.pending === 0)) return;
      }
    } catch (error) {
      this.fail(error);
    }
  }

  /** Goes on to the next event. */
  async #step(): Promise<void> {
    const shown = (): number => this.#observer.happenings.filter(({ kind }) => !QUIET.has(kind)).length;
    const before = shown();
    for (let i = 0; i < 60_000 && shown() === before; i++) {
      if (this.#failure !== undefined || this.#started.sim.pending === 0) return;
      await this.#advance(1);
    }
  }

  #tell(): void {
    const { sim } = this.#started;
    const observer = this.#observer;
    post({
      type: "tick",
      now: sim.now(),
      happenings: observer.happenings.splice(0),
      flights: observer.flights.splice(0),
      hosts: observer.hosts(),
      links: observer.links(),
      hash: sim.hash,
    });
  }

  command(command: Command): void {
    if (command.type === "speed") this.#speed = command.speed;
    else if (command.type === "pause") this.#paused = true;
    else if (command.type === "resume") this.#paused = false;
    else if (command.type === "step") {
      this.#paused = true;
      this.#steps++;
    } else if (command.type === "action") {
      this.#wanted.push(command.action);
    } else if (command.type === "pcap") post({ type: "pcap", bytes: this.#started.sim.capture() });
  }

  act({ what, value }: Action): void {
    const { sim } = this.#started;
    this.#observer.say("reader", `${what}${value === "" ? "" : ` ${value}`}`);
    const hosts = this.#observer.hosts().map(({ name }) => name);
    if (what === "partition" || what === "heal") {
      for (const [i, a] of hosts.entries()) for (const b of hosts.slice(i + 1)) sim.link(a, b)[what]();
    } else if (what === "crash") sim.host(value).crash();
    else if (what === "restart") sim.host(value).restart();
    else setSlider(sim, what, Number(value));
  }

  stop(): void {
    this.#over = true;
    this.#observer.stop();
    this.#started.stop();
  }
}

function setSlider(sim: SimRuntime, what: Slider, value: number): void {
  if (what === "bandwidth") sim.faults.bandwidth = value === 0 ? Infinity : value * 1000;
  else if (what === "segmentCut") sim.faults.segmentCut = value / 100;
  else sim.faults[what] = value;
}

let run: Run | undefined;
/** The handler of unhandled rejections. */
let unhandled: (error: unknown) => void = () => {};

globalThis.addEventListener("unhandledrejection", (event) => {
  event.preventDefault();
  unhandled((event as PromiseRejectionEvent).reason);
});
real.setTimeout(() => post({ type: "ready" }), 0);

globalThis.addEventListener("message", (event: MessageEvent<Command>) => {
  const command = event.data;
  if (command.type === "run") {
    run?.stop();
    run = undefined;
    try {
      run = new Run(command);
    } catch (error) {
      post({ type: "ended", error: describe(error) });
      return;
    }
    const mine = run;
    unhandled = (error) => mine.fail(error);
    void mine.loop();
  } else if (command.type === "explore") void exploring(command);
  else run?.command(command);
});

async function exploring({ source, settings, runs }: Extract<Command, { type: "explore" }>): Promise<void> {
  run?.stop();
  run = undefined;
  globalThis.console = { ...real.console, log() {}, info() {}, debug() {}, warn() {}, error() {} } as Console;
  try {
    const program = compile(source);
    const scenario = async (sim: SimRuntime): Promise<void> => {
      library.setDefaultRuntime(() => sim);
      const restore = sim.install();
      try {
        const exports: Exports = {};
        await program({ ...library, simRuntime: () => sim }, exports);
        await exports.default?.(sim);
      } finally {
        restore();
      }
    };
    const { seed, latencyMs } = settings;
    const found = await library.explore(scenario, {
      runs,
      seed,
      latencyMs,
      maxSteps: MAX_STEPS,
      leftovers: false,
      faults: library.DEFAULT_FAULTS,
      onProgress: (progress) => post({ type: "exploring", runs: progress.runs, shrinking: progress.shrinkRuns }),
    });
    const failed = found.plan !== undefined;
    const error = failed ? describe(found.error) : "";
    post({ type: "explored", runs: found.runs, seed: found.seed, error, plan: found.plan ?? null });
  } catch (error) {
    post({ type: "ended", error: describe(error) });
  } finally {
    globalThis.console = real.console;
  }
}
