/**
 * A broker that speaks enough of the protocol of NATS for `@nats-io/nats-core`: subjects, wildcards, replies. For tests on the
 * simulator. It is not a broker for production.
 */

import { EVBUFFER_EOL_CRLF_STRICT, type Runtime, serve, type Server, type SocketBufferEvent } from "trivent";

interface Client {
  readonly subscriptions: Map<string, string[]>;
  /** Whether it receives its own messages. */
  hears: boolean;
  /** The message whose payload comes next. */
  message: { subject: string; reply: string; length: number } | null;
}

const decoder = new TextDecoder();
const MAX_PAYLOAD = 65_536;

/** Starts the broker. */
export async function startBroker(runtime: Runtime, hostname: string, port: number): Promise<Server<Client>> {
  let clients = 0;
  const server: Server<Client> = await serve<Client>({ runtime, hostname, port, maxLine: 4096 }, {
    open(bev) {
      bev.context = { subscriptions: new Map(), hears: true, message: null };
      const info = { server_id: "toy", version: "2.0.0", proto: 1, headers: false, max_payload: MAX_PAYLOAD };
      bev.write(`INFO ${JSON.stringify({ ...info, client_id: ++clients })}\r\n`);
    },
    read(bev) {
      while (obey(server, bev));
    },
  });
  return server;
}

/** Handles one command. @returns False while it is incomplete */
function obey(server: Server<Client>, bev: SocketBufferEvent<Client>): boolean {
  const { input, context } = bev;
  if (context.message === null) {
    const line = input.readln(EVBUFFER_EOL_CRLF_STRICT);
    if (line === null) return false;
    const [command, ...words] = decoder.decode(line).split(" ");
    const [first = ""] = words;
    if (command === "PUB") {
      context.message = { subject: first, reply: words.at(-2) ?? "", length: Number(words.at(-1)) };
    } else if (command === "SUB") context.subscriptions.set(words.at(-1) ?? "", first.split("."));
    else if (command === "UNSUB" && words.length === 1) context.subscriptions.delete(first);
    else if (command === "PING") bev.write("PONG\r\n");
    else if (command === "CONNECT") context.hears = JSON.parse(words.join(" ")).echo !== false;
    return true;
  }
  const { subject, reply, length } = context.message;
  if (input.length < length + 2) return false;
  context.message = null;
  const payload = new Uint8Array(length);
  input.remove(payload);
  input.drain(2);
  publish(server, bev, subject, reply === subject ? "" : `${reply} `, payload);
  return true;
}

function publish(
  server: Server<Client>,
  from: SocketBufferEvent<Client>,
  subject: string,
  reply: string,
  payload: Uint8Array,
): void {
  const tokens = subject.split(".");
  for (const bev of server) {
    if (bev === from && !from.context.hears) continue;
    for (const [id, pattern] of bev.context?.subscriptions ?? []) {
      if (!matches(pattern, tokens)) continue;
      bev.write(`MSG ${subject} ${id} ${reply}${payload.length}\r\n`);
      bev.write(payload);
      bev.write("\r\n");
    }
  }
}

function matches(pattern: readonly string[], tokens: readonly string[]): boolean {
  if (pattern.at(-1) === ">") {
    return tokens.length >= pattern.length && matches(pattern.slice(0, -1), tokens.slice(0, pattern.length - 1));
  }
  return pattern.length === tokens.length && pattern.every((part, i) => part === "*" || part === tokens[i]);
}
