/**
 * Runtimes that break a law of the seam on purpose. A law finds each of them; without the fault,
 * the same law holds.
 */

import { pathToFileURL } from "node:url";
import process from "node:process";
import { describe, it } from "node:test";
import { assert, assertRejects } from "@std/assert";
import { EventError, type TransportSink } from "../../core/mod.ts";
import { simRuntime } from "../../runtimes/sim.ts";
import { type Fault, HOST_FAULTS, mutate } from "./fixtures/mutant.mjs";
import { type Law, laws, type Subject, type Suite } from "./mod.ts";
import { hostName, hostSubject } from "./subjects.ts";

let seed = 0;

function simSubject(fault: Fault): Subject {
  const sim = simRuntime({ seed: seed++, maxSteps: 2_000_000 });
  return {
    runtime: mutate(sim, fault),
    run: (promise) => sim.run(promise),
    patienceMs: 5000,
    raise: (signal) => sim.raise(signal),
    // The simulator's own kind of certificates.
    tls: { ca: "a CA", cert: "localhost signed by a CA", key: "a key" },
  };
}

/** The one law with such a name. */
function lawOf(name: string, makeSubject: () => Subject, suites: readonly Suite[]): Law {
  const found = laws("mutant", makeSubject, suites).filter((law) => law.name.endsWith(` > ${name}`));
  assert(found.length === 1, `${found.length} laws are called ${name}`);
  return found[0]!;
}

/** Data is delivered later; the other callbacks run at once. */
function lateData(sink: TransportSink, later: (fn: () => void) => void): Partial<TransportSink> {
  let closed = false;
  return {
    onData: (chunk) => later(() => closed || sink.onData(chunk)),
    onClose: (error) => {
      closed = true;
      sink.onClose(error);
    },
  };
}

/** Closed handles are still counted. */
function leaking(): Fault {
  let gone = 0;
  return {
    sink: (sink) => ({
      onClose(error) {
        gone++;
        sink.onClose(error);
      },
    }),
    runtime: (runtime) => ({
      get openHandles() {
        return runtime.openHandles + gone;
      },
    }),
  };
}

/** A fault, and the law that finds it. Laws of the kinds of connections are asked of IPv4. */
const FAULTS: readonly (readonly [fault: string, law: string, Fault])[] = [
  // Law 1
  ["says that write() took more than it was given", "IPv4 > keeps the order of thousands of small writes", {
    binding: (binding) => ({ write: (chunk) => binding.write(chunk) + 1 }),
  }],
  ["loses a byte when the peer finishes", "IPv4 > finishes after all accepted bytes, and not before", {
    sink(sink) {
      let last: Uint8Array | undefined;
      return {
        onData(chunk) {
          if (last !== undefined) sink.onData(last);
          last = chunk.slice(-1);
          if (chunk.length > 1) sink.onData(chunk.slice(0, -1));
        },
      };
    },
  }],
  ["gives bytes in another order", "IPv4 > keeps the order of thousands of small writes", {
    sink: (sink) => ({
      onData(chunk) {
        const half = chunk.length >> 1;
        sink.onData(chunk.subarray(half));
        if (half > 0) sink.onData(chunk.subarray(0, half));
      },
    }),
  }],
  ["cuts the connection in close()", "IPv4 > delivers accepted bytes when it is closed, with reading paused", {
    binding: (binding) => ({ close: () => binding.reset() }),
  }],
  ["gives memory that it reads into again", "IPv4 > does not change delivered memory, whatever arrives later", {
    sink(sink) {
      const shared = new Uint8Array(1 << 20);
      return {
        onData(chunk) {
          shared.set(chunk);
          sink.onData(shared.subarray(0, chunk.length));
        },
      };
    },
  }],
  // Law 2
  [
    "takes bytes without a bound",
    "IPv4 > accepts a bounded number of bytes for a peer that does not read, and reports once that there is space",
    {
      binding(binding, runtime) {
        const queue: Uint8Array[] = [];
        const flush = (): void => {
          while (queue.length > 0) {
            const taken = binding.write(queue[0]!);
            if (taken === 0) return void runtime.setTimer(runtime.now() + 1, flush);
            if (taken < queue[0]!.length) queue[0] = queue[0]!.subarray(taken);
            else queue.shift();
          }
        };
        return {
          write(chunk) {
            queue.push(chunk);
            if (queue.length === 1) flush();
            return chunk.length;
          },
        };
      },
    },
  ],
  [
    "never calls onWritable",
    "IPv4 > accepts a bounded number of bytes for a peer that does not read, and reports once that there is space",
    {
      sink: () => ({ onWritable() {} }),
    },
  ],
  [
    "calls onWritable twice",
    "IPv4 > accepts a bounded number of bytes for a peer that does not read, and reports once that there is space",
    {
      sink: (sink) => ({ onWritable: () => (sink.onWritable(), sink.onWritable()) }),
    },
  ],
  [
    "goes on reading while reading is paused",
    "IPv4 > reads a bounded number of bytes while reading is paused, and loses none of them",
    {
      binding: () => ({ pauseRead() {} }),
    },
  ],
  // Law 3
  ["finishes our direction when the peer finishes", "IPv4 > answers a peer that has finished", {
    sink(sink) {
      return {
        onEnd() {
          sink.onEnd();
          sink.onClose();
        },
      };
    },
  }],
  ["reports the end before the data", "IPv4 > reports the end after the data if reading was paused for both", {
    sink: (sink, runtime) => lateData(sink, (fn) => void runtime.setTimer(runtime.now() + 5, fn)),
  }],
  ["reports the end twice", "IPv4 > finishes once, however often shutdownWrite() is called", {
    sink: (sink) => ({ onEnd: () => (sink.onEnd(), sink.onEnd()) }),
  }],
  ["reports a reset as a clean end", "IPv4 > sends the peer a reset", {
    sink: (sink) => ({ onClose: () => sink.onClose() }),
  }],
  [
    "reports a failed write before the data that had arrived",
    "IPv4 > delivers the peer's last bytes although writing to it fails",
    {
      sink: (sink, runtime) => lateData(sink, (fn) => void runtime.setTimer(runtime.now() + 5, fn)),
    },
  ],
  [
    "has a name of its own for a refused connection",
    "connect > fails with ECONNREFUSED if nobody listens, and names the address",
    {
      sink: (sink) => ({
        onClose: (error) => sink.onClose(error && new EventError(error.message, { code: "ERR_REFUSED" })),
      }),
    },
  ],
  [
    "waits for the peer after release()",
    "IPv4 > stops waiting for the peer when it is released, and bytes in the system's queue arrive",
    {
      binding: (binding) => ({ release: () => binding.close() }),
    },
  ],
  // Law 4
  ["gives data after onClose", "IPv4 > sends the peer a reset", {
    sink: (sink) => ({
      onClose(error) {
        sink.onClose(error);
        sink.onData(new Uint8Array(1));
      },
    }),
  }],
  ["closes twice", "IPv4 > ends by itself when both directions are finished", {
    sink: (sink) => ({ onClose: (error) => (sink.onClose(error), sink.onClose(error)) }),
  }],
  ["never calls onClose", "IPv4 > ends by itself when both directions are finished", {
    sink: () => ({ onClose() {} }),
  }],
  ["gives data after close()", "IPv4 > delivers 8 MB when it is closed while the peer goes on sending", {
    binding: (binding) => ({ close: () => binding.shutdownWrite() }),
  }],
  // Law 5
  ["takes an option that it declares not to have", "listen > refuses features whose capabilities are false", {
    runtime: ({ capabilities }) => ({ capabilities: { ...capabilities, reusePort: false } }),
  }],
  // Law 6
  ["calls onWritable from inside write()", "IPv4 > accepts a bounded part of a giant chunk", {
    binding: (binding, _, sink) => ({
      write(chunk) {
        const taken = binding.write(chunk);
        if (taken === 0) sink.onWritable();
        return taken;
      },
    }),
  }],
  ["calls onClose from inside reset()", "IPv4 > sends the peer a reset", {
    binding: (binding, _, sink) => ({
      reset() {
        binding.reset();
        sink.onClose();
      },
    }),
  }],
  // Law 7
  ["calls timers too early", "calls timers at their time, and in order", {
    runtime: (runtime) => ({ setTimer: (deadlineMs, fn) => runtime.setTimer(deadlineMs - 10, fn) }),
  }],
  ["calls timers that were cleared", "forgets a timer that is cleared, also one that has fired", {
    runtime: () => ({ clearTimer() {} }),
  }],
  ["runs deferred functions at once", "defers to after this call and its promises, once each, in order", {
    runtime: () => ({ defer: (fn) => fn() }),
  }],
  ["runs deferred functions before promises", "defers to after this call and its promises, once each, in order", {
    runtime: () => ({ defer: (fn) => queueMicrotask(fn) }),
  }],
  [
    "says at once that it has polled",
    "reports its next poll once: after this call, its promises and deferred functions",
    {
      runtime: (runtime) => ({ poll: (fn) => runtime.defer(fn) }),
    },
  ],
  // Law 9
  ["keeps the port of a listener that is closed", "listen > releases its address when it is closed, IPv4", {
    listener: () => ({ close: () => Promise.resolve() }),
  }],
  ["forgets the addresses of a connection when it is closed", "IPv4 > gives both ends the addresses of both", {
    binding(binding) {
      let closed = false;
      return {
        reset() {
          closed = true;
          binding.reset();
        },
        get remote() {
          return closed ? undefined : binding.remote;
        },
      };
    },
  }],
  ["counts connections that are gone as open", "IPv4 > sends the peer a reset", leaking()],
  [
    "gives IPv4 addresses of a socket of IPv6 in their own form",
    "listen > and its clients see both addresses in the family of their own socket",
    {
      binding: (binding) => ({
        get remote() {
          const { remote } = binding;
          if (remote === undefined || !("port" in remote) || !remote.hostname.startsWith("::ffff:")) return remote;
          return { ...remote, hostname: remote.hostname.slice(7), family: "IPv4" as const };
        },
      }),
    },
  ],
  // Laws 11 and 18
  [
    "goes on looking a name up that nobody wants any more",
    "runtime > stops resolving when it is aborted, with the reason as the cause",
    {
      runtime: (runtime) => ({ resolve: (hostname) => runtime.resolve(hostname) }),
    },
  ],
  [
    "always gives the same random number",
    "runtime > gives random numbers, 0 or more and less than 1, different each time",
    {
      runtime: () => ({ random: () => 0.5 }),
    },
  ],
  ["calls one handler of a signal only", "runtime > calls every handler of a signal until it is removed", {
    runtime(runtime) {
      const caught = new Set<string>();
      return {
        onSignal(name, fn) {
          if (caught.has(name)) return () => {};
          caught.add(name);
          return runtime.onSignal(name, fn);
        },
      };
    },
  }],
  // Law 16
  [
    "drops the bytes of a handshake that were read before",
    "startTls() > changes a connection to TLS with bytes of the handshake that were read before",
    {
      binding: (binding) => ({ startTls: (role, options) => binding.startTls!(role, options) }),
    },
  ],
  [
    "loses what was written in the clear before startTls()",
    "startTls() > changes a connection to TLS, from inside onData, after bytes without TLS",
    {
      binding: (binding) => ({ write: (chunk) => binding.tls === undefined ? chunk.length : binding.write(chunk) }),
    },
  ],
];

describe("a runtime that", () => {
  for (const [fault, law, change] of FAULTS) {
    it(`${fault} breaks a law`, async () => {
      await lawOf(law, () => simSubject({}), ["clock", "seam"]).run();
      await assertRejects(() => lawOf(law, () => simSubject(change), ["clock", "seam"]).run());
    });
  }
});

/** The faults of the adapter of this runtime, and the law that finds each. */
const FOUND_BY: Readonly<Record<string, readonly [Suite, string]>> = {
  "ignores background": ["processes", "ends although a timer in the background and a signal handler wait"],
  "makes every timer a background timer": ["processes", "is held by a timer that is not in the background"],
  "never lets the process go after close()": [
    "processes",
    "ends when a connection is closed that had finished long ago",
  ],
  "has an empty ref() of connections": ["processes", "is held by a connection that was ref'd again"],
  "has an empty unref() of connections": [
    "processes",
    "ends although a connection is open that was unref'd while it connected",
  ],
  "has an empty ref() of listeners": ["processes", "is held by a listener that was ref'd again"],
  "has an empty unref() of listeners": [
    "processes",
    "ends although an unref'd listener and an unref'd connection are open",
  ],
  "has an empty setNoDelay()": [
    "system",
    "sends a second small write at once, but after setNoDelay(false) only when the first was acknowledged",
  ],
  "switches Nagle's algorithm the wrong way": [
    "system",
    "sends a second small write at once, but after setNoDelay(false) only when the first was acknowledged",
  ],
  "has an empty setKeepAlive()": [
    "system",
    "sends the first probe of keep-alive after the given time, if that can be chosen",
  ],
  "never switches keep-alive off": [
    "system",
    "sends the first probe of keep-alive after the given time, if that can be chosen",
  ],
};

describe(`an adapter of ${hostName} that`, () => {
  const right = hostSubject();
  const module = pathToFileURL("tests/conformance/fixtures/mutant.mjs").href;

  for (const [fault, change] of Object.entries(HOST_FAULTS)) {
    const [suite, name] = FOUND_BY[fault] ?? [];
    it(`${fault} breaks a law`, { skip: suite === "system" && process.platform !== "linux" }, async () => {
      assert(suite !== undefined && name !== undefined, "nothing is said to find it");
      process.env.TRIVENT_ADAPTER = right.module;
      process.env.TRIVENT_FAULT = fault;
      const wrong = {
        ...right,
        runtime: mutate(right.runtime, change),
        module,
        processTimeoutMs: 4000,
        patienceMs: 3000,
      };
      const found = laws("mutant", () => wrong, [suite]);
      const at = (end: string): Law | undefined => found.find((law) => law.name.endsWith(end));
      await at("(before)")?.run();
      try {
        await assertRejects(() => at(` > ${name}`)!.run());
      } finally {
        await at("(after)")?.run();
      }
    });
  }
});
