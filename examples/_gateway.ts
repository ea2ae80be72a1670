/**
 * A gateway: the clients of one machine, in rooms that reach over all machines.
 *
 * A line reaches the members on this gateway at once. NATS carries it to the other gateways, with one subject for each
 * room. NATS delivers at most once: a broker that dies takes with it what it has not passed on. While this gateway has
 * no broker, lines for others wait, up to {@linkcode MAX_WAITING} bytes. Beyond that the sender is told of each loss.
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
/** How many rooms a client can be in. */
const MAX_ROOMS = 32;
/** How many members a room can have on this gateway. */
const MAX_MEMBERS = 1000;
/** How many names the answer to WHO can have. */
const MAX_NAMES = 200;
/** A client reads too slowly when so many bytes wait for it. */
const MAX_OUTPUT = 1024 * 1024;
/** How many bytes can wait while there is no broker. */
const MAX_WAITING = 1024 * 1024;
/** A client is dropped when it has said nothing for so long. */
const PATIENCE_MS = 10 * 60_000;
/** How long a client may take to receive its last lines. */
const FAREWELL_MS = 1000;
/** How long clients may stay when the gateway stops. */
const GRACE_MS = 5000;
/** WHO waits so long for the first answer of another gateway, and so long for each further one. */
const WHO_MS = 1000;
const WHO_QUIET_MS = 200;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** What a gateway needs. */
export interface GatewayOptions {
  /** The host; by default the runtime of the process. */
  runtime?: Runtime;
  /** A connection that does not hear what it has published itself: `noEcho`. */
  nats: NatsConnection;
  /** The gateway's name, which no other has. */
  name: string;
  /** Where it listens, and whether a proxy in front sends a PROXY header. */
  listen: Pick<ServeOptions, "hostname" | "port" | "fd" | "proxyProtocol">;
}

interface Client {
  readonly bev: SocketBufferEvent<Client>;
  readonly rooms: Set<string>;
  nick: string;
  isGone: boolean;
}

/** A room with members on this gateway, and the subscription that brings what others say in it. */
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

  /** Takes no more clients and tells those that are here. Who still stays after `graceMs` is sent away. */
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
      // From here on write() gives false: see #tell().
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

  /** Takes a client out of a room. @returns False when it was not there */
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
        // There is no other gateway, or no broker any more.
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

  /** Sends a line to a room, here and elsewhere, but not to `sender`. @returns False when others cannot hear it */
  #announce(name: string, text: string, sender: Client): boolean {
    const bytes = encoder.encode(`${text}\n`);
    this.#deliver(this.#rooms.get(name)?.members ?? [], bytes, sender);
    return this.#publish(`room.${name}`, bytes);
  }

  /** All members hear the same lines in the same order. So those that are too slow go when all have heard it. */
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

  /** NATS connects again by itself. What is published until then would be dropped, so it waits here. */
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

  /** Says why, and closes the connection when the client has received what waits for it. */
  #end(client: Client, why: string): void {
    if (!this.#gone(client)) return;
    client.bev.write(`* ${why}\n`);
    void client.bev.close({ timeoutMs: FAREWELL_MS });
  }

  /** Takes a client out of its rooms. @returns False when it was gone before */
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
