// natsTransport(): the real nats-core with the real broker, and failures between them.

import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { after, afterEach, before, describe, it } from "node:test";
import { type ConnectionOptions, NatsConnectionImpl, setTransportFactory } from "@nats-io/nats-core/internal";
import type { NatsConnection, Status } from "@nats-io/nats-core";
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { natsTransport } from "../../bridges/nats.ts";
import { defaultRuntime, EventError, type Runtime } from "../../mod.ts";
import { makeCertificates } from "../conformance/certificates.ts";
import { needs } from "../tools/needs.ts";
import { start } from "../tools/processes.mjs";
import { ROOT } from "../tools/runtimes.mjs";

const PATIENCE_MS = 60_000;
const runtime: Runtime = defaultRuntime();
const directory = mkdtempSync(join(tmpdir(), "trivent-nats-"));
const certificates = needs("openssl") ? undefined : makeCertificates(directory);
const withoutTls = certificates === undefined ? "openssl is not installed" : !runtime.capabilities.tls && "no TLS";

interface Broker {
  port: number;
  pid: number;
  stop(signal?: string): Promise<string | null>;
}

const brokers: Broker[] = [];
const connections: NatsConnection[] = [];

async function startBroker(port = 0, ...args: string[]): Promise<Broker> {
  const { match, pid, stop } = await start("nats-server", [
    "-a",
    "127.0.0.1",
    "-p",
    String(port || -1),
    ...args,
  ], {
    ready: /Listening for client connections on 127\.0\.0\.1:(\d+)[^]*Server is ready/,
  });
  const broker = { port: Number(match[1]), pid, stop };
  brokers.push(broker);
  return broker;
}

async function connect(
  servers: string,
  options: ConnectionOptions = {},
): Promise<NatsConnection> {
  const nats = await NatsConnectionImpl.connect({
    servers,
    reconnect: false,
    timeout: PATIENCE_MS,
    ...options,
  });
  connections.push(nats);
  return nats;
}

const url = ({ port }: { port: number }): string => `127.0.0.1:${port}`;

async function eventually(what: string, holds: () => boolean): Promise<void> {
  for (
    const until = Date.now() + PATIENCE_MS;
    !holds();
    await new Promise((resolve) => setTimeout(resolve, 10))
  ) {
    if (Date.now() > until) {
      throw new Error(`${what}: not within ${PATIENCE_MS} ms`);
    }
  }
}

/** A server that is not a broker. */
async function impostor(
  onConnection: (write: (text: string) => void) => void,
): Promise<{ port: number; server: Server }> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    onConnection((text) => void socket.end(text));
  });
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", () => resolve()));
  return { port: (server.address() as { port: number }).port, server };
}

describe(`nats-core on ${runtime.name}`, { skip: needs("nats-server") }, () => {
  let broker: Broker;
  before(async () => {
    setTransportFactory(natsTransport());
    broker = await startBroker();
  });
  afterEach(async () => {
    await Promise.all(connections.splice(0).map((nats) => nats.close()));
    await eventually("nothing is open", () => runtime.openHandles === 0);
  });
  after(async () => {
    await Promise.all(brokers.map((each) => each.stop("SIGKILL")));
    rmSync(directory, { recursive: true });
  });

  it("carries many small and some large messages, and answers to requests", async () => {
    const [from, to] = [await connect(url(broker)), await connect(url(broker))];
    const sent = createHash("sha256");
    const received = createHash("sha256");
    let count = 0;
    to.subscribe("data", {
      callback: (_, { data }) => {
        received.update(data);
        count++;
      },
    });
    to.subscribe("question", {
      callback: (_, message) => void message.respond(`${message.string()}!`),
    });
    await to.flush();
    for (let i = 0; i < 5000; i++) {
      const bytes = new TextEncoder().encode(`message ${i} `);
      sent.update(bytes);
      from.publish("data", bytes);
    }
    for (let i = 0; i < 20; i++) {
      const bytes = randomBytes(900_000);
      sent.update(bytes);
      from.publish("data", bytes);
    }
    await eventually("all has come", () => count === 5020);
    assertEquals(received.digest("hex"), sent.digest("hex"));
    assertEquals((await from.request("question", "well")).string(), "well!");
  });

  it("delivers published messages with drain()", async () => {
    const [from, to] = [await connect(url(broker)), await connect(url(broker))];
    let count = 0;
    to.subscribe("last", { callback: () => void count++ });
    await to.flush();
    for (let i = 0; i < 1000; i++) from.publish("last", new Uint8Array(1000));
    await from.drain();
    await eventually("all has come", () => count === 1000);
    assert(from.isClosed());
  });

  it("sends user, password and token, and fails with the broker's message for a wrong one", async () => {
    const [secret, token] = [
      await startBroker(0, "--user", "ada", "--pass", "right"),
      await startBroker(0, "--auth", "t"),
    ];
    await connect(url(secret), { user: "ada", pass: "right" });
    await connect(url(token), { token: "t" });
    for (const options of [{ user: "ada", pass: "wrong" }, {}]) {
      const error = await assertRejects(
        () => connect(url(secret), options),
        Error,
      );
      assertEquals([error.name, error.message], [
        "AuthorizationError",
        "Authorization Violation",
      ]);
    }
  });

  it("fails at once if nobody listens, and with a message if the peer is not a broker", async () => {
    const dead = await startBroker();
    await dead.stop("SIGKILL");
    await assertRejects(() => connect(url(dead)), Error, "ECONNREFUSED");
    const web = await impostor((write) => write("HTTP/1.1 400 Bad Request\r\n\r\n"));
    await assertRejects(
      () => connect(url(web)),
      Error,
      'the peer is not a NATS broker: received "HTTP/1.1 400 Bad Request"',
    );
    const mute = await impostor((write) => write(""));
    await assertRejects(
      () => connect(url(mute)),
      Error,
      "the broker closed at once",
    );
    const garbage = await impostor((write) => write("INFO {\r\n"));
    await assertRejects(() => connect(url(garbage)), Error);
    const silent = await impostor(() => {});
    await assertRejects(() => connect(url(silent), { timeout: 300 }), Error);
    for (const { server } of [web, mute, garbage, silent]) server.close();
  });

  it("connects again when the broker is restarted, with its subscriptions", async () => {
    const mortal = await startBroker();
    const options = {
      reconnect: true,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 50,
      reconnectJitter: 10,
    };
    const nats = await connect(url(mortal), options);
    const told: Status["type"][] = [];
    void (async () => {
      for await (const { type } of nats.status()) told.push(type);
    })();
    const heard: string[] = [];
    nats.subscribe("again", {
      callback: (_, message) => void heard.push(message.string()),
    });
    await nats.flush();
    await mortal.stop("SIGKILL");
    await eventually("it is notified", () => told.includes("disconnect"));
    await startBroker(mortal.port);
    await eventually("it is back", () => told.includes("reconnect"));
    nats.publish("again", "hello");
    await eventually("the message", () => heard.includes("hello"));
  });

  it("closes while it waits for a broker", async () => {
    const mortal = await startBroker();
    const nats = await connect(url(mortal), {
      reconnect: true,
      maxReconnectAttempts: -1,
      reconnectTimeWait: 20,
    });
    await mortal.stop("SIGKILL");
    await new Promise((resolve) => setTimeout(resolve, 200));
    await nats.close();
    assert(nats.isClosed());
  });

  it("limits the output for a broker that does not read", async () => {
    const stuck = await startBroker();
    setTransportFactory(natsTransport({ maxOutputBytes: 4 << 20 }));
    try {
      const nats = await connect(url(stuck));
      process.kill(stuck.pid, "SIGSTOP");
      let published = 0;
      try {
        for (; published < 400 && !nats.isClosed(); published++) {
          nats.publish("flood", new Uint8Array(500_000));
          await new Promise((resolve) => setTimeout(resolve));
        }
      } catch {
        // It has closed between two messages.
      }
      await eventually("it closes", () => nats.isClosed());
      const error = await nats.closed();
      assert(
        error instanceof EventError && error.code === "ENOBUFS",
        String(error),
      );
      assert(published < 100, `${published} were taken`);
    } finally {
      process.kill(stuck.pid, "SIGCONT");
      setTransportFactory(natsTransport());
    }
  });

  it(
    "upgrades to TLS, and refuses a stranger's certificate and a broker without TLS",
    { skip: withoutTls },
    async () => {
      const { ca, cert, key } = certificates as NonNullable<
        typeof certificates
      >;
      writeFileSync(join(directory, "broker.pem"), cert as string);
      writeFileSync(join(directory, "broker.key"), key as string, {
        mode: 0o600,
      });
      const files = [
        "--tls",
        "--tlscert",
        join(directory, "broker.pem"),
        "--tlskey",
        join(directory, "broker.key"),
      ];
      const secure = await startBroker(0, ...files);
      const nats = await connect(`tls://localhost:${secure.port}`, {
        tls: { ca: ca as string },
      });
      let heard = "";
      nats.subscribe("secret", {
        callback: (_, message) => void (heard = message.string()),
      });
      nats.publish("secret", "x".repeat(100_000));
      await nats.flush();
      await eventually("the message", () => heard === "x".repeat(100_000));
      const stranger = await assertRejects(
        () => connect(`localhost:${secure.port}`),
        Error,
      );
      assert(/certificate|ERR_TLS/.test(stranger.message), stranger.message);
      await assertRejects(
        () => connect(`tls://127.0.0.1:${broker.port}`),
        Error,
        "the broker does not offer TLS",
      );
      await assertRejects(
        () => connect(url(broker), { tls: {} }),
        Error,
        "does not offer TLS",
      );
      await assertRejects(
        () => connect(url(broker), { tls: { caFile: "ca.pem" } }),
        Error,
        "read the file",
      );
    },
  );

  it("sends its name and version, and refuses wrong options with a message", async () => {
    const { version } = JSON.parse(
      readFileSync(join(ROOT, "package.json"), "utf8"),
    );
    const transport = natsTransport().factory?.();
    assertEquals([transport?.lang, transport?.version], ["trivent", version]);
    assertEquals(natsTransport().defaultPort, 4222);
    assertThrows(
      () => natsTransport({ maxOutput: 1 } as object),
      TypeError,
      "maxOutputBytes",
    );
    assertThrows(() => natsTransport({ maxOutputBytes: -1 }), RangeError);
    assertThrows(
      () => natsTransport({ runtime: 5 as unknown as Runtime }),
      TypeError,
    );
    await transport?.close();
  });
});
