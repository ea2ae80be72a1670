/**
 * Three gateways (one on each runtime) behind HAProxy, three brokers of NATS, and many clients in
 * rooms. Parts of it are ended on purpose. Every client counts its messages: each must arrive once,
 * and those of a sender in order.
 */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect as dial, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { reconnect } from "trivent";
import { start } from "./processes.mjs";
import { exampleCommand, findRuntime, plainEnvironment, ROOT, RUNTIMES } from "./runtimes.mjs";

const BROKERS = 3;
/** A step that takes longer has failed. */
const PATIENCE_MS = 60_000;
/** When parts have failed and nothing has arrived for this time, nothing more is expected. */
const QUIET_MS = 3000;
const CUT_MS = 5000;
const SLICE_MS = 5;

/**
 * Runs the cluster, from the start of all processes to their end.
 *
 * @param {{ clients: number, rooms: number, messages: number, rate: number, print(line: string): void, isShort?: boolean }} options
 *   `messages`: the number that each client sends in a phase; `rate`: messages a second of all clients while parts fail;
 *   `isShort`: without the phases that only measure
 * @returns {Promise<Phase[]>}
 */
export async function runCluster({ clients, rooms, messages, rate, print, isShort = false }) {
  const directory = mkdtempSync(join(tmpdir(), "cluster-"));
  const parts = [];
  const phases = [];
  const crowd = new Crowd(rooms);
  const done = (phase) => {
    phases.push(phase);
    print(describePhase(phase));
  };
  try {
    const brokers = await startBrokers(directory);
    parts.push(...brokers);
    const relay = await Relay.open(brokers[2].port);
    parts.push(relay);
    const urls = (ports) => ports.map((port) => `nats://127.0.0.1:${port}`).join(",");
    const [first, second] = brokers.map(({ port }) => port);

    if (!isShort) {
      const alone = await startGateway("node", urls([first]));
      const one = await startHaproxy(directory, "one", [alone.port]);
      parts.push(alone, one);
      await crowd.connect(clients, one.port);
      done(await crowd.exchange("1 gateway, as fast as it goes", messages));
      done(await crowd.exchange("1 gateway, steady", messages, { rate }));
      await crowd.close();
      await Promise.all([one.stop("SIGKILL"), alone.end()]);
    }

    const gateways = await Promise.all(
      RUNTIMES.map((runtime, i) => startGateway(runtime, urls([[first, second], [second, first], [relay.port]][i]))),
    );
    parts.push(...gateways);
    const proxy = await startHaproxy(directory, "three", gateways.map(({ port }) => port));
    parts.push(proxy);
    await crowd.connect(clients, proxy.port);
    done(await crowd.exchange("3 gateways, as fast as it goes", messages));
    if (!isShort) done(await crowd.exchange("3 gateways, steady", messages, { rate }));

    done(
      await crowd.exchange("a link to a broker is cut", messages, {
        rate,
        breaks: async () => {
          relay.cut();
          await sleep(CUT_MS);
          await relay.heal();
        },
      }),
    );
    await crowd.settle();
    done(await crowd.exchange("after the cut", messages, { rate }));

    done(await crowd.exchange("a broker is killed", messages, { rate, breaks: () => brokers[0].stop("SIGKILL") }));
    await crowd.settle();
    done(await crowd.exchange("after the broker's end", messages, { rate }));

    done(await crowd.exchange("a gateway is killed", messages, { rate, breaks: () => gateways[0].stop("SIGKILL") }));
    await crowd.settle();
    done(await crowd.exchange("after the gateway's end", messages, { rate }));

    done(await crowd.exchange("a gateway stops", messages, { rate, breaks: () => gateways[1].end() }));
    await crowd.settle();
    done(await crowd.exchange("after the gateway's stop", messages, { rate }));
    await crowd.close();
    await gateways[2].end();
  } finally {
    await crowd.close();
    await Promise.all(parts.map((part) => part.stop("SIGKILL")));
    rmSync(directory, { recursive: true, force: true });
  }
  return phases;
}

/**
 * @typedef {object} Phase
 * @property {string} name
 * @property {boolean} exact Nothing was broken: each message must arrive
 * @property {number} sent Messages that clients sent
 * @property {number} expected Deliveries: each message to all others in its room
 * @property {number} received Deliveries that came
 * @property {number} doubled Deliveries that arrived a second time
 * @property {number} unordered Deliveries after a later one of the same sender
 * @property {number} told Messages that a gateway has reported as not delivered to others
 * @property {number} reconnects Connections that clients opened again
 * @property {number} seconds
 * @property {number} p50 Milliseconds from sender to reader
 * @property {number} p99
 */

/** All clients. */
class Crowd {
  #rooms;
  /** @type {Member[]} */
  #members = [];
  /** @type {Phase | null} */
  phase = null;
  /** @type {number[]} */
  latencies = [];
  number = 0;
  reconnects = 0;

  constructor(rooms) {
    this.#rooms = rooms;
  }

  async connect(count, port) {
    for (let i = 0; i < count; i++) {
      this.#members.push(new Member(this, i, `room-${i % this.#rooms}`, port));
      if (i % 50 === 49) await this.#members[i].joined();
    }
    await this.settle();
  }

  async close() {
    await Promise.all(this.#members.splice(0).map((member) => member.close()));
  }

  /** Waits until every client is in its room, and receives messages of all others there. */
  async settle() {
    await Promise.all(this.#members.map((member) => member.joined()));
    this.number++;
    for (const { heard } of this.#members) heard.clear();
    const sizes = this.#sizes();
    for (const until = Date.now() + PATIENCE_MS;;) {
      const deaf = this.#members.filter(({ heard, room }) => heard.size < sizes.get(room) - 1);
      if (deaf.length === 0) return;
      if (Date.now() > until) {
        throw new Error(`${deaf.length} clients do not receive from all others, ${deaf[0].id} first`);
      }
      const missed = new Set(deaf.map(({ room }) => room));
      for (const member of this.#members) if (missed.has(member.room)) member.say(`${this.number} -1 0`);
      await sleep(500);
    }
  }

  /** The number of clients in each room. */
  #sizes() {
    const sizes = new Map();
    for (const { room } of this.#members) sizes.set(room, (sizes.get(room) ?? 0) + 1);
    return sizes;
  }

  /** Each client sends a number of messages. `breaks` is called when a third of them are sent. */
  async exchange(name, messages, { rate = Infinity, breaks } = {}) {
    const sizes = this.#sizes();
    this.number++;
    this.latencies = [];
    this.reconnects = 0;
    const started = performance.now();
    /** @type {Phase} */
    const phase = this.phase = {
      name,
      exact: breaks === undefined,
      sent: 0,
      expected: 0,
      received: 0,
      doubled: 0,
      unordered: 0,
      told: 0,
      reconnects: 0,
      seconds: 0,
      p50: 0,
      p99: 0,
    };
    let broken;
    const total = messages * this.#members.length;
    for (let turn = 0; turn < total;) {
      const due = rate === Infinity ? turn + 100 : Math.ceil((performance.now() - started) / 1000 * rate);
      for (; turn < Math.min(due, total); turn++) {
        const member = this.#members[turn % this.#members.length];
        const sequence = Math.floor(turn / this.#members.length);
        if (!member.say(`${this.number} ${sequence} ${performance.now().toFixed(3)}`)) continue;
        phase.sent++;
        phase.expected += sizes.get(member.room) - 1;
      }
      if (turn > total / 3) broken ??= breaks?.() ?? Promise.resolve();
      await sleep(rate === Infinity ? 0 : SLICE_MS);
    }
    await broken;
    let before = -1;
    let last = performance.now();
    // Without a failure everything arrives, however busy the machine is.
    const quietMs = phase.exact ? PATIENCE_MS : QUIET_MS;
    for (let quiet = Date.now(); phase.received < phase.expected && Date.now() < quiet + quietMs;) {
      if (phase.received !== before) [before, quiet, last] = [phase.received, Date.now(), performance.now()];
      await sleep(SLICE_MS);
    }
    if (phase.received === phase.expected) last = performance.now();
    this.phase = null;
    this.latencies.sort((a, b) => a - b);
    const quantile = (part) => this.latencies[Math.floor(this.latencies.length * part)] ?? 0;
    return Object.assign(phase, {
      reconnects: this.reconnects,
      seconds: (last - started) / 1000,
      p50: quantile(0.5),
      p99: quantile(0.99),
    });
  }
}

/** One client. */
class Member {
  /** The senders of messages since the clients settled. */
  heard = new Set();
  #heardIn = 0;
  /** The last message of each sender. */
  #last = new Map();
  #crowd;
  #link;
  #isReady = false;
  #opened = 0;

  constructor(crowd, id, room, port) {
    this.#crowd = crowd;
    this.id = id;
    this.room = room;
    this.#link = reconnect({
      hostname: "127.0.0.1",
      port,
      backoff: { initialMs: 50, maxMs: 1000 },
      stableMs: 200,
    }, {
      open: (bev) => {
        if (this.#opened++ > 0) crowd.reconnects++;
        bev.write(`NICK c${id}\nJOIN ${room}\n`);
      },
      line: (bev, line) => this.#take(bev, Buffer.from(line.buffer, line.byteOffset, line.length).toString()),
      close: () => {
        this.#isReady = false;
      },
    });
  }

  /** Waits until it is in its room. */
  async joined() {
    for (const until = Date.now() + PATIENCE_MS; !this.#isReady; await sleep(20)) {
      if (Date.now() > until) throw new Error(`client ${this.id} is not in ${this.room}`);
    }
  }

  /** @returns False if it is in no room now */
  say(text) {
    return this.#isReady && (this.#link.connection?.write(`SAY ${this.room} ${this.id} ${text}\n`), true);
  }

  close() {
    return this.#link.close();
  }

  #take(bev, line) {
    if (line.startsWith("*")) {
      if (line === `* you are in ${this.room}`) {
        this.#isReady = true;
      } else if (line === "* bye") bev.close();
      else if (line.startsWith("* lost")) this.#crowd.phase && this.#crowd.phase.told++;
      return;
    }
    const [room, , sender, number, sequence, at] = line.split(" ");
    if (room !== this.room) throw new Error(`client ${this.id} got "${line}"`);
    // It was sent on the connection before this one.
    if (sender === String(this.id)) return;
    const crowd = this.#crowd;
    if (Number(number) !== crowd.number) return;
    if (this.#heardIn !== crowd.number) {
      this.#heardIn = crowd.number;
      this.#last.clear();
    }
    if (sequence === "-1") return void this.heard.add(sender);
    const phase = crowd.phase;
    if (phase === null) return;
    const last = this.#last.get(sender) ?? -1;
    if (Number(sequence) === last) phase.doubled++;
    else if (Number(sequence) < last) phase.unordered++;
    else {
      this.#last.set(sender, Number(sequence));
      phase.received++;
      crowd.latencies.push(performance.now() - Number(at));
    }
  }
}

/** A relay to a broker whose connections can be cut. */
class Relay {
  #server;
  #sockets = new Set();

  static async open(target) {
    const relay = new Relay();
    relay.#server = createServer((socket) => {
      const other = dial(target, "127.0.0.1");
      for (const [from, to] of [[socket, other], [other, socket]]) {
        relay.#sockets.add(from);
        from.on("error", () => {}).on("close", () => to.destroy() && relay.#sockets.delete(from)).pipe(to);
      }
    });
    await relay.heal();
    return relay;
  }

  port = 0;

  cut() {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  heal() {
    return new Promise((resolve) =>
      this.#server.listen(this.port, "127.0.0.1", () => {
        this.port = this.#server.address().port;
        resolve();
      })
    );
  }

  stop() {
    this.cut();
    return Promise.resolve();
  }
}

async function startBrokers(directory) {
  const ports = await freePorts(2 * BROKERS);
  const routes = ports.slice(BROKERS).map((port) => `nats://127.0.0.1:${port}`).join(",");
  return Promise.all(Array.from({ length: BROKERS }, async (_, i) => {
    const config = join(directory, `nats-${i}.conf`);
    writeFileSync(
      config,
      `listen: "127.0.0.1:${ports[i]}"\nserver_name: "broker-${i}"\n` +
        `cluster { name: "rooms", listen: "127.0.0.1:${ports[BROKERS + i]}", no_advertise: true, ` +
        `routes: [${routes.split(",").map((route) => `"${route}"`).join(", ")}] }\n`,
    );
    const broker = await start("nats-server", ["-c", config], { ready: /Server is ready/ });
    return { ...broker, port: ports[i] };
  }));
}

async function startGateway(runtime, urls) {
  const { file, args } = exampleCommand(runtime, "gateway", ["0", urls, "--proxy-protocol"]);
  const ready = /^listening on 127\.0\.0\.1:(\d+)$/m;
  const gateway = await start(file, args, { cwd: ROOT, env: plainEnvironment(), ready });
  return {
    ...gateway,
    port: Number(gateway.match[1]),
    async end() {
      const how = await gateway.stop();
      if (how !== null) throw new Error(`the gateway on ${runtime} ${findRuntime(runtime).version} ${how}`);
      const printed = gateway.output().replace(ready, "").trim();
      if (printed !== "") throw new Error(`the gateway on ${runtime} said: ${printed}`);
    },
  };
}

async function startHaproxy(directory, name, gateways) {
  const [port] = await freePorts(1);
  const config = join(directory, `haproxy-${name}.cfg`);
  writeFileSync(
    config,
    "global\n  maxconn 5000\ndefaults\n  mode tcp\n  timeout connect 2s\n  timeout client 1h\n  timeout server 1h\n" +
      `  option redispatch 1\nlisten gateways\n  bind 127.0.0.1:${port}\n  balance leastconn\n` +
      "  default-server check inter 200ms fall 1 rise 1 send-proxy-v2 check-send-proxy\n" +
      gateways.map((gateway, i) => `  server gateway-${i} 127.0.0.1:${gateway}\n`).join(""),
  );
  const proxy = await start("haproxy", ["-f", config, "-W", "-db"], { ready: /Loading success|New worker/ });
  return { ...proxy, port };
}

/**
 * Free ports. The system gives ports from 32,768 on to clients, so a lower port is not taken
 * meanwhile.
 */
async function freePorts(count) {
  const servers = await Promise.all(Array.from({ length: count }, async () => {
    for (;;) {
      const server = createServer();
      const port = 16_384 + Math.floor(Math.random() * 16_384);
      const isFree = await new Promise((resolve) => {
        server.on("error", () => resolve(false)).listen(port, "127.0.0.1", () => resolve(true));
      });
      if (isFree) return server;
    }
  }));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

function describePhase({ name, sent, expected, received, doubled, unordered, told, reconnects, seconds, p50, p99 }) {
  const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 }).format;
  return [
    name.padEnd(32),
    `${number(sent)} sent`.padStart(12),
    `${number(received)} of ${number(expected)} heard`.padStart(28),
    `${number(received / seconds)}/s`.padStart(12),
    `p50 ${number(p50)} ms, p99 ${number(p99)} ms`.padStart(28),
    `${doubled} doubled, ${unordered} unordered, ${told} told, ${reconnects} reconnects`,
  ].join("  ");
}

function sleep(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
