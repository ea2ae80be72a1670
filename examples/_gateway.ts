/**
 * A gateway: the clients of one machine, in rooms that all machines share.
 *
 * A line reaches the members on this gateway at once. NATS carries it to the other gateways, with one subject for each
 * room. NATS delivers at most once: when a broker dies, messages that it has not passed on are lost. While this
 * gateway has no broker, lines for others wait, up to {@linkcode MAX_WAITING} bytes. Beyond that the sender is told
 * about each lost line.
 */

import type { Msg, NatsConnection, Subscription } from "@nats-io/nats-core";
import {
  BEV_EVENT_EOF,
  BEV_EVENT_READING,
  BEV_EVENT_TIMEOUT,
  type EventBase,
  type Runtime,
  serve,
  type ServeOptions,
  type Server,
  sleep,
  type SocketBufferEvent,
} from "trivent";

/** The longest line of a client, in bytes. */
const MAX_LINE = 1024;
/** The largest number of rooms of a client. */
const MAX_ROOMS = 32;
/** The largest number of members of a room on this gateway. */
const MAX_MEMBERS = 1000;
/** The largest number of names in the answer to WHO. */
const MAX_NAMES = 200;
/** A client reads too slowly if this number of bytes wait for it. */
const MAX_OUTPUT = 1024 * 1024;
/** The number of bytes that can wait without a broker. */
const MAX_WAITING = 1024 * 1024;
/** A client is dropped after this time without a line. */
const PATIENCE_MS = 10 * 60_000;
/** The time for a client to receive its last lines. */
const FAREWELL_MS = 1000;
/** The time that clients may stay when the gateway stops. */
const GRACE_MS = 5000;
/** WHO waits this long for the first answer of another gateway, and for each further one. */
const WHO_MS = 1000;
const WHO_QUIET_MS = 200;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Options of a gateway. */
export interface GatewayOptions {
  /** The runtime; by default that of the process. */
  runtime?: Runtime;
  /** A connection that does not receive its own messages: `noEcho`. */
  nats: NatsConnection;
  /** The unique name of the gateway. */
  name: string;
  /** The address to listen on, and whether a proxy sends a PROXY header. */
  listen: Pick<ServeOptions, "hostname" | "port" | "fd" | "proxyProtocol">;
}

interface Client {
  readonly bev: SocketBufferEvent<Client>;
  readonly rooms: Set<string>;
  nick: string;
  isGone: boolean;
}

/** A room with members on this gateway, and the subscription for lines of other gateways. */
interface Room {
  readonly members: Set<Client>;
  readonly subscription: Subscription;
}

/** One gateway. */
export class Gateway {
  readonly #nats: NatsConnection;
  readonly #name: string;
  readonly #rooms = new Map<string, Room>();
  readonly #nicks = new Set<string>();
  #server!: Server<Client>;
  #guests = 0;
  #isClosing = false;
  #hasBroker = true;
  #waiting: { subject: string; bytes: Uint8Array }[] = [];
  #waitingBytes = 0;

  /** Opens a gateway. It listens when the promise resolves. */
  static async open(options: GatewayOptions): Promise<Gateway> {
    const gateway = new Gateway(options);
    await gateway.#listen(options);
    return gateway;
  }

  private constructor({ nats, name }: GatewayOptions) {
    this.#nats = nats;
    this.#name = name;
    nats.subscribe("who.*", {
      callback: (error, message) => {
        if (error === null) this.#answerWho(message);
      },
    });
    void this.#watchBroker();
  }

  /** The base that runs it. */
  get base(): EventBase {
    return this.#server.base;
  }

  /** The server of the gateway's clients. */
  get server(): Server<Client> {
    return this.#server;
  }

  /** Accepts no more clients and tells the present ones. After `graceMs` the remaining ones are closed. */
  async close({ graceMs = GRACE_MS }: { graceMs?: number | undefined } = {}): Promise<void> {
    const closed = this.#server.close({ graceMs: graceMs + FAREWELL_MS });
    if (!this.#isClosing) { for (const bev of this.#server) bev.write("* bye\n"); }
    this.#isClosing = true;
    await Promise.race([closed, sleep(graceMs, { base: this.base })]);
    for (const bev of this.#server) void bev.close({ timeoutMs: FAREWELL_MS });
    await closed;
    if (this.#nats.isClosed() || this.#nats.isDraining()) return;
    // Without a broker nothing more can be delivered.
    await this.#nats.drain().catch(() => this.#nats.close());
  }

  async #listen({ runtime, listen }: GatewayOptions): Promise<void> {
    this.#server = await serve<Client>({
      ...listen,
      runtime,
      maxLine: MAX_LINE,
      // From this length on write() gives false: see #tell().
      writeHigh: MAX_OUTPUT,
      readTimeoutMs: PATIENCE_MS,
    }, {
      open: (bev) => {
        const client: Client = { bev, rooms: new Set(), nick: this.#guestName(), isGone: false };
        bev.context = client;
        this.#nicks.add(client.nick);
        this.#tell(client, `* welcome ${client.nick}`);
      },
      line: (bev, line) => this.#obey(bev.context, decoder.decode(line).replace(/\p{Cc}/gu, "")),
      event: ({ context: client }, what, error) => {
        if ((what & BEV_EVENT_EOF) !== 0) this.#end(client, "goodbye");
        else if (error?.code === "EV_LINE_TOO_LONG") this.#end(client, "your line is too long");
        else if (what === (BEV_EVENT_READING | BEV_EVENT_TIMEOUT)) this.#end(client, "you are too quiet");
        else client.bev.reset();
      },
      close: ({ context: client }) => this.#gone(client),
    });
  }

  #obey(client: Client, text: string): Promise<void> | void {
    const [, command = "", first = "", rest = ""] = /^ *(\S*) *(\S*)(?: (.*))?$/.exec(text) ?? [];
    switch (command.toUpperCase()) {
      case "":
        return;
      case "NICK":
        return this.#rename(client, first);
      case "JOIN":
        return this.#join(client, first);
      case "LEAVE":
        if (this.#leave(client, first, "has left")) return this.#tell(client, `* you have left ${first}`);
        return this.#tell(client, `* you are not in ${first}`);
      case "SAY":
        return this.#say(client, first, rest);
      case "WHO":
        return this.#who(client, first);
    }
    this.#tell(client, `* there is no ${command}`);
  }

  #rename(client: Client, nick: string): void {
    if (!isName(nick)) return this.#tell(client, "* bad name");
    if (nick !== client.nick && this.#nicks.has(nick)) return this.#tell(client, `* ${nick} is taken`);
    const before = client.nick;
    this.#nicks.delete(before);
    this.#nicks.add(nick);
    client.nick = nick;
    this.#tell(client, `* you are ${nick}`);
    for (const room of client.rooms) this.#announce(room, `* ${room} ${before} is now ${nick}`, client);
  }

  #join(client: Client, name: string): void {
    if (!isName(name)) return this.#tell(client, "* bad name");
    if (client.rooms.has(name)) return this.#tell(client, `* you are in ${name}`);
    if (client.rooms.size === MAX_ROOMS) return this.#tell(client, "* you are in too many rooms");
    const room = this.#rooms.get(name) ?? this.#openRoom(name);
    if (room.members.size === MAX_MEMBERS) return this.#tell(client, `* ${name} is full`);
    room.members.add(client);
    client.rooms.add(name);
    this.#tell(client, `* you are in ${name}`);
    this.#announce(name, `* ${name} ${client.nick} has come`, client);
  }

  #openRoom(name: string): Room {
    const members = new Set<Client>();
    const subscription = this.#nats.subscribe(`room.${name}`, {
      callback: (error, { data }) => {
        if (error === null) this.#deliver(members, data);
      },
    });
    const room = { members, subscription };
    this.#rooms.set(name, room);
    return room;
  }

  /** Removes a client from a room. @returns False if it was not there */
  #leave(client: Client, name: string, how: string): boolean {
    if (!client.rooms.delete(name)) return false;
    this.#announce(name, `* ${name} ${client.nick} ${how}`, client);
    const room = this.#rooms.get(name);
    room?.members.delete(client);
    if (room?.members.size === 0) {
      this.#rooms.delete(name);
      room.subscription.unsubscribe();
    }
    return true;
  }

  #say(client: Client, name: string, text: string): void {
    if (!client.rooms.has(name)) return this.#tell(client, `* you are not in ${name}`);
    if (!this.#announce(name, `${name} ${client.nick} ${text}`, client)) {
      this.#tell(client, `* lost: only this gateway has heard your line in ${name}`);
    }
  }

  /** Asks all gateways. A gateway without an answer in time is left out. */
  async #who(client: Client, name: string): Promise<void> {
    if (!isName(name)) return this.#tell(client, "* bad name");
    const names = this.#namesIn(name);
    if (this.#hasBroker) {
      try {
        const answers = await this.#nats.requestMany(`who.${name}`, "", {
          strategy: "stall",
          maxWait: WHO_MS,
          stall: WHO_QUIET_MS,
        });
        for await (const answer of answers) names.push(...answer.string().split(" ").filter((nick) => nick !== ""));
      } catch {
        // There is no other gateway, or the broker has gone.
      }
    }
    if (names.length === 0) return this.#tell(client, `* ${name} has nobody`);
    const more = names.length > MAX_NAMES ? ` and ${names.length - MAX_NAMES} more` : "";
    this.#tell(client, `* ${name} has ${names.slice(0, MAX_NAMES).join(" ")}${more}`);
  }

  #answerWho(message: Msg): void {
    message.respond(this.#namesIn(message.subject.slice("who.".length)).join(" "));
  }

  #namesIn(name: string): string[] {
    return [...this.#rooms.get(name)?.members ?? []].map(({ nick }) => nick);
  }

  /** Sends a line to a room, on all gateways, but not to `sender`. @returns False if other gateways cannot get it */
  #announce(name: string, text: string, sender: Client): boolean {
    const bytes = encoder.encode(`${text}\n`);
    this.#deliver(this.#rooms.get(name)?.members ?? [], bytes, sender);
    return this.#publish(`room.${name}`, bytes);
  }

  /** All members get the same lines in the same order, so slow ones are dropped after all have got the line. */
  #deliver(members: Iterable<Client>, bytes: Uint8Array, sender?: Client): void {
    const slow: Client[] = [];
    for (const member of members) if (member !== sender && !member.bev.write(bytes)) slow.push(member);
    for (const member of slow) this.#end(member, "you read too slowly");
  }

  #tell(client: Client, text: string): void {
    if (!client.bev.write(`${text}\n`)) this.#end(client, "you read too slowly");
  }

  #publish(subject: string, bytes: Uint8Array): boolean {
    if (this.#hasBroker) this.#nats.publish(subject, bytes);
    else if (this.#waitingBytes + bytes.length > MAX_WAITING) return false;
    else {
      this.#waiting.push({ subject, bytes });
      this.#waitingBytes += bytes.length;
    }
    return true;
  }

  /** NATS connects again by itself. Until then it would drop published messages, so they wait here. */
  async #watchBroker(): Promise<void> {
    for await (const { type } of this.#nats.status()) {
      if (type === "disconnect") this.#hasBroker = false;
      if (type !== "reconnect") continue;
      this.#hasBroker = true;
      this.#waitingBytes = 0;
      for (const { subject, bytes } of this.#waiting.splice(0)) this.#nats.publish(subject, bytes);
    }
    this.#hasBroker = false;
  }

  /** Sends the reason, and closes the connection after the client has received its output. */
  #end(client: Client, why: string): void {
    if (!this.#gone(client)) return;
    client.bev.write(`* ${why}\n`);
    void client.bev.close({ timeoutMs: FAREWELL_MS });
  }

  /** Removes a client from its rooms. @returns False if it was removed before */
  #gone(client: Client): boolean {
    if (client.isGone) return false;
    client.isGone = true;
    this.#nicks.delete(client.nick);
    for (const name of [...client.rooms]) this.#leave(client, name, "is gone");
    return true;
  }

  #guestName(): string {
    return `guest-${this.#name}-${++this.#guests}`;
  }
}

function isName(text: string): boolean {
  return /^[\w-]{1,32}$/.test(text);
}
