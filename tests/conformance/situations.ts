/**
 * A process that has nothing left to do: `situations.ts <URL of a module with the runtime> <situation> <port of a peer>`.
 * The laws of processes start it, and check whether and when it ends.
 */

import process from "node:process";
import {
  type Address,
  EV_PERSIST,
  EV_READ,
  EventBase,
  type EventHandle,
  type Runtime,
  serve,
  sleep,
  Socket,
  stopOnSignals,
  type TransportBinding,
  type TransportSink,
} from "../../core/mod.ts";

const [, , url = "", situation = "", port = ""] = process.argv;
const runtime = await runtimeOf(url);
const quiet: TransportSink = { onConnect() {}, onSecure() {}, onData() {}, onEnd() {}, onWritable() {}, onClose() {} };
const peer: Address = { hostname: "127.0.0.1", port: Number(port), family: "IPv4" };

async function runtimeOf(url: string): Promise<Runtime> {
  const module: object = await import(url);
  const [, make] = Object.entries(module).find(([name]) => name === "default" || name.endsWith("Runtime")) ?? [];
  if (typeof make !== "function") throw new TypeError(`${url} exports no function that gives a runtime`);
  return await make();
}

function connect(sink: Partial<TransportSink> = {}, to: Address = peer): TransportBinding {
  return runtime.connect({ ...to }, { ...quiet, ...sink });
}

function after(ms: number, fn: () => void, background = false): void {
  runtime.setTimer(runtime.now() + ms, fn, background);
}

function say(text: string): void {
  console.log(text);
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** A base whose loop goes on for a socket that does not hold the process, and an event with a timer. */
async function baseWithTimer(callback: (event: EventHandle) => void): Promise<[EventBase, EventHandle]> {
  const base = new EventBase({ runtime });
  const listening = await base.listen({ hostname: "127.0.0.1", port: 0 });
  listening.unref();
  base.event(listening, EV_READ | EV_PERSIST, () => {}).add();
  const timer = base.event(null, EV_PERSIST, () => callback(timer));
  return [base, timer];
}

const situations: Readonly<Record<string, () => Promise<void> | void>> = {
  /** Connections and listeners that were unref'd. */
  async unref() {
    (await runtime.listen({ hostname: "127.0.0.1" }, { onAccept: () => quiet, onError() {} })).unref();
    const binding = connect({ onConnect: () => binding.unref() });
  },
  /** A connection that was unref'd while it connected. */
  early() {
    const binding = connect({ onConnect: () => void binding.write(encode("here")) });
    binding.unref();
    after(300, () => say("waited"));
  },
  /** A connection that was unref'd and then ref'd again. */
  ref() {
    const binding = connect({
      onConnect() {
        binding.unref();
        binding.ref();
        binding.write(encode("speak"));
      },
      onData(chunk) {
        say(new TextDecoder().decode(chunk));
        binding.reset();
      },
    });
  },
  /** A listener that was unref'd and then ref'd again. */
  async listenerRef() {
    const listener = await runtime.listen({ hostname: "127.0.0.1" }, { onAccept: () => quiet, onError() {} });
    listener.unref();
    listener.ref();
    after(300, () => {
      say("still here");
      void listener.close();
    }, true);
  },
  /** A TLS handshake that the peer never answers. */
  handshake() {
    Socket.connect(runtime, { hostname: "127.0.0.1", port: Number(port), tls: {} }).unref();
    after(300, () => say("waited"));
  },
  /** A connection that is closed, and whose peer does not finish. */
  closed() {
    const binding = connect({
      onConnect() {
        binding.write(encode("last words"));
        binding.close();
      },
    });
  },
  /** The same, but closed long after our direction was finished. */
  finished() {
    const binding = connect({
      onConnect() {
        binding.shutdownWrite();
        after(100, () => binding.close());
      },
    });
  },
  /** A connection whose peer has finished. */
  peerFinished() {
    const binding = connect({
      onConnect: () => void binding.write(encode("finish")),
      onEnd: () => say("end"),
    });
  },
  /** The same, with more to send than the kernel takes. */
  owing() {
    let left = 8_000_000;
    const binding = connect({
      onConnect: () => void binding.write(encode("finish")),
      onEnd() {
        say("end");
        send();
      },
      onWritable: send,
    });
    function send(): void {
      while (left > 0) {
        const n = binding.write(new Uint8Array(Math.min(left, 100_000)));
        if (n === 0) return;
        left -= n;
      }
      say("sent");
    }
  },
  /** A timer in the background, and a signal handler. */
  background() {
    after(60_000, () => say("too late"), true);
    if (runtime.capabilities.signals) runtime.onSignal("SIGUSR2", () => {});
  },
  /** A timer that is not in the background. */
  timer() {
    after(300, () => say("tick"));
  },
  /** Events that were unref'd, in a loop that runs for a listener that was unref'd too. */
  async unheld() {
    const [base, timer] = await baseWithTimer(() => say("too late"));
    timer.add(60_000);
    timer.unref();
    if (runtime.capabilities.signals) {
      const signal = base.signal("SIGUSR2", () => {});
      signal.add();
      signal.unref();
    }
    base.dispatch().then(say);
  },
  /** The same, but the timer was ref'd again. */
  async reheld() {
    const [base, timer] = await baseWithTimer((event) => {
      say("tick");
      event.unref();
    });
    timer.add(100);
    timer.unref();
    timer.ref();
    base.dispatch().then(say);
  },
  /** A connection that waits for its peer holds the process, as a timer does. */
  held() {
    const binding = connect({
      onConnect: () => void binding.write(encode("speak")),
      onData(chunk) {
        say(new TextDecoder().decode(chunk));
        binding.reset();
        after(50, () => say("and a timer"));
      },
    });
  },
  /** A server that stops at a signal, and a client that does not close. */
  async signalled() {
    const server = await serve({ runtime, hostname: "127.0.0.1", port: 0 }, {
      open: () => void process.kill(process.pid, "SIGTERM"),
      close: (_bev, reason) => say(`cut ${reason?.code}`),
    });
    stopOnSignals(server, { graceMs: 200 });
    connect({}, server.address);
    const base = new EventBase({ runtime });
    while (server.connections === 0) await sleep(1, { base });
    say(`${server.connections} there`);
  },
  /** A listener holds the process until it is closed. */
  async listening() {
    const listener = await runtime.listen({ hostname: "127.0.0.1" }, {
      onAccept() {
        void listener.close();
        say("accepted");
        return { ...quiet };
      },
      onError() {},
    });
    after(300, () => {
      const client = connect({ onConnect: () => client.reset() }, listener.address);
    }, true);
  },
};

const run = situations[situation];
if (run === undefined) throw new RangeError(`there is no situation ${situation}`);
await run();
