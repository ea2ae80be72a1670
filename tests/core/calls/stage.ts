// Objects of every public class on a simulated host, values that their methods accept, and checks
// that an object works.
//
// A new public class needs an entry in `SUBJECTS`, and a parameter with a new name needs one in
// `VALUES`. The test names the missing entry.

import { assert, assertEquals } from "@std/assert";
import * as api from "../../../mod.ts";
import { socketPair } from "../socket/pairs.ts";

const FILE = "/greeting";

/** A simulated host with a base whose loop runs. */
export class World {
  readonly sim: api.SimRuntime = api.simRuntime();
  readonly base: api.EventBase = new api.EventBase({ runtime: this.sim, priorities: 2 });
  /** The errors that callbacks have thrown. */
  readonly thrown: unknown[] = [];

  constructor() {
    api.setDefaultRuntime(this.sim);
    this.sim.files.set(FILE, bytesOf("hello\nworld\n"));
    this.sim.report = (error) => void this.thrown.push(error);
    this.#dispatch();
  }

  #dispatch(): void {
    this.base.loop(api.EVLOOP_NO_EXIT_ON_EMPTY).catch((error) => {
      this.thrown.push(error);
      if (error instanceof api.EventError && error.code === "EV_FREED") return;
      this.#dispatch();
    });
  }

  run<T>(promise: Promise<T>): Promise<T> {
    return this.sim.run(promise);
  }

  /** Lets time pass, and records the errors of callbacks. */
  async pass(ms: number): Promise<void> {
    try {
      await this.sim.advance(ms);
    } catch (error) {
      this.thrown.push(error);
    }
  }

  pair(): [api.PairBufferEvent, api.PairBufferEvent] {
    const [near, far] = api.bufferEventPair(this.base);
    near.enable(api.EV_READ | api.EV_WRITE);
    far.enable(api.EV_READ | api.EV_WRITE);
    return [near, far];
  }

  near(): api.PairBufferEvent {
    return this.pair()[0];
  }

  sockets(): Promise<[api.Socket, api.Socket]> {
    return socketPair(this.sim);
  }

  buffer(text: string = "hello\nworld\n"): api.EvBuffer {
    const buffer = new api.EvBuffer();
    buffer.add(text);
    return buffer;
  }

  listening(): Promise<api.ListeningSocket> {
    return this.base.listen({ hostname: "127.0.0.1", port: 0 });
  }
}

/** An object to call, and a check that it works. */
export interface Subject {
  readonly object: object;
  /** A round trip. Throws if the object does not work. */
  works(): unknown;
}

/** How to make an object of a public class. */
export interface Maker {
  make(world: World): Subject | Promise<Subject>;
  /**
   * The function that makes it, if its constructor is not for programs. The error of the
   * constructor names this function.
   */
  readonly madeBy?: string;
  /** The methods to try, if another entry has the rest. */
  readonly methods?: readonly string[];
  /** The methods that are not for programs. */
  readonly inner?: readonly string[];
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

async function passes(from: api.BufferEvent, to: api.BufferEvent, world: World): Promise<void> {
  to.input.drain(to.input.length);
  from.write("ping\n");
  await world.pass(5);
  assertEquals(to.input.toString(), "ping\n");
  to.input.drain(to.input.length);
}

const CONFIG = { readRate: 1000, readBurst: 2000, writeRate: 1000, writeBurst: 2000 };

function portOf(address: api.Address): number {
  return (address as api.InetAddress).port;
}

async function echoes(world: World, port: number): Promise<void> {
  const client = new api.SocketBufferEvent(world.base, null);
  client.enable(api.EV_READ | api.EV_WRITE);
  client.connect({ hostname: "127.0.0.1", port });
  client.write("ping");
  await world.pass(20);
  assertEquals(client.input.toString(), "ping");
  client.free();
}

async function codecWorks<T>(codec: api.FrameCodec<T>, value: api.FrameInput<T>): Promise<void> {
  const buffer = new api.EvBuffer();
  codec.encode(buffer, value);
  const decoded = codec.decode(buffer);
  assertEquals(decoded instanceof Uint8Array ? new TextDecoder().decode(decoded) : decoded, value);
  await Promise.resolve();
}

/**
 * The methods of a host that the core calls with values of the declared types, or that the
 * simulator itself calls.
 */
const OF_A_HOST = "listen connect datagram compressor takesName local sourceFor exhausted soon".split(" ");

/** Every public class, and the objects behind public interfaces. */
export const SUBJECTS: Readonly<Record<string, Maker>> = {
  EvBuffer: {
    make(world) {
      const buffer = world.buffer();
      return {
        object: buffer,
        works() {
          const { length } = buffer;
          buffer.add("ping\n");
          assertEquals(buffer.length, length + 5);
          assert(buffer.toString().endsWith("ping\n"));
          buffer.drain(5);
          assertEquals(buffer.length, length);
          assertEquals(buffer.search("ping\n").pos >= 0 || length < 5, true);
        },
      };
    },
  },
  EvBufferPtr: {
    make(world) {
      const buffer = world.buffer();
      const position = buffer.ptrSet(0);
      return {
        object: position,
        works() {
          assertEquals(position.add(1), true);
        },
      };
    },
  },
  CallbackEntry: {
    make(world) {
      const buffer = world.buffer();
      let calls = 0;
      const entry = buffer.addCallback(() => calls++);
      return {
        object: entry,
        works() {
          entry.enabled = true;
          const before = calls;
          buffer.add("x");
          assertEquals(calls, before + 1);
        },
      };
    },
  },
  FileSegment: {
    async make(world) {
      const segment = await world.run(api.FileSegment.open(FILE));
      return {
        object: segment,
        works() {
          const buffer = new api.EvBuffer();
          buffer.addFileSegment(segment);
          assertEquals(buffer.length, segment.length);
          buffer.free();
        },
      };
    },
    madeBy: "FileSegment.open()",
  },
  Loan: {
    make() {
      let returned = 0;
      const loan = new api.Loan(new Uint8Array(8), () => returned++);
      loan.hold();
      return {
        object: loan,
        works() {
          const { users } = loan;
          loan.hold();
          loan.drop();
          assertEquals(loan.users, users);
        },
      };
    },
  },
  EventBase: {
    make(world) {
      const { base } = world;
      return {
        object: base,
        async works() {
          let fired = 0;
          base.timer(() => fired++).add(1);
          await world.pass(5);
          assertEquals(fired, 1);
        },
      };
    },
  },
  EventHandle: {
    make(world) {
      let fired = 0;
      const event = world.base.timer(() => fired++);
      return {
        object: event,
        async works() {
          const before = fired;
          event.add(1);
          await world.pass(5);
          assertEquals(fired, before + 1);
        },
      };
    },
  },
  EventCore: {
    make: (world) => SUBJECTS.EventHandle!.make(world),
    madeBy: "EventBase.event()",
    methods: [],
  },
  CommonTimeout: {
    make(world) {
      const timeout = world.base.initCommonTimeout(3);
      return {
        object: timeout,
        async works() {
          let fired = 0;
          world.base.timer(() => fired++).add(timeout);
          await world.pass(5);
          assertEquals(fired, 1);
        },
      };
    },
    madeBy: "EventBase.initCommonTimeout()",
  },
  Watcher: {
    make(world) {
      let calls = 0;
      const watcher = world.base.watchPrepare(() => calls++);
      return {
        object: watcher,
        async works() {
          const before = calls;
          world.base.timer(() => {}).add(1);
          await world.pass(5);
          assert(calls > before);
        },
      };
    },
  },
  EventError: {
    make() {
      const error = new api.EventError("Cannot do it: no", { code: "EIO" });
      return { object: error, works: () => assertEquals(error.code, "EIO") };
    },
  },
  SocketError: {
    make() {
      const error = new api.SocketError("cannot do it: no");
      return { object: error, works: () => assert(error instanceof TypeError) };
    },
  },
  BufferEvent: {
    make: (world) => SUBJECTS.PairBufferEvent!.make(world),
    madeBy: "SocketBufferEvent",
  },
  PairBufferEvent: {
    make(world) {
      const [near, far] = world.pair();
      return {
        object: near,
        async works() {
          await passes(near, far, world);
          await passes(far, near, world);
        },
      };
    },
    madeBy: "bufferEventPair()",
  },
  FilterBufferEvent: {
    make(world) {
      const [near, far] = world.pair();
      const filter = new api.FilterBufferEvent(near, null, null, api.BEV_OPT_CLOSE_ON_FREE);
      filter.enable(api.EV_READ);
      return {
        object: filter,
        async works() {
          await passes(filter, far, world);
          await passes(far, filter, world);
        },
      };
    },
  },
  SocketBufferEvent: {
    async make(world) {
      const [client, server] = await world.sockets();
      const near = new api.SocketBufferEvent(world.base, client, api.BEV_OPT_CLOSE_ON_FREE);
      const far = new api.SocketBufferEvent(world.base, server, api.BEV_OPT_CLOSE_ON_FREE);
      near.enable(api.EV_READ);
      far.enable(api.EV_READ);
      return {
        object: near,
        async works() {
          await passes(near, far, world);
          await passes(far, near, world);
        },
      };
    },
  },
  "an unconnected SocketBufferEvent": {
    make(world) {
      const bev = new api.SocketBufferEvent(world.base, null, api.BEV_OPT_CLOSE_ON_FREE);
      return {
        object: bev,
        async works() {
          const listening = await world.run(world.listening());
          bev.connect({ hostname: "127.0.0.1", port: portOf(listening.address) });
          await world.pass(5);
          assert(listening.accept() !== api.EAGAIN);
        },
      };
    },
    // Any bufferevent has the other methods.
    methods: ["connect", "setSocket", "startTls", "write", "close"],
  },
  RateLimitGroup: {
    make(world) {
      const group = new api.RateLimitGroup(world.base, new api.TokenBucketConfig(CONFIG));
      return {
        object: group,
        async works() {
          const [near, far] = world.pair();
          far.joinRateLimitGroup(group);
          await passes(near, far, world);
          far.leaveRateLimitGroup();
        },
      };
    },
  },
  TokenBucketConfig: {
    make(world) {
      const config = new api.TokenBucketConfig(CONFIG);
      return {
        object: config,
        works() {
          const near = world.near();
          near.setRateLimit(config);
          assertEquals(near.readLimit, 1000);
        },
      };
    },
  },
  Pollable: {
    make: (world) => SUBJECTS.Socket!.make(world),
    madeBy: "EventBase.connect()",
  },
  Socket: {
    async make(world) {
      const [near, far] = await world.sockets();
      return {
        object: near,
        async works() {
          const into = new Uint8Array(100);
          while (far.recv(into) > 0);
          assertEquals(near.send("ping"), 4);
          await world.pass(5);
          assertEquals(far.recv(into), 4);
        },
      };
    },
    madeBy: "EventBase.connect()",
  },
  ListeningSocket: {
    async make(world) {
      const listening = await world.run(world.listening());
      return {
        object: listening,
        async works() {
          const socket = world.base.connect({ hostname: "127.0.0.1", port: portOf(listening.address) });
          await world.pass(5);
          assert(listening.accept() !== api.EAGAIN);
          socket.close();
        },
      };
    },
    madeBy: "EventBase.listen()",
  },
  DatagramSocket: {
    async make(world) {
      const socket = await world.run(world.base.datagram({ hostname: "127.0.0.1" }));
      return {
        object: socket,
        async works() {
          await world.pass(5);
          while (socket.recvFrom() !== api.EAGAIN);
          assertEquals(socket.sendTo("ping", socket.address), 4);
          await world.pass(5);
          assertEquals((socket.recvFrom() as api.Datagram).data.length, 4);
        },
      };
    },
    madeBy: "EventBase.datagram()",
  },
  ConnListener: {
    async make(world) {
      const flags = api.LEV_OPT_CLOSE_ON_FREE;
      let accepted = 0;
      const callback: api.ListenerCallback = (_listener, socket) => {
        accepted++;
        socket.close();
      };
      const listener = await world.run(
        api.ConnListener.bind(world.base, callback, flags, -1, { hostname: "127.0.0.1", port: 0 }),
      );
      return {
        object: listener,
        async works() {
          const before = accepted;
          const socket = world.base.connect({ hostname: "127.0.0.1", port: portOf(listener.address) });
          await world.pass(5);
          assertEquals(accepted, before + 1);
          socket.close();
        },
      };
    },
  },
  Poller: {
    make(world) {
      const poller = new api.Poller(world.base);
      return {
        object: poller,
        async works() {
          const [near] = await world.sockets();
          poller.add(near, api.EV_WRITE, "mine");
          assertEquals((await world.run(poller.wait(5))).some(({ data }) => data === "mine"), true);
          poller.delete(near);
        },
      };
    },
  },
  CompletionPort: {
    make(world) {
      const port = new api.CompletionPort<unknown>(world.base);
      return {
        object: port,
        async works() {
          while (await world.run(port.wait(0)) !== null);
          port.post("mine", 1);
          assertEquals((await world.run(port.wait(5)))?.key, "mine");
        },
      };
    },
  },
  Overlapped: {
    make(world) {
      const overlapped = new api.Overlapped();
      return {
        object: overlapped,
        async works() {
          const [near] = await world.sockets();
          near.sendOverlapped(bytesOf("ping"), overlapped);
          await world.pass(5);
          assertEquals(overlapped.result().bytes, 4);
        },
      };
    },
  },
  Server: {
    async make(world) {
      const server = await world.run(api.serve({ hostname: "127.0.0.1", port: 0 }, {
        read: (bev) => bev.output.addBuffer(bev.input),
      }));
      return { object: server, works: () => echoes(world, portOf(server.address)) };
    },
    madeBy: "serve()",
  },
  Link: {
    async make(world) {
      const server = await world.run(api.serve({ hostname: "127.0.0.1", port: 0 }, {
        read: (bev) => bev.output.addBuffer(bev.input),
      }));
      const link = api.reconnect({ port: server.port });
      await world.run(link.ready());
      return {
        object: link,
        async works() {
          const bev = await world.run(link.ready());
          bev.write("ping");
          await world.pass(10);
          assertEquals(bev.input.toString(), "ping");
          bev.input.drain(4);
        },
      };
    },
    madeBy: "reconnect()",
  },
  View: {
    make(world) {
      const [near, far] = world.pair();
      const view = near.lines({ text: true });
      return {
        object: view,
        async works() {
          far.write("ping\r\n");
          await world.pass(5);
          const { done, value } = await world.run(view.next());
          assert(done || value === "ping");
        },
      };
    },
    madeBy: "BufferEvent",
  },
  "the batches of a View": {
    make(world) {
      const [near, far] = world.pair();
      const batches = near.lines({ text: true }).batches();
      return {
        object: batches,
        async works() {
          far.write("ping\r\n");
          await world.pass(5);
          const { done, value } = await world.run(batches.next());
          assert(done || [...value].includes("ping"));
        },
      };
    },
  },
  StreamSocket: {
    async make(world) {
      const server = await world.run(api.serve({ hostname: "127.0.0.1", port: 0 }, {
        read: (bev) => bev.output.addBuffer(bev.input),
      }));
      const socket = api.socketsConnect(`127.0.0.1:${portOf(server.address)}`, { secureTransport: "starttls" });
      await world.run(socket.opened);
      return {
        object: socket,
        async works() {
          const writer = socket.writable.getWriter();
          await world.run(writer.write(bytesOf("ping")));
          writer.releaseLock();
          const reader = socket.readable.getReader();
          const { value } = await world.run(reader.read());
          reader.releaseLock();
          assertEquals(value?.length, 4);
        },
      };
    },
    madeBy: "socketsConnect()",
  },
  "the heartbeat of heartbeat()": {
    make(world) {
      const [near, far] = world.pair();
      const beating = api.heartbeat(near, { everyMs: 5, send: "ping", timeoutMs: 1_000_000 });
      return {
        object: beating,
        async works() {
          beating.beat();
          await world.pass(20);
          assert(far.input.length >= 0);
        },
      };
    },
  },
  "the codec of lineCodec()": codec(() => api.lineCodec()),
  "the codec of delimited()": codec(() => api.delimited("--")),
  "the codec of fixedLength()": codec(() => api.fixedLength(3)),
  "the codec of lengthPrefixed()": codec(() => api.lengthPrefixed({ prefixBytes: 4 })),
  "the codec of varintPrefixed()": codec(() => api.varintPrefixed()),
  "the codec of jsonLines()": codec(() => api.jsonLines<string>()),
  "the codec of mapCodec()": codec(() =>
    api.mapCodec(api.lineCodec(), (line) => new TextDecoder().decode(line), (text) => text)
  ),
  SimRuntime: {
    make() {
      const sim = api.simRuntime();
      return {
        object: sim,
        async works() {
          let fired = 0;
          sim.setTimer(sim.now() + 1, () => fired++);
          await sim.advance(5);
          assertEquals(fired, 1);
        },
      };
    },
    inner: OF_A_HOST,
  },
  SimLink: {
    make() {
      const sim = api.simRuntime();
      const link = sim.link("a", "b");
      return {
        object: link,
        works() {
          link.latencyMs = 7;
          assertEquals(sim.link("a", "b").latencyMs, 7);
          return Promise.resolve();
        },
      };
    },
  },
  SimHost: {
    make() {
      const sim = api.simRuntime();
      const other = sim.host("other");
      return {
        object: other,
        async works() {
          let raised = 0;
          const stop = other.onSignal("SIGTERM", () => raised++);
          other.raise("SIGTERM");
          await sim.advance(5);
          stop();
          assertEquals(raised, 1);
        },
      };
    },
    inner: OF_A_HOST,
  },
};

function codec<T>(make: () => api.FrameCodec<T>): Maker {
  return {
    make() {
      const object = make();
      return { object, works: () => codecWorks(object, "abc" as api.FrameInput<T>) };
    },
  };
}

/** A value that is not awaited. */
export class AsIs {
  readonly value: unknown;

  constructor(value: unknown) {
    this.value = value;
  }
}

type Value = (world: World, subject: object | null) => unknown;

const NEAR = { hostname: "127.0.0.1", port: 9, family: "IPv4" };

/**
 * The value that a parameter accepts, by name: `Class.method:parameter`, `Class:parameter`, or
 * `parameter` for all. A promise is awaited.
 */
export const VALUES: Readonly<Record<string, Value>> = {
  a: (world) => world.near(),
  address: () => ({ hostname: "127.0.0.1", port: 9 }),
  "ConnListener::bind:address": () => ({ hostname: "127.0.0.1", port: 0 }),
  afterMs: () => 1,
  atFront: () => true,
  b: (world) => world.near(),
  backlog: () => -1,
  base: (world) => world.base,
  buffer: () => new Uint8Array(8),
  bytes: () => 16,
  "EvBuffer.addReference:bytes": () => bytesOf("abc"),
  "new Loan:bytes": () => bytesOf("abc"),
  callback: () => () => {},
  callbacks: () => ({ read: () => {}, event: () => {} }),
  cause: () => new Error("cause"),
  cb: () => () => {},
  "BufferEvent.setCallbacks:cb": () => ({ read: () => {}, event: () => {} }),
  chunks: () => [bytesOf("abc"), bytesOf("d")],
  clear: () => false,
  codec: () => api.lineCodec(),
  config: () => new api.TokenBucketConfig(CONFIG),
  data: () => bytesOf("abc"),
  deadlineMs: () => 5,
  decode: () => () => ({}),
  delayMs: () => 1000,
  delimiter: () => "--",
  dst: () => new api.EvBuffer(),
  enabled: () => true,
  encode: () => () => "abc",
  eol: () => api.EVBUFFER_EOL_LF,
  error: () => new Error("reported"),
  ev: (world) => world.base.timer(() => {}),
  flags: () => 0,
  fn: () => () => {},
  format: () => "gzip",
  frame: () => "abc",
  from: (world) => world.buffer(),
  "EvBuffer:from": () => undefined,
  "EvBuffer.searchEol:from": () => null,
  "EvBuffer.searchRange:from": () => null,
  "DatagramSocket.join:group": () => "239.1.2.3",
  "DatagramSocket.leave:group": () => "239.1.2.3",
  group: (world) => new api.RateLimitGroup(world.base, new api.TokenBucketConfig(CONFIG)),
  handleLimit: () => 10,
  header: () => ({ version: 2, command: "PROXY", source: NEAR, destination: NEAR, tlvs: [] }),
  high: () => 10_000,
  host: () => "other",
  hostname: () => "localhost",
  input: (world) => world.buffer("\0\0\0\x03abc--\r\n"),
  inputFilter: () => null,
  into: () => new Uint8Array(4),
  "Socket.recvBuffer:into": () => new api.EvBuffer(),
  "Pollable.recvBuffer:into": () => new api.EvBuffer(),
  key: () => "key",
  kind: () => api.EVENT_BASE_COUNT_ADDED,
  length: () => 2,
  limit: () => 10,
  low: () => 0,
  maxBytes: () => 100,
  maxEvents: () => 10,
  maxVecs: () => 2,
  message: () => "Cannot do it: no",
  mode: () => api.BEV_NORMAL,
  ms: () => 5,
  n: () => 3,
  networkInterface: () => "127.0.0.1",
  ...numbers(),
  name: () => "SIGTERM",
  "SimRuntime.capabilities=:given": () => ({ reset: false }),
  "SimRuntime.windowBytes=:given": () => 1024,
  "SimRuntime.shortWrites=:given": () => 0.5,
  "SimRuntime.timerLateMs=:given": () => 0,
  plan: () => ({ version: 1, seed: 3, faults: [{ kind: "pause", atMs: 5, forMs: 10, hosts: ["main"] }] }),
  "SimHost.capabilities=:given": () => ({ reset: false }),
  "SimHost.windowBytes=:given": () => 1024,
  "SimHost.shortWrites=:given": () => 0.5,
  "SimHost.timerLateMs=:given": () => 0,
  "SimRuntime.trace=:callback": () => () => {},
  "SimRuntime.host:name": () => "other",
  "SimLink:value": () => 0.5,
  "SimLink:bytes": () => 100,
  "SimRuntime.link:a": () => "other",
  "SimRuntime.link:b": () => "another",
  offset: () => 1,
  on: () => true,
  onFree: () => null,
  onRelease: () => () => {},
  onReturn: () => () => {},
  options: () => ({}),
  "serve:options": () => ({ hostname: "127.0.0.1", port: 0 }),
  "connect:options": (world) => connectable(world),
  "BufferEvent.trigger:options": () => 0,
  "BufferEvent.triggerEvent:options": () => 0,
  "connectNow:options": (world) => connectable(world),
  bev: (world) => world.near(),
  "heartbeat:options": () => ({ everyMs: 5, send: "ping", timeoutMs: 20 }),
  "reconnect:options": (world) => connectable(world),
  "EventBase.connect:options": (world) => connectable(world),
  "EventBase.listen:options": () => ({ hostname: "127.0.0.1", port: 0 }),
  "ListeningSocket::listen:options": () => ({ hostname: "127.0.0.1", port: 0 }),
  "Socket::connect:options": (world) => connectable(world),
  "bufferEventPair:options": () => 0,
  "lengthPrefixed:options": () => ({ prefixBytes: 4 }),
  "new EventError:options": () => ({ code: "EIO" }),
  "new FilterBufferEvent:options": () => 0,
  "new SocketBufferEvent:options": () => 0,
  "new TokenBucketConfig:options": () => CONFIG,
  outputFilter: () => null,
  output: () => new api.EvBuffer(),
  ov: () => new api.Overlapped(),
  pairOptions: () => ({}),
  path: () => FILE,
  pos: () => 1,
  priority: () => 0,
  promise: () => new AsIs(Promise.resolve(1)),
  ptr: (world, subject) => (subject instanceof api.EvBuffer ? subject : world.buffer()).ptrSet(0),
  readMs: () => 100,
  reason: () => new Error("reason"),
  runtime: (world) => world.sim,
  segment: (world) => world.run(api.FileSegment.open(FILE)),
  server: async (world) => (await SUBJECTS.Server!.make(world)).object,
  servers: async (world) => (await SUBJECTS.Server!.make(world)).object,
  sets: async (world) => ({ read: [], write: [(await world.sockets())[0]] }),
  signal: () => new AbortController().signal,
  socket: async (world) => (await world.sockets())[0],
  "new ConnListener:socket": (world) => world.run(world.listening()),
  source: async (world) => (await world.sockets())[0],
  src: () => new api.EvBuffer(),
  timeout: () => 5,
  timeoutMs: () => 5,
  to: () => ({ hostname: "127.0.0.1", port: 9 }),
  "EvBuffer.searchRange:to": () => null,
  token: (_world, subject) => (subject as api.SimHost).setTimer(5, () => {}),
  underlying: (world) => world.near(),
  value: () => 1,
  "BufferEvent.writeFrame:value": () => "abc",
  "the codec of mapCodec().encode:value": () => "abc",
  vecs: () => [],
  what: () => api.EV_READ,
  "EvBuffer:what": () => "o",
  writeMs: () => 100,
};

/** Parameters that are functions, or hold functions. */
const CALLED = /^(callback|callbacks|cb|decode|encode|fn|inputFilter|onFree|onRelease|onReturn|outputFilter)$/;

/**
 * Values that are not tried, because they are not wrong. The behaviour of a runtime is up to its
 * author, and so is the behaviour of a function, even one that throws. A reason is passed on
 * unchanged. Deno itself throws when it inspects a rejection whose reason is a proxy with throwing
 * traps.
 */
export function isFair(parameter: string, bad: string): boolean {
  if (parameter === "runtime") return !/^(a false object|a proxy of a good|an object that inherits)/.test(bad);
  if (parameter === "reason" && /^a (revoked|hostile) proxy/.test(bad)) return false;
  return !(CALLED.test(parameter) && /^(a class|a revoked proxy of a function)$/.test(bad));
}

/** Values for the methods that add an integer of this number of bits. */
function numbers(): Record<string, Value> {
  const values: Record<string, Value> = {};
  for (const end of ["BE", "LE"]) {
    for (const type of ["BigUint64", "BigInt64"]) values[`EvBuffer.add${type}${end}:n`] = () => 3n;
  }
  return values;
}

async function connectable(world: World): Promise<object> {
  const listening = await world.run(world.listening());
  return { hostname: "127.0.0.1", port: portOf(listening.address) };
}
