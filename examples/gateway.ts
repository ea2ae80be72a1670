/**
 * A chat gateway, one of several that share their rooms by NATS: `gateway [PORT] [NATS_URL] [--proxy-protocol]`.
 *
 * PORT is `[HOST:]PORT`, or `fd:N` for a socket that listens already, such as 3 from systemd. By default the gateway listens on
 * the loopback interface.
 *
 * NATS_URL is `nats://[USER:PASSWORD@ or TOKEN@]HOST[:PORT]`, or several of them with commas between. With `tls://` the
 * connection to the broker is encrypted. `--proxy-protocol` is for HAProxy in front, with `send-proxy-v2`.
 *
 *     NICK name        takes a name
 *     JOIN room        enters a room
 *     SAY room text    all others in the room get `room nick text`
 *     LEAVE room       leaves it
 *     WHO room         who is there, on all gateways
 *
 * Rooms and names have 1 to 32 letters, digits, `_` or `-`. The gateway's own lines begin with `*`.
 */

import { type ConnectionOptions, type NatsConnection, nuid } from "@nats-io/nats-core";
import { NatsConnectionImpl, setTransportFactory } from "@nats-io/nats-core/internal";
import { type ServeOptions, sleep, stopOnSignals } from "trivent";
import { natsTransport } from "trivent/nats";
import { announce, fail, main, port, refuse } from "./_common.ts";
import { Gateway } from "./_gateway.ts";

/** The delay before it tries again to reach a broker. */
const AGAIN_MS = 1000;

await main("gateway [PORT] [NATS_URL] [--proxy-protocol]", async (args) => {
  const proxyProtocol = args.includes("--proxy-protocol");
  const [where = "9881", urls = "nats://127.0.0.1:4222", ...more] = args.filter((arg) => arg !== "--proxy-protocol");
  if (more.length > 0) refuse(`Cannot take the argument "${more[0]}"`);
  const place = placeOf(where);
  const nats = await broker(options(urls));
  if (nats === null) return;
  const gateway = await Gateway.open({
    nats,
    name: nuid.next().slice(-6),
    listen: { ...place, proxyProtocol: proxyProtocol ? "required" : undefined },
  });
  stopOnSignals(gateway);
  // Unless the gateway has stopped, a broker has refused it.
  const closed = nats.closed().then((error) => {
    if (error) fail(`Cannot go on without a broker: ${error.message}`);
    return gateway.close();
  });
  if (gateway.server.address !== undefined) announce(gateway.server.address);
  await closed;
});

/** Reads the address to listen on. */
function placeOf(text: string): ServeOptions {
  const [, fd] = /^fd:(\d+)$/.exec(text) ?? [];
  if (fd !== undefined) return { fd: Number(fd) };
  const at = text.lastIndexOf(":");
  return {
    hostname: at < 0 ? "127.0.0.1" : text.slice(0, at).replace(/^\[(.*)\]$/, "$1"),
    port: port(text.slice(at + 1), 0),
  };
}

/** Reads the addresses of the brokers. */
function options(text: string): ConnectionOptions {
  const urls = text.split(",").map((part) => {
    const url = URL.canParse(part) ? new URL(part) : undefined;
    if (url === undefined || !/^(nats|tls):$/.test(url.protocol) || url.hostname === "") {
      return refuse(`Cannot take "${part}" for a broker: it is not a nats:// or tls:// URL`);
    }
    return url;
  });
  const [{ username, password, protocol, host } = refuse("Cannot do without a broker")] = urls;
  const [user, pass] = [decoded(username, host), decoded(password, host)];
  return {
    servers: urls.map(({ host }) => host),
    noEcho: true,
    maxReconnectAttempts: -1,
    reconnectTimeWait: AGAIN_MS,
    ...(user === "" ? {} : pass === "" ? { token: user } : { user, pass }),
    ...(protocol === "tls:" ? { tls: {} } : {}),
  };
}

/** Decodes a user or a password. The message does not repeat it, because it is secret. */
function decoded(text: string, host: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return refuse(`Cannot take the user and password for ${host}: they are not percent-encoded; write %25 for a %`);
  }
}

/**
 * Connects to a broker. While none can be reached it tries again, and prints that once. @returns Null if it is
 * refused
 */
async function broker(options: ConnectionOptions): Promise<NatsConnection | null> {
  setTransportFactory(natsTransport());
  for (let isTold = false;; isTold = true) {
    try {
      return await NatsConnectionImpl.connect(options);
    } catch (error) {
      const { name, message } = error as Error;
      const line = `Cannot connect to a broker of ${options.servers}: ${message}`;
      if (name === "AuthorizationError") {
        fail(line);
        return null;
      }
      if (!isTold) console.error(line);
    }
    await sleep(AGAIN_MS);
  }
}
