/**
 * An SMTP server that receives mail: RFC 5321 with PIPELINING, SIZE, 8BITMIME, ENHANCEDSTATUSCODES and STARTTLS. A
 * `MailStore` keeps the mail.
 *
 * The client gets 250 for a mail only after the store has saved it. A connection that ends earlier leaves nothing.
 *
 * A line ends with CR LF and nothing else. A bare CR or LF ends the connection: other mail programs treat it as a
 * line end, and an attacker could hide a second mail behind it. Bytes without TLS after STARTTLS are refused.
 */

import {
  delimited,
  EvBuffer,
  type EventBase,
  EventError,
  serve,
  type ServeOptions,
  type Server,
  type SocketBufferEvent,
  type StartTlsOptions,
  type View,
} from "trivent";

/** Keeps mail. */
export interface MailStore {
  /** Begins a mail. It is not visible before `commit()`. */
  draft(): Promise<Draft>;
}

/** A mail that is being received. */
export interface Draft {
  /** A unique name. */
  readonly id: string;
  write(bytes: Uint8Array): Promise<void>;
  /** Delivers the mail. Resolves when it survives a loss of power. */
  commit(): Promise<void>;
  /** Removes the draft. */
  discard(): Promise<void>;
}

/** The rules of a mail server. */
export interface MailRules {
  /** The name of the server. */
  readonly name: string;
  /** The domains whose mail is accepted; all if the list is empty. */
  readonly domains: readonly string[];
  /** If it is given, the server offers STARTTLS. */
  readonly tls?: StartTlsOptions | undefined;
  /** The largest mail, in bytes. */
  readonly maxBytes: number;
  /** The most recipients of a mail. */
  readonly maxRecipients: number;
  /** The number of refused commands after which the connection ends. */
  readonly maxErrors: number;
  /** The longest time of a connection, in milliseconds. */
  readonly sessionMs: number;
}

/** A running mail server. */
export interface MailServer {
  readonly base: EventBase;
  readonly server: Server<Session>;
  /** Ends idle connections with 421. A mail that is being received may still be finished. */
  close(options?: { graceMs?: number | undefined }): Promise<void>;
}

/** The standard requires 1,000 bytes. Programs that write longer lines are common. */
const MAX_LINE = 2000;
const LINE = delimited("\r\n", { maxBytes: MAX_LINE });
/** The number of bytes of a mail that are written at once. */
const BLOCK = 64 * 1024;
/**
 * This many recipients beyond the limit are only refused: an honest client sends the mail to them in another
 * transaction.
 */
const MAX_BEYOND = 1000;
const FAREWELL_MS = 5000;
const CR = 0x0d;
const LF = 0x0a;
const DOT = 0x2e;
const ADDRESS = /^[\w!#$%&'*+/=?^`{|}~.-]{1,64}@([\w.-]{1,253}|\[[\w.:]{1,64}\])$/;
const HOST = /^[\w.:[\]-]{1,255}$/;
const NOT_STORED = "451 4.3.0 the mail cannot be stored now";
const STOPPING = "421 4.3.2 the server stops";
/** The last replies before the connection ends. */
const LAST_WORDS: { readonly [code: string]: string } = {
  EV_FRAME_TOO_LONG: "500 5.5.6 the line is too long",
  ETIMEDOUT: "421 4.4.2 you are too slow",
};

/** Receives mail. `options` has the address, the limits on connections and the timeouts. */
export async function serveMail(options: ServeOptions, rules: MailRules, store: MailStore): Promise<MailServer> {
  let stopping = false;
  const server = await serve<Session>(options, {
    open: (bev) => (bev.context = new Session(bev, rules, store, () => stopping)).run(),
    reject: (_address, reason) => reason === "proxyProtocol" ? undefined : "421 4.7.0 too many connections\r\n",
    error: (error) => console.error(error instanceof EventError ? error.message : error),
  });
  return {
    base: server.base,
    server,
    close(options) {
      stopping = true;
      for (const { context } of server) (context as Session | undefined)?.stop();
      return server.close(options);
    },
  };
}

/** One client. */
class Session {
  readonly #bev: SocketBufferEvent<Session>;
  readonly #rules: MailRules;
  readonly #store: MailStore;
  readonly #stopping: () => boolean;
  readonly #endsAt: number;
  #lines: View<Uint8Array>;
  /** Whether it waits for a command. */
  #idle = false;
  #errors = 0;
  #beyond = 0;
  #helo = "";
  #from: string | null = null;
  #to: string[] = [];

  constructor(bev: SocketBufferEvent<Session>, rules: MailRules, store: MailStore, stopping: () => boolean) {
    this.#bev = bev;
    this.#rules = rules;
    this.#store = store;
    this.#stopping = stopping;
    this.#endsAt = bev.base.now() + rules.sessionMs;
    this.#lines = bev.frames(LINE);
  }

  /** Answers command after command, until the end of the connection. */
  async run(): Promise<void> {
    try {
      this.#say(`220 ${this.#rules.name} ESMTP`);
      for (;;) {
        if (this.#stopping()) return this.#end(STOPPING);
        this.#idle = true;
        const { value: line } = await this.#lines.next();
        this.#idle = false;
        if (line === undefined) return;
        const reply = this.#late ? LAST_WORDS.ETIMEDOUT as string : await this.#command(line);
        if (/^(221|421|521)/.test(reply)) return this.#end(reply);
        if (/^5/.test(reply) && ++this.#errors >= this.#rules.maxErrors) return this.#end("421 4.7.0 too many errors");
        if (reply !== "") this.#say(reply);
      }
    } catch (error) {
      const last = error instanceof EventError ? LAST_WORDS[error.code] : undefined;
      if (last === undefined) throw error;
      this.#end(last);
    }
  }

  /** The server stops. A client in the middle of a transaction gets 421 after it. */
  stop(): void {
    if (this.#idle) this.#end(STOPPING);
  }

  get #late(): boolean {
    return this.#bev.base.now() >= this.#endsAt;
  }

  #say(reply: string): void {
    this.#bev.write(`${reply}\r\n`);
  }

  #end(reply: string): void {
    this.#idle = false;
    this.#say(reply);
    this.#bev.close({ timeoutMs: FAREWELL_MS });
  }

  /** Handles a command. @returns The reply, if there is one */
  #command(line: Uint8Array): string | Promise<string> {
    const text = String.fromCharCode(...line);
    if (/[^\t -~]/.test(text)) return "521 5.5.2 a command is ASCII, and ends with CR LF";
    const [, name = "", argument = ""] = /^(\w*)\s*(.*?)\s*$/.exec(text) ?? [];
    switch (name.toUpperCase()) {
      case "EHLO":
      case "HELO":
        return this.#hello(name.toUpperCase(), argument);
      case "MAIL":
        return this.#mail(argument);
      case "RCPT":
        return this.#recipient(argument);
      case "DATA":
        return argument === "" ? this.#data() : "501 5.5.4 DATA has no argument";
      case "STARTTLS":
        return argument === "" ? this.#startTls() : "501 5.5.4 STARTTLS has no argument";
      case "RSET":
        this.#reset();
        return "250 2.0.0 forgotten";
      case "NOOP":
        return "250 2.0.0 nothing done";
      case "VRFY":
        return "252 2.5.0 send it, and I will try";
      case "QUIT":
        return "221 2.0.0 goodbye";
    }
    return "500 5.5.1 unknown command";
  }

  #hello(name: string, argument: string): string {
    if (!HOST.test(argument)) return "501 5.5.4 say who you are";
    this.#reset();
    this.#helo = argument;
    const { name: ours, tls, maxBytes } = this.#rules;
    if (name === "HELO") return `250 ${ours}`;
    const can = ["PIPELINING", `SIZE ${maxBytes}`, "8BITMIME", "ENHANCEDSTATUSCODES"];
    if (tls !== undefined && this.#bev.tls === undefined) can.push("STARTTLS");
    return [ours, ...can].map((text, i) => `250${i < can.length ? "-" : " "}${text}`).join("\r\n");
  }

  #reset(): void {
    this.#from = null;
    this.#to = [];
  }

  #mail(argument: string): string {
    const [, from, more = ""] = /^FROM: ?<([^<>]*)>(?: +(.*))?$/i.exec(argument) ?? [];
    if (this.#helo === "") return "503 5.5.1 EHLO comes first";
    if (this.#from !== null) return "503 5.5.1 one mail after the other";
    if (from === undefined) return "501 5.5.4 MAIL FROM:<address> is expected";
    if (from !== "" && !ADDRESS.test(from)) return "553 5.1.7 the address is not valid";
    for (const parameter of more.split(/ +/)) {
      const [, size] = /^SIZE=(\d{1,20})$/i.exec(parameter) ?? [];
      if (size !== undefined) {
        if (Number(size) > this.#rules.maxBytes) return this.#tooLarge;
      } else if (!/^(BODY=(7BIT|8BITMIME))?$/i.test(parameter)) return "555 5.5.4 unknown parameter";
    }
    this.#from = from;
    return "250 2.1.0 sender accepted";
  }

  get #tooLarge(): string {
    return `552 5.3.4 a mail has at most ${this.#rules.maxBytes} bytes`;
  }

  #recipient(argument: string): string {
    const { domains, maxRecipients } = this.#rules;
    const [, to] = /^TO: ?<([^<>]*)>$/i.exec(argument) ?? [];
    if (this.#from === null) return "503 5.5.1 MAIL comes first";
    if (to === undefined) return "501 5.5.4 RCPT TO:<address> is expected";
    if (!/^postmaster$/i.test(to)) {
      if (!ADDRESS.test(to)) return "553 5.1.3 the address is not valid";
      const domain = to.slice(to.lastIndexOf("@") + 1).toLowerCase();
      if (domains.length > 0 && !domains.includes(domain)) return "550 5.7.1 no mail for this domain";
    }
    if (this.#to.length >= maxRecipients) {
      const wrong = ++this.#beyond > MAX_BEYOND;
      return wrong ? "421 4.5.3 too many recipients" : `452 4.5.3 a mail has at most ${maxRecipients} recipients`;
    }
    this.#to.push(to);
    return "250 2.1.5 recipient accepted";
  }

  /** Receives a mail. */
  async #data(): Promise<string> {
    if (this.#to.length === 0) return "503 5.5.1 MAIL and RCPT come first";
    let draft: Draft | null = null;
    try {
      draft = await this.#store.draft();
      this.#say("354 end with a line that has only a dot");
      const reply = await this.#receive(draft);
      if (reply !== "") return reply;
      const { id } = draft;
      await draft.commit();
      draft = null;
      return `250 2.0.0 ${id} stored`;
    } catch (error) {
      // An error of the connection is not an error of the store.
      if (error instanceof EventError) throw error;
      console.error(error);
      return NOT_STORED;
    } finally {
      this.#reset();
      await draft?.discard();
    }
  }

  /** Writes a mail into a draft. @returns Nothing, or the reason why the mail is refused */
  async #receive(draft: Draft): Promise<string> {
    const block = new EvBuffer();
    block.add(this.#header(draft.id));
    let bytes = 0;
    let refusal = "";
    for (;;) {
      const { value: line } = await this.#lines.next();
      // The client has left in the middle.
      if (line === undefined) return "421 4.4.2 the mail is not complete";
      if (this.#late) return LAST_WORDS.ETIMEDOUT as string;
      if (line.includes(LF) || line.includes(CR)) return "521 5.5.2 a bare CR or LF";
      const isEnd = line.length === 1 && line[0] === DOT;
      if (!isEnd) {
        const text = line[0] === DOT ? line.subarray(1) : line;
        bytes += text.length + 2;
        if (bytes > this.#rules.maxBytes) refusal = this.#tooLarge;
        block.add(text);
        block.add("\r\n");
      }
      // The rest of a refused mail is dropped, and must not be treated as commands.
      if (refusal !== "") block.drain(block.length);
      else if (isEnd || block.length >= BLOCK) refusal = await written(block, draft);
      if (isEnd) return refusal;
    }
  }

  /** The header before the mail: the envelope, and the client. */
  #header(id: string): string {
    const { remoteAddress, tls } = this.#bev;
    const address = remoteAddress !== undefined && "hostname" in remoteAddress ? remoteAddress.hostname : "local";
    const date = new Date().toUTCString().replace("GMT", "+0000");
    return [
      `Return-Path: <${this.#from}>`,
      ...this.#to.map((to) => `Delivered-To: ${to}`),
      `Received: from ${this.#helo} ([${address}])`,
      `\tby ${this.#rules.name} with ${tls === undefined ? "ESMTP" : "ESMTPS"} id ${id}; ${date}`,
      "",
    ].join("\r\n");
  }

  async #startTls(): Promise<string> {
    const { tls } = this.#rules;
    if (tls === undefined || this.#bev.tls !== undefined) return "503 5.5.1 TLS is not available";
    await this.#lines.return();
    if (this.#bev.input.length > 0) return "521 5.5.1 nothing may follow STARTTLS before TLS";
    this.#say("220 2.0.0 begin TLS");
    this.#bev.startTls(tls);
    // Commands before TLS do not count.
    this.#helo = "";
    this.#reset();
    this.#lines = this.#bev.frames(LINE);
    return "";
  }
}

/** Writes a block. @returns Nothing, or the reply for a failure */
async function written(block: EvBuffer, draft: Draft): Promise<string> {
  const bytes = block.toUint8Array();
  block.drain(bytes.length);
  try {
    await draft.write(bytes);
    return "";
  } catch (error) {
    console.error(error);
    return NOT_STORED;
  }
}
