// An optional property may be undefined: for programs that compile with
// `exactOptionalPropertyTypes`, and at run time. The test reads all exported types, so it includes
// later ones.

import { before, describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { toDuplex } from "../../bridges/duplex.ts";
import { natsTransport } from "../../bridges/nats.ts";
import {
  bufferEventPair,
  compress,
  compressionFilter,
  connect,
  DatagramSocket,
  decompress,
  EvBuffer,
  EVBUFFER_EOL_LF,
  EventBase,
  EventError,
  lengthPrefixed,
  lineCodec,
  pipe,
  reconnect,
  select,
  serve,
  type SimRuntime,
  simRuntime,
  sleep,
  socketsConnect,
  stopOnSignals,
  TokenBucketConfig,
} from "../../mod.ts";
import { explore } from "../../runtimes/sim.ts";
import { findRuntime } from "../tools/runtimes.mjs";
import { json, must } from "./workshop.ts";

/** Interfaces that an adapter or a codec implements. An optional method exists or not. */
const SEAM = /^(Runtime|TransportBinding|DatagramBinding|FrameCodec)\./;
/** Objects that we pass to another package, as that package declares them. */
const GIVEN = /^NatsTransport\./;

/** The part of the output of `deno doc --json` that we need. */
interface DocNode {
  name?: unknown;
  extends?: { repr?: string }[];
  properties?: { name: string; optional: boolean; tsType?: DocType }[];
  methods?: { name: string; optional: boolean }[];
}

interface DocSymbol {
  name: string;
  declarations: { kind: string; def: DocNode }[];
}

interface DocType {
  repr?: string;
  kind?: string;
  value?: unknown;
}

describe("the optional properties of every exported type", () => {
  const found: { path: string; takesUndefined: boolean }[] = [];
  const methods: string[] = [];
  const interfaces: Map<string, DocNode> = new Map();

  before(async () => {
    const files = Object.values(
      json<{ exports: Record<string, string> }>("deno.json").exports,
    );
    const { nodes } = JSON.parse(
      await must(findRuntime("deno").path, [
        "doc",
        "--quiet",
        "--json",
        ...files,
      ]),
    ) as {
      nodes: Record<string, { symbols?: DocSymbol[] }>;
    };
    for (const { symbols = [] } of Object.values(nodes)) {
      visit(symbols, "");
      for (const { name, declarations: [declaration] } of symbols) {
        // The other types refer to it.
        if (declaration?.kind === "interface") {
          interfaces.set(name, declaration.def);
        }
      }
    }
  });

  /** Object types may be anywhere: in an interface, a type alias, a parameter. */
  function visit(node: unknown, path: string): void {
    if (Array.isArray(node)) return node.forEach((each) => visit(each, path));
    if (typeof node !== "object" || node === null) return;
    const { name, properties = [], methods: functions = [] } = node as DocNode;
    const here = typeof name === "string" ? `${path}.${name}`.replace(/^\./, "") : path;
    for (const { name, optional, tsType } of properties) {
      if (optional) {
        found.push({
          path: `${here}.${name}`,
          takesUndefined: takesUndefined(tsType),
        });
      }
    }
    for (const { name, optional } of functions) {
      if (optional) methods.push(`${here}.${name}`);
    }
    for (const value of Object.values(node)) visit(value, here);
  }

  function takesUndefined(type: DocType | undefined): boolean {
    if (type?.repr === "unknown" || type?.repr === "undefined") return true;
    return type?.kind === "union" &&
      (type.value as DocType[]).some(takesUndefined);
  }

  /** The names of the optional properties of an interface. */
  function optionalOf(name: string): string[] {
    const { extends: parents = [], properties = [] } = interfaces.get(name) ??
      {};
    return [
      ...parents.flatMap(({ repr = "" }) => optionalOf(repr)),
      ...properties.filter(({ optional }) => optional).map(({ name }) => name),
    ];
  }

  it("accept undefined", () => {
    assert(found.length > 80, `${found.length} properties`);
    const paths = found.filter(({ takesUndefined }) => !takesUndefined).map((
      { path },
    ) => path);
    assertEquals([...new Set(paths)].filter((path) => !GIVEN.test(path)), []);
  });

  it("are not methods if a user supplies them, because a method cannot be undefined", () => {
    assertEquals([...new Set(methods)].filter((path) => !SEAM.test(path)), []);
  });

  it("can all be undefined at run time", async () => {
    const names = [...interfaces.keys()].filter((name) => /Options$/.test(name) && optionalOf(name).length > 0).sort();
    assertEquals(Object.keys(CALLS).sort(), names);
    for (const name of names) {
      const sim = simRuntime();
      const undefinedOnes = Object.fromEntries(
        optionalOf(name).map((each) => [each, undefined]),
      );
      try {
        await sim.run(Promise.resolve(CALLS[name]?.(undefinedOnes, sim)));
      } catch (error) {
        throw new Error(`${name}: ${error}`, { cause: error });
      }
    }
  });
});

const HERE = { hostname: "127.0.0.1", port: 0 };
const PEM = { cert: "localhost, 127.0.0.1 signed by us", key: "key" };

/** Serves and connects, with options for one of them, and closes both. */
async function meet(
  sim: SimRuntime,
  serving: object,
  connecting: object,
): Promise<void> {
  const server = await serve({ ...serving, runtime: sim, ...HERE }, {});
  const client = await connect({
    ...connecting,
    runtime: sim,
    hostname: "127.0.0.1",
    port: server.port,
  });
  await client.close();
  await server.close();
}

/** Cancels an attempt to reach a port without a listener. */
async function comeBack(sim: SimRuntime, options: object): Promise<void> {
  await reconnect({ ...options, runtime: sim, port: 9 }).close();
}

/** A call with the options of each interface; required options are added. */
const CALLS: Record<string, (options: object, sim: SimRuntime) => unknown> = {
  BackoffOptions: (options, sim) => comeBack(sim, { backoff: options }),
  CompressionFilterOptions: (options, runtime) => {
    const [near] = bufferEventPair(new EventBase({ runtime }));
    compressionFilter(near, "gzip", options).free();
  },
  CompressionOptions: (options) => compress("gzip", options),
  ConnectionOptions: (options, sim) => meet(sim, options, options),
  ConnectOptions: (options, sim) => meet(sim, {}, options),
  DatagramOptions: async (options, sim) => (await DatagramSocket.open(sim, options)).close(),
  DecompressionOptions: (options) => decompress("gzip", options),
  EventBaseOptions: (options, runtime) => new EventBase({ ...options, runtime }).free(),
  EventErrorOptions: (options) => new EventError("no", { ...options, code: "EINVAL" }),
  FrameOptions: (options) => lengthPrefixed({ ...options, prefixBytes: 2 }),
  FrameViewOptions: (options, runtime) => {
    const [near] = bufferEventPair(new EventBase({ runtime }));
    near.frames(lengthPrefixed({ prefixBytes: 2 }), options);
    near.free();
  },
  KeepAliveOptions: (options, sim) => meet(sim, { keepAlive: options }, { keepAlive: options }),
  LengthPrefixOptions: (options) => lengthPrefixed({ ...options, prefixBytes: 4 }),
  LineOptions: (options) => lineCodec(options),
  LineViewOptions: (options, runtime) => {
    const [near] = bufferEventPair(new EventBase({ runtime }));
    near.lines(options);
    near.free();
  },
  ListenOptions: (options, sim) => meet(sim, options, {}),
  NatsTransportOptions: (options) => natsTransport(options),
  PairOptions: (options, runtime) => bufferEventPair(new EventBase({ runtime }), 0, options)[0].free(),
  PipeOptions: async (options, runtime) => {
    const base = new EventBase({ runtime });
    const [[near, a], [b, far]] = [
      bufferEventPair(base),
      bufferEventPair(base),
    ];
    const done = pipe(a, b, options);
    near.shutdown();
    far.shutdown();
    await Promise.all([done, base.dispatch()]);
  },
  ProxyProtocolOptions: async (options, sim) =>
    (await serve({ proxyProtocol: options, runtime: sim, ...HERE }, {}))
      .close(),
  ReadlnOptions: (options) => new EvBuffer().readln(EVBUFFER_EOL_LF, options),
  ReconnectOptions: (options, sim) => comeBack(sim, options),
  ServeOptions: (options, sim) => meet(sim, options, {}),
  SimOptions: (options) => simRuntime(options),
  CaptureOptions: (options) => simRuntime({ capture: options }),
  ExploreOptions: (options) => explore(() => {}, { ...options, seconds: 0 }),
  InstallOptions: (options, sim) => sim.install(options)(),
  LinkOptions: (options, sim) => sim.link("a", "b", options),
  SleepOptions: (options, runtime) => sleep(1, { ...options, base: new EventBase({ runtime }) }),
  SocketsOptions: async (options, sim) => {
    const server = await serve({ runtime: sim, ...HERE }, {});
    const socket = socketsConnect({
      hostname: "127.0.0.1",
      port: server.port ?? 0,
    }, { ...options, runtime: sim });
    await socket.opened;
    await socket.close();
    await server.close();
  },
  SocketsTlsOptions: async (options, sim) => {
    const server = await serve({ runtime: sim, ...HERE, tls: PEM }, {});
    const address = { hostname: "127.0.0.1", port: server.port ?? 0 };
    const tls = { ...options, ca: "us" };
    const socket = socketsConnect(address, {
      runtime: sim,
      secureTransport: "on",
      tls,
    });
    await socket.opened;
    await socket.close();
    await server.close();
  },
  StartTlsOptions: async (options, sim) => {
    const server = await serve({ runtime: sim, ...HERE, tls: PEM }, {});
    const client = await connect({
      runtime: sim,
      hostname: "127.0.0.1",
      port: server.port,
    });
    client.startTls({ ...options, ca: "us" });
    await client.close();
    await server.close();
  },
  StopOptions: (options, runtime) => {
    stopOnSignals(
      { base: new EventBase({ runtime }), close: () => {} },
      options,
    )();
  },
  TlsConnectOptions: (options, sim) => meet(sim, { tls: PEM }, { tls: { ...options, ca: "us" } }),
  TlsListenOptions: (options, sim) => meet(sim, { tls: { ...options, ...PEM } }, { tls: { ca: "us" } }),
  TlsServeOptions: (options, sim) => meet(sim, { tls: { ...options, ...PEM } }, { tls: { ca: "us" } }),
  TlsOptions: (options, sim) => meet(sim, { tls: PEM }, { tls: { ...options, ca: "us" } }),
  ToDuplexOptions: (options, runtime) => {
    const [near] = bufferEventPair(new EventBase({ runtime }));
    toDuplex(near, options).destroy();
  },
  TokenBucketOptions: (options) =>
    new TokenBucketConfig({
      ...options,
      readRate: 1,
      readBurst: 1,
      writeRate: 1,
      writeBurst: 1,
    }),
  ViewOptions: (options, runtime) => {
    const [near] = bufferEventPair(new EventBase({ runtime }));
    near.lines(options);
    near.free();
  },
  WaitOptions: async (options, runtime) => {
    const listening = await new EventBase({ runtime }).listen(HERE);
    await select({ read: [listening] }, 0, options);
    await listening.close();
  },
};
