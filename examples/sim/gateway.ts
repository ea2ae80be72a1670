/**
 * Three chat gateways, a broker and six clients on a network with faults:
 * `npx trivent explore examples/sim/gateway.ts`.
 *
 * `@nats-io/nats-core` runs unmodified, on virtual time. Whatever fails, no client gets a line twice or after a later
 * one of the same sender. When the network has worked for a while, all clients get the lines of all others.
 */

import { type NatsConnection, NatsConnectionImpl, setTransportFactory } from "@nats-io/nats-core/internal";
import { type EventBase, type Link, reconnect, sleep } from "trivent";
import { natsTransport } from "trivent/nats";
import type { SimHost, SimRuntime } from "trivent/sim";
import { Gateway } from "../_gateway.ts";
import { startBroker } from "./_broker.ts";

const GATEWAYS = ["gateway-1", "gateway-2", "gateway-3"];
const CLIENTS = 6;
const LINES = 5;
const PORT = 9881;
/** A room that still loses lines after this time, in virtual milliseconds, is stuck. */
const PATIENCE_MS = 120_000;

export default async function scenario(sim: SimRuntime): Promise<void> {
  const uninstall = sim.install();
  const hosts = new Map(GATEWAYS.map((name) => [name, sim.host(name)]));
  setTransportFactory(natsTransport({ runtime: ({ name = "" }) => hosts.get(name) as SimHost }));
  try {
    const broker = await startBroker(sim.host("broker"), "broker", 4222);
    const { base } = broker;
    const gateways = await Promise.all([...hosts].map(([name, host]) => startGateway(name, host, base)));
    const clients = Array.from(
      { length: CLIENTS },
      (_, i) => new Client(sim, i, GATEWAYS[i % GATEWAYS.length] as string),
    );
    for (let line = 0; line < LINES; line++) {
      for (const client of clients) client.say("line");
      await sleep(2000 * sim.random(), { base });
    }
    for (const until = sim.now() + PATIENCE_MS; !clients.every(({ heard }) => heard.size === CLIENTS - 1);) {
      if (sim.now() > until) throw new Error(`stuck: ${clients.map(({ heard }) => heard.size)}`);
      for (const client of clients) client.say("probe");
      await sleep(500, { base });
    }
    await Promise.all(clients.map(({ link }) => link.close()));
    await Promise.all(gateways.map(({ gateway }) => gateway.close({ graceMs: 0 })));
    await Promise.all(gateways.map(({ nats }) => nats.close()));
    await broker.close({ graceMs: 0 });
  } finally {
    uninstall();
  }
}

/** Starts a gateway, as soon as it can reach the broker. */
async function startGateway(
  name: string,
  runtime: SimHost,
  base: EventBase,
): Promise<{ gateway: Gateway; nats: NatsConnection }> {
  for (;;) {
    try {
      const options = {
        name,
        servers: "broker:4222",
        noEcho: true,
        maxReconnectAttempts: -1,
        pingInterval: 5000,
        timeout: 5000,
      };
      const nats = await NatsConnectionImpl.connect({ ...options, reconnectTimeWait: 500 });
      return { nats, gateway: await Gateway.open({ runtime, nats, name, listen: { hostname: name, port: PORT } }) };
    } catch {
      await sleep(500, { base });
    }
  }
}

/** A client that checks all lines that it gets. */
class Client {
  /** The clients whose probe has arrived. */
  readonly heard: Set<string> = new Set();
  readonly link: Link;
  readonly #id: number;
  /** The last line of each sender, by its connection. */
  readonly #last = new Map<string, number>();
  #connections = 0;
  #said = 0;
  #isIn = false;

  constructor(runtime: SimRuntime, id: number, hostname: string) {
    this.#id = id;
    this.link = reconnect({ runtime, hostname, port: PORT, backoff: { maxMs: 2000 }, readTimeoutMs: 20_000 }, {
      open: (bev) => {
        this.#connections++;
        bev.write(`NICK client-${id}\nJOIN room\n`);
      },
      line: (bev, line) => this.#hear(new TextDecoder().decode(line), () => bev.close()),
      close: () => void (this.#isIn = false),
    });
  }

  say(what: string): void {
    if (this.#isIn) this.link.connection?.write(`SAY room ${this.#id}/${this.#connections} ${++this.#said} ${what}\n`);
  }

  #hear(line: string, leave: () => void): void {
    if (line === "* you are in room") this.#isIn = true;
    if (line === "* bye") leave();
    if (line.startsWith("*")) return;
    const [, , sender = "", number, what] = line.split(" ");
    const last = this.#last.get(sender) ?? 0;
    if (Number(number) <= last) throw new Error(`client ${this.#id} hears ${sender} say ${number} behind ${last}`);
    this.#last.set(sender, Number(number));
    if (what === "probe") this.heard.add(sender.slice(0, sender.indexOf("/")));
  }
}
