/**
 * Third-party libraries over Trivent while the other end stalls, is cut off, or finishes. Data
 * stays complete, memory stays bounded, a failure is reported once, and nothing is left open. A
 * relay between both ends causes the faults, so that neither library takes part.
 */

import { Buffer } from "node:buffer";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import http2 from "node:http2";
import { connect as netConnect, createServer, type Server as NetServer, type Socket } from "node:net";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { type BufferEventDuplex, toDuplex, type ToDuplexOptions } from "../../bridges/duplex.ts";
import { type BufferEvent, connectNow, detectRuntime, serve } from "../../mod.ts";
import { needs } from "../tools/needs.ts";
import {
  checksumOf,
  dataOf,
  load,
  noPackages,
  nothingLeft,
  over as overOf,
  type Package,
  pause,
  sha,
  until,
  within,
} from "./others.ts";
import { folderFor, noMariadb, noPostgres, type Service, startMariadb, startPostgres, startRedis } from "./services.ts";

const host = detectRuntime();
/** More than two sockets of the kernel hold for each of the two connections of a relay. */
const DATA = dataOf(16_000_000, 131);
const HALF = DATA.subarray(0, 8_000_000);
/** It stalls after this number of bytes. */
const MIDDLE = 1_000_000;
const STALL_MS = 400;
/** The bytes that a stream and its connection may hold while the other end stalls. */
const MOST_HELD = 1_500_000;

/** The operations of the tests on a library that uses a relay. */
interface Session {
  /** Sends many bytes in both directions, and compares them. Fails if the connection fails. */
  transfer(): Promise<unknown>;
  /** Ends it from our side; also after the connection was lost. */
  end(): Promise<unknown> | void;
  /** The errors that the library has reported besides those that `transfer()` throws. */
  readonly errors?: unknown[];
  /** The number of errors that it reports when it loses a socket of `node:net`; by default 1. */
  readonly mostErrors?: number;
  /** Resolves when the library has reported the lost connection, if `transfer()` does not. */
  readonly lost?: Promise<unknown>;
}

interface Place {
  /** The destination of the relay. */
  readonly port: number;
  open(port: number): Promise<Session>;
  stop(): Promise<unknown>;
  /** The number of our listeners that it has. */
  readonly listeners?: number;
}

interface Library {
  readonly skip: string | false;
  /** Which end of the relay is ours. */
  readonly ours: "client" | "server";
  /** Starts the server. */
  place(): Promise<Place>;
}

// ---- the relay

class Relay {
  readonly #server: NetServer;
  readonly #sockets: { client: Socket; server: Socket }[] = [];
  #held: "client" | "server" | undefined;
  /** The number of bytes that have passed, in both directions. */
  carried = 0;

  static async open(target: number): Promise<Relay> {
    const relay = new Relay(target);
    await new Promise<void>((resolve) => relay.#server.listen(0, "127.0.0.1", resolve));
    return relay;
  }

  private constructor(target: number) {
    this.#server = createServer({ allowHalfOpen: true }, (client) => {
      const server = netConnect({ port: target, host: "127.0.0.1", allowHalfOpen: true });
      this.#sockets.push({ client, server });
      this.#couple("client", client, server);
      this.#couple("server", server, client);
    });
  }

  #couple(end: "client" | "server", from: Socket, to: Socket): void {
    let hasFailed = false;
    from.on("data", (chunk: Uint8Array) => {
      this.carried += chunk.length;
      if (to.write(chunk) || to.destroyed) return;
      from.pause();
      to.once("drain", () => void (this.#held === end || from.resume()));
    });
    from.on("end", () => void to.end());
    from.on("error", () => hasFailed = true);
    from.on("close", () => void (hasFailed ? to.resetAndDestroy() : to.end()));
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /**
   * Stops reading from one end. Data to it still passes, so that it has many requests to answer.
   */
  hold(end: "client" | "server"): void {
    this.#held = end;
    for (const sockets of this.#sockets) sockets[end].pause();
  }

  release(): void {
    this.#held = undefined;
    for (const { client, server } of this.#sockets) [client.resume(), server.resume()];
  }

  /** Resets both ends. */
  cut(): void {
    for (const { client, server } of this.#sockets) [client.resetAndDestroy(), server.resetAndDestroy()];
  }

  /** Sends one end the end of the other. */
  finish(end: "client" | "server"): void {
    for (const sockets of this.#sockets) sockets[end].end();
  }

  async stop(): Promise<void> {
    for (const { client, server } of this.#sockets) [client.destroy(), server.destroy()];
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

// ---- our streams

/** The events of our streams. */
const made: { stream: BufferEventDuplex; heard: string[] }[] = [];

function streamOf(bev: BufferEvent, options?: ToDuplexOptions): BufferEventDuplex {
  const stream = toDuplex(bev, options);
  const heard: string[] = [];
  stream.on("error", () => heard.push("error")).on("close", () => heard.push("close"));
  made.push({ stream, heard });
  return stream;
}

function streamTo(port: number): BufferEventDuplex {
  return streamOf(connectNow({ hostname: "127.0.0.1", port }));
}

/**
 * The bytes that a stream holds. A chunk that its user has written in one piece belongs to the
 * user, and is not copied.
 */
function heldBy({ bufferEvent: { input, output }, readableLength }: BufferEventDuplex): number {
  return input.length + output.length + readableLength;
}

// ---- servers over toDuplex()

/** Serves with Trivent, and passes the streams to a library. */
async function over(
  take: (stream: BufferEventDuplex) => unknown,
  open: (port: number) => Promise<Session>,
  stop: () => unknown = () => {},
  options: ToDuplexOptions = {},
): Promise<Place> {
  const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
    open: (bev) => void take(streamOf(bev, options)),
  });
  return {
    port: server.port!,
    listeners: 1,
    open,
    async stop() {
      await until(() => server.connections === 0);
      assertEquals(server.connections, 0, "a connection is not freed");
      await stop();
      await server.close();
    },
  };
}

/** Sends the received bytes back. It reads no more while the answer waits. */
async function echoBody(from: AsyncIterable<Uint8Array>, to: http.ServerResponse): Promise<void> {
  try {
    for await (const chunk of from) if (!to.write(chunk)) await once(to, "drain");
    to.end();
  } catch {
    to.destroy();
  }
}

/** Sends everything, with respect for back-pressure. */
async function sendAll(stream: NodeJS.WritableStream, data: Uint8Array): Promise<void> {
  for (let i = 0; i < data.length; i += 250_000) {
    if (!stream.write(data.subarray(i, i + 250_000))) {
      await Promise.race([once(stream, "drain"), once(stream, "close")]);
    }
  }
  stream.end();
}

const nodeHttp: Library = {
  skip: false,
  ours: "server",
  place() {
    const web = http.createServer((request, response) => void echoBody(request, response));
    // A client that has finished still gets its answer.
    (web as { httpAllowHalfOpen?: boolean }).httpAllowHalfOpen = true;
    return over(
      (stream) => web.emit("connection", stream),
      (port) => {
        const requests: http.ClientRequest[] = [];
        return Promise.resolve({
          async transfer() {
            const request = http.request({ port, host: "127.0.0.1", method: "POST", agent: false });
            requests.push(request);
            const answered = once(request, "response") as Promise<[http.IncomingMessage]>;
            answered.catch(() => {});
            void sendAll(request, DATA).catch(() => {});
            const [response] = await answered;
            assertEquals((await checksumOf(response)).sha, sha(DATA));
          },
          end: () => requests.forEach((request) => request.destroy()),
        });
      },
      undefined,
      { allowHalfOpen: true },
    );
  },
};

const nodeHttpClient: Library = {
  skip: false,
  ours: "client",
  async place() {
    const web = http.createServer((request, response) => void echoBody(request, response));
    await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
    return {
      port: (web.address() as { port: number }).port,
      open: (port) =>
        Promise.resolve({
          async transfer() {
            const createConnection = (): never => streamTo(port) as never;
            const request = http.request({ method: "POST", createConnection, headers: { connection: "close" } });
            const answered = once(request, "response") as Promise<[http.IncomingMessage]>;
            answered.catch(() => {});
            void sendAll(request, DATA).catch(() => {});
            const [response] = await answered;
            assertEquals((await checksumOf(response)).sha, sha(DATA));
          },
          end() {},
        }),
      async stop() {
        web.closeAllConnections();
        await new Promise((resolve) => web.close(resolve));
      },
    };
  },
};

const ws: Library = {
  skip: noPackages,
  ours: "server",
  async place() {
    const { WebSocketServer, WebSocket } = await load("ws");
    const web = http.createServer();
    const sockets = new WebSocketServer({ server: web, perMessageDeflate: false });
    sockets.on("connection", (socket: Package) => {
      socket.on("error", () => {});
      socket.on("message", (data: Uint8Array) => {
        if (socket.bufferedAmount > 500_000) socket.pause();
        socket.send(data, () => socket.bufferedAmount === 0 && socket.resume());
      });
    });
    return over((stream) => web.emit("connection", stream), async (port) => {
      const client = new WebSocket(`ws://127.0.0.1:${port}/`);
      const errors: unknown[] = [];
      client.on("error", (error: unknown) => errors.push(error));
      await within("the handshake", once(client, "open"));
      const lost = new Promise<void>((resolve) => client.on("close", () => resolve()));
      return {
        errors,
        lost,
        async transfer() {
          const got: Uint8Array[] = [];
          client.on("message", (data: Uint8Array) => got.push(data));
          for (let i = 0; i < 80; i++) client.send(DATA.subarray(i * 200_000, (i + 1) * 200_000));
          await until(() => got.length === 80 || client.readyState !== 1);
          assertEquals(sha(...got), sha(DATA));
        },
        async end() {
          client.close();
          await within("the close", lost);
        },
      };
    }, () => sockets.close());
  },
};

const nodeHttp2: Library = {
  skip: false,
  ours: "server",
  place() {
    const web = http2.createServer();
    web.on("sessionError", () => {}).on("stream", (stream) => void stream.on("error", () => {}));
    web.on("request", (request, response) => void echoBody(request as never, response as never));
    return over((stream) => web.emit("connection", stream), async (port) => {
      const client = http2.connect(`http://127.0.0.1:${port}`);
      const errors: unknown[] = [];
      client.on("error", (error) => errors.push(error));
      await within("the session", once(client, "connect"));
      const lost = new Promise<void>((resolve) => client.on("close", () => resolve()));
      return {
        errors,
        lost,
        async transfer() {
          const request = client.request({ ":method": "POST" });
          request.on("error", () => {});
          void sendAll(request, DATA).catch(() => {});
          assertEquals((await checksumOf(request)).sha, sha(DATA));
        },
        end: () => client.destroy(),
      };
    });
  },
};

/** A client of mqtt that receives its own messages. */
async function mqttSession(client: Package): Promise<Session> {
  const errors: unknown[] = [];
  client.on("error", (error: unknown) => errors.push(error));
  const lost = new Promise<void>((resolve) => client.on("close", () => resolve()));
  await within("the connection", once(client, "connect"));
  await client.subscribeAsync("t", { qos: 1 });
  return {
    errors,
    lost,
    async transfer() {
      const got: Uint8Array[] = [];
      client.on("message", (_topic: string, payload: Uint8Array) => got.push(payload));
      const all: Promise<unknown>[] = [];
      for (let i = 0; i < 16; i++) {
        all.push(client.publishAsync("t", Buffer.from(DATA.subarray(i * 1e6, (i + 1) * 1e6)), { qos: 1 }));
      }
      await Promise.all(all);
      await until(() => got.length === 16);
      assertEquals(sha(...got), sha(DATA));
    },
    end: () => client.endAsync(true).catch(() => {}),
  };
}

const MQTT = { reconnectPeriod: 0, clientId: "own" };

const aedes: Library = {
  skip: noPackages,
  ours: "server",
  async place() {
    const [{ Aedes }, mqtt] = [await load("aedes"), await load("mqtt")];
    const broker = await Aedes.createBroker();
    return over(
      (stream) => broker.handle(stream),
      (port) => mqttSession(mqtt.connect(`mqtt://127.0.0.1:${port}`, MQTT)),
      () => new Promise<void>((resolve) => broker.close(resolve)),
    );
  },
};

const mqttClient: Library = {
  skip: noPackages,
  ours: "client",
  async place() {
    const [{ Aedes }, mqtt] = [await load("aedes"), await load("mqtt")];
    const broker = await Aedes.createBroker();
    // On Deno, aedes over node:net stalls at large messages, without Trivent too.
    if (host.name === "deno") {
      return over(
        (stream) => broker.handle(stream),
        (port) => mqttSession(new mqtt.MqttClient(() => streamTo(port), MQTT)),
        () => new Promise<void>((resolve) => broker.close(resolve)),
      );
    }
    const server = createServer(broker.handle);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return {
      port: (server.address() as { port: number }).port,
      open: (port) => mqttSession(new mqtt.MqttClient(() => streamTo(port), MQTT)),
      async stop() {
        await new Promise<void>((resolve) => broker.close(resolve));
        await new Promise((resolve) => server.close(resolve));
      },
    };
  },
};

const ssh2: Library = {
  skip: noPackages || needs("ssh", "curl"),
  ours: "server",
  async place() {
    const ssh2: Package = await load("ssh2");
    const folder = folderFor("ssh-peers");
    const key = ssh2.utils.generateKeyPairSync("rsa", { bits: 2048 });
    const user = ssh2.utils.generateKeyPairSync("rsa", { bits: 2048 });
    const identity = join(folder, "id");
    writeFileSync(identity, user.private);
    chmodSync(identity, 0o600);
    const ssh = new ssh2.Server({ hostKeys: [key.private] }, (client: Package) => {
      client.on("error", () => {});
      client.on("authentication", (context: Package) => {
        if (context.method === "publickey") context.accept();
        else context.reject();
      });
      client.on("session", (accept: () => Package) => {
        accept().on("exec", (accept: () => Package) => {
          const channel = accept();
          channel.on("error", () => {});
          // The client has finished then, so the answer ends after it.
          channel.on("end", () => channel.exit(0));
          channel.pipe(channel);
        });
      });
    });
    return over((stream) => ssh.injectSocket(stream), (port) => {
      const options = [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=QUIET",
        "IdentitiesOnly=yes",
      ];
      const args = [
        ...["-F", "none", "-p", `${port}`, "-i", identity, ...options.flatMap((option) => ["-o", option])],
        ...["user@127.0.0.1", "echo"],
      ];
      const child = spawn("ssh", args, { stdio: ["pipe", "pipe", "ignore"] });
      child.stdin.on("error", () => {});
      const closed = once(child, "close");
      return Promise.resolve({
        lost: closed,
        async transfer() {
          void sendAll(child.stdin, DATA).catch(() => {});
          assertEquals((await checksumOf(child.stdout)).sha, sha(DATA));
        },
        async end() {
          child.kill();
          await within("the end of ssh", closed);
        },
      });
    }, () => rmSync(folder, { recursive: true, force: true }));
  },
};

// ---- clients over connectNow()

/** A third-party service as a destination. */
function serviceAt(
  service: Service,
  open: (port: number) => Promise<Session>,
  stop: () => Promise<unknown> = () => service.stop(),
): Place {
  return { port: service.port, open, stop };
}

let postgres: Promise<Service> | undefined;
after(async () => void await (await postgres)?.stop());

/** One PostgreSQL for its two drivers. */
async function postgresAt(open: (port: number) => Promise<Session>): Promise<Place> {
  postgres ??= startPostgres();
  return serviceAt(await postgres, open, () => Promise.resolve());
}

const pg: Library = {
  skip: noPackages || noPostgres,
  ours: "client",
  async place() {
    const pg: Package = await load("pg");
    return postgresAt(async (port) => {
      const client = new pg.Client({
        stream: () => streamTo(port),
        user: "postgres",
        password: "secret",
        database: "postgres",
      });
      const errors: unknown[] = [];
      client.on("error", (error: unknown) => errors.push(error));
      const lost = new Promise<void>((resolve) => client.on("end", () => resolve()));
      await client.connect();
      return {
        errors,
        lost,
        // It reports the failure of its socket and then its end, also on a socket of node:net.
        mostErrors: 2,
        async transfer() {
          const { rows: [row] } = await client.query("SELECT $1::bytea AS data", [HALF]);
          assertEquals(sha(row.data), sha(HALF));
        },
        end: () => client.end().catch(() => {}),
      };
    });
  },
};

const postgresJs: Library = {
  skip: noPackages || noPostgres,
  ours: "client",
  async place() {
    const postgres = (await load("postgres")).default ?? await load("postgres");
    return postgresAt(async (port) => {
      let lose: (() => void) | undefined;
      const lost = new Promise<void>((resolve) => lose = resolve);
      const sql = postgres({
        ...{ host: "127.0.0.1", port, user: "postgres", password: "secret", database: "postgres", max: 1 },
        onnotice: () => {},
        onclose: () => lose?.(),
        socket: () => streamTo(port),
      });
      await sql`SELECT 1`;
      return {
        lost,
        async transfer() {
          const [row] = await sql`SELECT ${HALF}::bytea AS data`;
          assertEquals(sha(row.data), sha(HALF));
        },
        end: () => sql.end({ timeout: 1 }).catch(() => {}),
      };
    });
  },
};

const mysql2: Library = {
  skip: noPackages || noMariadb,
  ours: "client",
  async place() {
    const mysql: Package = await load("mysql2/promise");
    return serviceAt(await startMariadb(), async (port) => {
      const stream = (): BufferEventDuplex => streamTo(port);
      const client = await mysql.createConnection({ stream, user: "test", password: "secret", database: "test" });
      const errors: unknown[] = [];
      client.on("error", (error: unknown) => errors.push(error));
      await client.query("CREATE TEMPORARY TABLE blobs (data LONGBLOB)");
      return {
        errors,
        async transfer() {
          await client.query("INSERT INTO blobs VALUES (?)", [HALF]);
          const [[row]] = await client.query("SELECT data FROM blobs");
          assertEquals(sha(row.data), sha(HALF));
        },
        async end() {
          await client.end().catch(() => {});
          client.destroy();
        },
      };
    });
  },
};

const ioredis: Library = {
  skip: noPackages || needs("redis-server"),
  ours: "client",
  async place() {
    const { Redis } = await load("ioredis");
    return serviceAt(await startRedis(), async (port) => {
      class Connector {
        #stream: BufferEventDuplex | undefined;
        check(): boolean {
          return true;
        }
        connect(): Promise<BufferEventDuplex> {
          this.#stream = streamTo(port);
          return Promise.resolve(this.#stream);
        }
        disconnect(): void {
          this.#stream?.end();
        }
      }
      const redis = new Redis({ Connector, password: "secret", lazyConnect: true, retryStrategy: () => null });
      const errors: unknown[] = [];
      redis.on("error", (error: unknown) => errors.push(error));
      const lost = new Promise<void>((resolve) => redis.on("end", () => resolve()));
      await redis.connect();
      return {
        errors,
        lost,
        async transfer() {
          await redis.set("data", Buffer.from(DATA));
          assertEquals(sha(await redis.getBuffer("data")), sha(DATA));
        },
        end: () => redis.disconnect(),
      };
    });
  },
};

const undici: Library = {
  skip: noPackages || (host.name === "bun" && "Bun has a stub in place of undici"),
  ours: "client",
  async place() {
    const { Agent, request } = await load("undici");
    const web = http.createServer((request, response) => void echoBody(request, response));
    await new Promise<void>((resolve) => web.listen(0, "127.0.0.1", resolve));
    return {
      port: (web.address() as { port: number }).port,
      open(port) {
        const dispatcher = new Agent({
          connect(_options: unknown, done: (error: Error | null, stream?: BufferEventDuplex) => void) {
            const stream = streamTo(port);
            stream.once("error", done);
            stream.once("connect", () => {
              stream.off("error", done);
              done(null, stream);
            });
          },
        });
        return Promise.resolve({
          async transfer() {
            const answer = await request(`http://127.0.0.1:${port}/`, { method: "POST", body: DATA, dispatcher });
            assertEquals(sha(new Uint8Array(await answer.body.arrayBuffer())), sha(DATA));
          },
          end: () => dispatcher.destroy(),
        });
      },
      async stop() {
        web.closeAllConnections();
        await new Promise((resolve) => web.close(resolve));
      },
    };
  },
};

const nodemailer: Library = {
  skip: noPackages,
  ours: "client",
  async place() {
    const { createTransport } = await load("nodemailer");
    const mails: string[] = [];
    const server = createServer((socket) => {
      let parts: string[] | undefined;
      let tail = "";
      socket.on("error", () => {});
      socket.setEncoding("latin1").write("220 mail ESMTP\r\n");
      socket.on("data", (chunk: string) => {
        tail = (tail + chunk).slice(-5);
        if (parts === undefined) {
          // The client waits for each answer, so it sends single commands.
          if (!chunk.endsWith("\r\n")) return;
          if (tail === "QUIT\r\n".slice(-5)) return void socket.end("221 bye\r\n");
          if (chunk === "DATA\r\n") parts = [];
          socket.write(parts === undefined ? "250 ok\r\n" : "354 go\r\n");
          return;
        }
        parts.push(chunk);
        if (tail !== "\r\n.\r\n") return;
        mails.push(parts.join("").slice(0, -5));
        parts = undefined;
        socket.write("250 ok\r\n");
      });
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return {
      port: (server.address() as { port: number }).port,
      open(port) {
        const transport = createTransport({
          host: "localhost",
          port,
          ignoreTLS: true,
          getSocket(_options: unknown, done: (error: Error | null, socket: unknown) => void) {
            const stream = streamTo(port);
            stream.once("error", (error) => done(error, undefined));
            stream.once("connect", () => done(null, { connection: stream }));
          },
        });
        return Promise.resolve({
          async transfer() {
            await transport.sendMail({
              from: "a@example.org",
              to: "b@example.org",
              attachments: [{ filename: "bytes", content: Buffer.from(DATA) }],
            });
            const [, base64 = ""] = /\r\n\r\n([A-Za-z0-9+/=\r\n]+)$/.exec(mails.pop() ?? "") ?? [];
            assertEquals(sha(Buffer.from(base64, "base64")), sha(DATA));
          },
          end: () => transport.close(),
        });
      },
      stop: () => new Promise((resolve) => server.close(resolve)),
    };
  },
};

const LIBRARIES: Readonly<Record<string, Library>> = {
  "node:http": nodeHttp,
  "node:http as a client": nodeHttpClient,
  "ws": ws,
  "node:http2": nodeHttp2,
  "aedes": aedes,
  "mqtt": mqttClient,
  "ssh2 with OpenSSH": ssh2,
  "pg": pg,
  "postgres.js": postgresJs,
  "mysql2": mysql2,
  "ioredis": ioredis,
  "undici": undici,
  "nodemailer": nodemailer,
};

describe(`node:http over toDuplex() on ${host.name}, to a client that finishes first`, () => {
  after(() => nothingLeft());

  it("answers, if the stream and the server may stay half-open", async () => {
    const web = http.createServer(async (request, response) => {
      const { sha } = await checksumOf(request);
      await pause(30);
      response.end(sha);
    });
    (web as { httpAllowHalfOpen?: boolean }).httpAllowHalfOpen = true;
    const place = await over(
      (stream) => web.emit("connection", stream),
      () => Promise.reject(new Error("it has no session")),
      undefined,
      { allowHalfOpen: true },
    );
    const socket = netConnect({ port: place.port, host: "127.0.0.1", allowHalfOpen: true });
    socket.write(`POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: ${HALF.length}\r\n\r\n`);
    socket.end(HALF);
    let answer = "";
    socket.on("data", (chunk) => answer += chunk);
    await overOf(socket);
    socket.destroy();
    assertEquals(answer.split("\r\n\r\n")[1]?.includes(sha(HALF)), true, answer);
    await place.stop();
  });
});

for (const [name, { skip, ours, place }] of Object.entries(LIBRARIES)) {
  describe(`${name} over toDuplex() on ${host.name}`, { skip }, () => {
    let there: Place | undefined;

    /** Runs a test with a session of the library over a relay. */
    async function scene(body: (session: Session, relay: Relay) => Promise<void>): Promise<void> {
      there ??= await place();
      made.length = 0;
      const relay = await Relay.open(there.port);
      const session = await within("the session", there.open(relay.port));
      try {
        await body(session, relay);
        await session.end();
        await until(() => made.every(({ heard }) => heard.includes("close")));
        await nothingLeft(there.listeners);
        for (const { heard } of made) {
          assert(heard.length <= 2 && heard.at(-1) === "close", `a stream has reported ${heard.join(", ")}`);
        }
      } finally {
        await session.end();
        await relay.stop();
      }
    }

    after(async () => {
      await there?.stop();
      await nothingLeft();
    });

    it("buffers little while the other end stalls, and loses nothing", () =>
      scene(async (session, relay) => {
        let isDone = false;
        const transfer = session.transfer().then(() => isDone = true);
        await until(() => relay.carried > MIDDLE);
        relay.hold(ours);
        let most = 0;
        for (const from = Date.now(); Date.now() < from + STALL_MS; await pause(20)) {
          most = Math.max(most, ...made.map(({ stream }) => heldBy(stream)));
        }
        assertEquals(isDone, false, "it did not stall");
        assert(most < MOST_HELD, `${most} bytes were held`);
        relay.release();
        await within("the transfer", transfer);
        assertEquals(session.errors ?? [], []);
      }));

    it("reports once that the connection is reset", () =>
      scene(async (session, relay) => {
        let failures = 0;
        const transfer = session.transfer().catch(() => failures++);
        await until(() => relay.carried > MIDDLE);
        relay.cut();
        await within("the loss", Promise.race([transfer, session.lost ?? transfer]));
        await pause(30);
        const { errors = [], mostErrors = 1 } = session;
        assert(errors.length <= mostErrors, `${errors.length} errors: ${errors.join(", ")}`);
        assert(failures <= 1);
      }));

    it("closes when the other end has finished", () =>
      scene(async (session, relay) => {
        // A library without a permanent connection makes one for its transfer.
        if (made.length === 0) return;
        await until(() => relay.carried > 0);
        relay.finish(ours);
        await until(() => made.every(({ heard }) => heard.length > 0));
        assertEquals(made.map(({ heard }) => heard.join()), made.map(() => "close"));
        assert((session.errors?.length ?? 0) <= 1, `${session.errors}`);
      }));
  });
}
