/**
 * The mail server of `examples/` on a network with faults: a mail that got its 250 is in the folder
 * once and complete. Any other attempt has left nothing, or a complete mail whose 250 was lost.
 */

import process from "node:process";
import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { type Draft, type MailServer, type MailStore, serveMail } from "../../examples/_smtp.ts";
import {
  connect,
  EventBase,
  EventError,
  type SimHost,
  type SimRuntime,
  simRuntime,
  sleep,
  type SocketBufferEvent,
} from "../../mod.ts";

const [FIRST = 1, COUNT = 15] = (process.env.TRIVENT_SEEDS ?? "").split(",").filter(Boolean).map(Number);
const CLIENTS = 3;
const MAILS = 3;
/** After this time the faults end. A client tries for ever, so all mail arrives then. */
const CHAOS_MS = 120_000;
const DISK_MS = 20;

/** A disk that outlives the host. A write that was not synced is lost in a crash. */
class Disk {
  readonly mails: Map<string, string> = new Map();
  readonly drafts: Map<string, string> = new Map();
  #ids = 0;
  readonly #sim: SimRuntime;

  constructor(sim: SimRuntime) {
    this.#sim = sim;
  }

  /** The folder as seen by a program that has just been started on a host. */
  mount(base: EventBase): MailStore {
    this.drafts.clear();
    const takesTime = async (): Promise<void> => {
      await sleep(this.#sim.random() * DISK_MS, { base });
      if (this.#sim.random() < 0.02) throw new Error("the disk is full");
    };
    return {
      draft: async (): Promise<Draft> => {
        await takesTime();
        const id = `mail${this.#ids++}`;
        this.drafts.set(id, "");
        const remove = (): string => {
          const text = this.drafts.get(id) ?? "";
          this.drafts.delete(id);
          return text;
        };
        return {
          id,
          write: async (bytes) => {
            await takesTime();
            this.drafts.set(id, this.drafts.get(id) + new TextDecoder().decode(bytes));
          },
          commit: async () => {
            await takesTime();
            this.mails.set(id, remove());
            await takesTime();
          },
          discard: () => Promise.resolve(void remove()),
        };
      },
    };
  }
}

/** A server on a host that may crash. */
class Post {
  readonly #host: SimHost;
  readonly #disk: Disk;
  readonly #errors: unknown[];
  mail: MailServer | null = null;

  constructor(host: SimHost, disk: Disk, errors: unknown[]) {
    this.#host = host;
    this.#disk = disk;
    this.#errors = errors;
  }

  async start(): Promise<void> {
    const base = new EventBase({ runtime: this.#host });
    const timeouts = { readTimeoutMs: 5_000, messageTimeoutMs: 5_000, writeTimeoutMs: 5_000 };
    this.mail = await serveMail({ base, hostname: "0.0.0.0", port: 25, maxConnections: 10, ...timeouts }, {
      name: "mx",
      domains: ["here.example"],
      tls: { cert: "mx signed by our CA", key: "a key" },
      maxBytes: 1_000_000,
      maxRecipients: 10,
      maxErrors: 5,
      sessionMs: 60_000,
    }, this.#disk.mount(base));
    base.dispatch().catch((error) => this.#errors.push(error));
  }

  async restart(): Promise<void> {
    this.#host.crash();
    this.#host.restart();
    await this.start();
  }
}

/** What a client has sent, and whether it got its 250. */
interface Attempt {
  readonly body: string;
  stored: boolean;
}

/** A client that repeats a mail until it gets its 250. */
class Sender {
  readonly #sim: SimRuntime;
  readonly #host: SimHost;
  readonly #base: EventBase;
  readonly #attempts: Attempt[];
  readonly #replies: Set<string>;
  #lines!: AsyncIterator<string>;

  constructor(sim: SimRuntime, host: SimHost, attempts: Attempt[], replies: Set<string>) {
    this.#sim = sim;
    this.#host = host;
    this.#base = new EventBase({ runtime: host });
    this.#attempts = attempts;
    this.#replies = replies;
  }

  async send(): Promise<void> {
    while (!(await this.#try())) await sleep(100 + this.#sim.random() * 2_000, { base: this.#base });
  }

  async #try(): Promise<boolean> {
    const attempt: Attempt = { body: this.#text(`attempt ${this.#attempts.length}`), stored: false };
    this.#attempts.push(attempt);
    let bev: SocketBufferEvent | null = null;
    try {
      bev = await connect({ runtime: this.#host, hostname: "mx", port: 25, timeoutMs: 5_000, readTimeoutMs: 10_000 });
      await this.#talk(bev, attempt);
    } catch (error) {
      if (!(error instanceof EventError)) throw error;
    }
    bev?.free();
    return attempt.stored;
  }

  async #talk(bev: SocketBufferEvent, attempt: Attempt): Promise<void> {
    this.#lines = bev.lines({ text: true });
    if (!(await this.#heard("220"))) return;
    bev.write("EHLO test.example\r\n");
    if (!(await this.#heard("250"))) return;
    if (this.#sim.random() < 0.3) {
      bev.write("STARTTLS\r\n");
      if (!(await this.#heard("220"))) return;
      await this.#lines.return?.();
      bev.startTls({ ca: "our CA", serverName: "mx" });
      this.#lines = bev.lines({ text: true });
      bev.write("EHLO test.example\r\n");
      if (!(await this.#heard("250"))) return;
    }
    const commands = ["MAIL FROM:<a@b.example>\r\n", "RCPT TO:<me@here.example>\r\n", "DATA\r\n"];
    const pipelined = this.#sim.random() < 0.5;
    if (pipelined) bev.write(commands.join(""));
    for (const [i, code] of ["250", "250", "354"].entries()) {
      if (!pipelined) bev.write(commands[i] as string);
      if (!(await this.#heard(code))) return;
    }
    const data = `${attempt.body.replaceAll(/^\./gm, "..")}.\r\n`;
    const step = 1 + Math.floor(this.#sim.random() * data.length);
    for (let at = 0; at < data.length; at += step) {
      // In the middle the client may leave, or be slow.
      if (at > 0 && this.#sim.random() < 0.05) {
        if (this.#sim.random() < 0.5) return bev.reset();
        // The end of the connection is not the end of the line.
        bev.write("\r\n.");
        await bev.close({ timeoutMs: 1_000 });
        return;
      }
      if (at > 0) await sleep(this.#sim.random() * 200, { base: this.#base });
      bev.write(data.slice(at, at + step));
    }
    attempt.stored = await this.#heard("250");
    if (attempt.stored) bev.write("QUIT\r\n");
    if (attempt.stored && this.#sim.random() < 0.7) await bev.close({ timeoutMs: 1_000 });
  }

  async #heard(code: string): Promise<boolean> {
    for (;;) {
      const { value } = await this.#lines.next();
      if (value === undefined) return false;
      if (value[3] === "-") continue;
      this.#replies.add(value.slice(0, 3));
      return value.startsWith(code);
    }
  }

  #text(mark: string): string {
    const lines = [mark];
    for (let count = Math.floor(this.#sim.random() * 40); count > 0; count--) {
      lines.push(this.#sim.random() < 0.2 ? "." : ".x".repeat(Math.floor(this.#sim.random() * 200)));
    }
    return lines.map((line) => `${line}\r\n`).join("");
  }
}

async function play(seed: number): Promise<void> {
  const faults = { latencyMs: 5, jitterMs: 20, segmentCut: 0.3, connectionReset: 0.01, connectLost: 0.05 };
  const sim = simRuntime({ seed, faults });
  const errors: unknown[] = [];
  const attempts: Attempt[] = [];
  const replies = new Set<string>();
  const disk = new Disk(sim);
  const mx = sim.host("mx");
  const post = new Post(mx, disk, errors);
  await sim.run(post.start());

  let sent = 0;
  for (let i = 0; i < CLIENTS; i++) {
    const sender = new Sender(sim, sim.host(`client${i}`), attempts, replies);
    (async () => {
      for (let mail = 0; mail < MAILS; mail++, sent++) await sender.send();
    })().catch((error) => errors.push(error));
  }
  while (sim.now() < CHAOS_MS && sent < CLIENTS * MAILS) {
    await sim.advance(sim.random() * 400);
    const link = sim.link(`client${Math.floor(sim.random() * CLIENTS)}`, mx);
    const what = sim.random();
    if (what < 0.12) await sim.run(post.restart());
    else if (what < 0.2) {
      // A graceful stop; the next one is started at once.
      await sim.run((post.mail as MailServer).close({ graceMs: 300 }));
      await sim.run(post.restart());
    } else if (what < 0.3) link.partition();
    else if (what < 0.5) link.heal();
    else if (what < 0.6) mx.pause(sim.random() * 500);
    else if (what < 0.7) link.bandwidth = 500 + sim.random() * 5_000;
  }
  for (let i = 0; i < CLIENTS; i++) sim.link(`client${i}`, mx).heal();
  Object.assign(sim.faults, { connectionReset: 0, connectLost: 0 });
  for (let i = 0; i < 600 && sent < CLIENTS * MAILS; i++) await sim.advance(1_000);

  assertEquals(errors, []);
  assertEquals(sent, CLIENTS * MAILS, `${attempts.length} attempts`);
  for (const [number, { body, stored }] of attempts.entries()) {
    const found = [...disk.mails.values()].filter((mail) => mail.includes(`\r\nattempt ${number}\r\n`));
    assert(
      found.length === (stored ? 1 : found.length) && found.length <= 1,
      `attempt ${number}: ${found.length} mails`,
    );
    for (const mail of found) assertEquals(mail.slice(mail.indexOf("\r\nattempt") + 2), body);
  }
  assertEquals(attempts.filter(({ stored }) => stored).length, sent);
  // No text of a mail was treated as a command.
  assertEquals([...replies].filter((code) => !["220", "250", "354", "421", "451"].includes(code)), []);
  const closed = post.mail?.close({ graceMs: 1_000 }) as Promise<void>;
  await sim.run(closed);
  await sim.advance(60_000);
  assertEquals([mx.openHandles, disk.drafts.size], [0, 0]);
}

describe("the mail server in the simulator", () => {
  it(`loses and repeats no mail that got its 250, with crashes, resets and a slow network: ${COUNT} seeds`, async () => {
    const { error } = console;
    // The log says that the disk is full.
    console.error = () => {};
    try {
      for (let seed = FIRST; seed < FIRST + COUNT; seed++) {
        try {
          await play(seed);
        } catch (cause) {
          throw new Error(`seed ${seed}`, { cause });
        }
      }
    } finally {
      console.error = error;
    }
  });
});
