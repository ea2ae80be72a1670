// Chapter 8: one of several machines with the same keys. node|deno|bun 8_machines.mjs [PORT] [BROKER]
import process from "node:process";
import { NatsConnectionImpl, setTransportFactory } from "@nats-io/nats-core/internal";
import { defaultRuntime, stopOnSignals } from "trivent";
import { natsTransport } from "trivent/nats";
import { Replica } from "./replica.mjs";
import { startServer } from "./server.mjs";
import { Store } from "./store.mjs";

const [, , port = "6400", broker = "127.0.0.1:4222"] = process.argv;
setTransportFactory(natsTransport());
const nats = await NatsConnectionImpl.connect({
  servers: broker,
  noEcho: true, // our own messages do not come back
  maxReconnectAttempts: -1,
  reconnectTimeWait: 1000,
});

const runtime = defaultRuntime();
const now = () => runtime.now();
const store = new Store(now);
const replica = new Replica(store, nats, now);
// First the keys, then the clients.
await replica.start();
const redis = await startServer({
  hostname: "127.0.0.1",
  port: Number(port),
  proxyProtocol: { mode: "optional", trusted: ["127.0.0.1"], timeoutMs: 200 },
}, { store, changed: (command) => replica.changed(command) });

const forgetting = redis.base.interval(() => replica.forget(), 60_000);
const both = {
  base: redis.base,
  async close(options) {
    forgetting.free();
    await redis.close(options);
    await nats.drain();
  },
};
stopOnSignals(both, { graceMs: 5000 });
console.log(`listening on 127.0.0.1:${redis.server.port}`);
