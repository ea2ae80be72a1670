/** Clients that follow the protocol, and fail if they receive anything wrong. */

import { createHash } from "node:crypto";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { assert, assertEquals, fail } from "@std/assert";
import { Dice } from "../tools/dice.mjs";
import { HONEST } from "./upstream.ts";
import { PATIENCE_MS, quiet } from "./workshop.ts";

/** A group of clients of one kind. */
export interface Company {
  /** Resolves when each client has completed one more exchange. */
  progress(): Promise<void>;
  /** Ends all clients. Resolves with the smallest number of exchanges of a client. */
  finish(): Promise<number>;
}

/**
 * Members of a chat. Each sends numbered lines, and must receive each line of its room once and in
 * order.
 */
export async function chatters(port: number, count: number, perRoom: number, seed: number): Promise<Company> {
  const members = await Promise.all(Array.from({ length: count }, async (_, i) => {
    const member = new Chatter(port, `honest${i}`, `room${Math.floor(i / perRoom)}`, new Dice(seed + i));
    await member.join();
    return member;
  }));
  const inRoom = (room: string): Chatter[] => members.filter((member) => member.room === room);
  let over = false;
  const talking = members.map((member) => member.talk(() => over));
  // The caller awaits them later and reports a failure.
  for (const each of talking) each.catch(() => {});
  return {
    async progress() {
      await everyOne(members.map((member) => member.said), members.map((member) => member), talking);
    },
    async finish() {
      over = true;
      await Promise.all(talking);
      for (const member of members) {
        const expected = inRoom(member.room);
        const all = (): boolean => expected.every(({ name, said }) => (member.heard.get(name) ?? 0) === said);
        await member.until(`${member.name} has received all lines`, all);
      }
      await Promise.all(members.map((member) => member.quit()));
      return Math.min(...members.map(({ said }) => said));
    },
  };
}

/** Waits until each client has completed one more exchange, or one has failed. */
async function everyOne(
  before: readonly number[],
  those: readonly { said: number }[],
  working: readonly Promise<void>[],
): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  const failed = Promise.all(working);
  while (!those.every(({ said }, i) => said > (before[i] as number))) {
    if (performance.now() > deadline) fail(`an honest client makes no progress within ${PATIENCE_MS} ms`);
    await Promise.race([failed, quiet(20)]);
  }
}

class Chatter {
  readonly name: string;
  readonly room: string;
  readonly #dice: Dice;
  readonly #socket: Socket;
  #rest = "";
  #wrong: Error | undefined;
  #ended = false;
  #news: (() => void) | undefined;
  /** Answers of the server itself that were not checked yet. */
  readonly #answers: string[] = [];
  /** The number of lines that it has sent. */
  said = 0;
  readonly heard: Map<string, number> = new Map();

  constructor(port: number, name: string, room: string, dice: Dice) {
    this.name = name;
    this.room = room;
    this.#dice = dice;
    this.#socket = connect({ port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
    this.#socket.setEncoding("utf8");
    this.#socket.on("data", (text: string) => this.#hear(text));
    this.#socket.on("end", () => this.#over(true));
    this.#socket.on("error", (error) => this.#fails(`failed: ${error.message}`));
    this.#socket.on("close", () => this.#over(false));
  }

  #over(politely: boolean): void {
    this.#ended ||= politely;
    this.#news?.();
  }

  #fails(what: string): void {
    this.#wrong ??= new Error(`honest ${this.name} ${what}`);
    this.#news?.();
  }

  #hear(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() as string;
    for (const line of lines) {
      const said = /^<(honest\d+)> (\d+) (.*)$/.exec(line);
      if (said === null) {
        // Lines of strangers are ignored.
        if (line.startsWith("* ")) this.#answers.push(line);
        continue;
      }
      const [, name, number, words] = said as unknown as [string, string, string, string];
      const next = this.heard.get(name) ?? 0;
      if (Number(number) !== next) this.#fails(`hears line ${number} of ${name}, not ${next}`);
      if (words !== wordsOf(name, next)) this.#fails(`hears ${JSON.stringify(words)} of ${name}`);
      this.heard.set(name, next + 1);
    }
    this.#news?.();
  }

  /** Waits until a condition holds. */
  async until(what: string, holds: () => boolean): Promise<void> {
    const timer = setTimeout(() => this.#fails(`waits in vain: ${what}`), PATIENCE_MS);
    try {
      while (!holds()) {
        if (this.#wrong !== undefined) throw this.#wrong;
        if (this.#ended || this.#socket.destroyed) {
          fail(`${what}: the connection has ended; last: ${this.#answers.slice(-3).join(" | ")}`);
        }
        await new Promise<void>((resolve) => this.#news = resolve);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  async join(): Promise<void> {
    this.#socket.write(`/nick ${this.name}\n/join ${this.room}\n`);
    await this.until(`${this.name} has come`, () => this.#answers.includes(`* ${this.name} has come to ${this.room}`));
  }

  /** Sends lines, and waits each time until it receives its own line. */
  async talk(over: () => boolean): Promise<void> {
    while (!over()) {
      const number = this.said++;
      const line = `${number} ${wordsOf(this.name, number)}\n`;
      // Some lines are sent in two pieces.
      const cut = this.#dice.below(3) === 0 ? this.#dice.below(line.length) : line.length;
      this.#socket.write(line.slice(0, cut));
      if (cut < line.length) {
        await quiet(this.#dice.below(20));
        this.#socket.write(line.slice(cut));
      }
      await this.until("its own line", () => this.heard.get(this.name) === this.said);
      if (number % 4 === 3) {
        this.#answers.length = 0;
        this.#socket.write("/who\n");
        const ours = (answer: string): boolean =>
          answer.startsWith("* here: ") && answer.slice(8).split(" ").includes(this.name);
        await this.until("who is here", () => this.#answers.some(ours));
      }
      await quiet(50 + this.#dice.below(200));
    }
  }

  async quit(): Promise<void> {
    this.#socket.write("/quit\n");
    const timer = setTimeout(() => this.#fails("is not let go"), PATIENCE_MS);
    while (!this.#ended && this.#wrong === undefined) await new Promise<void>((resolve) => this.#news = resolve);
    clearTimeout(timer);
    if (this.#wrong !== undefined) throw this.#wrong;
    assertEquals(this.#answers.at(-1), "* goodbye");
    this.#socket.end();
  }
}

/** The words of a member's line with this number. */
function wordsOf(name: string, number: number): string {
  return createHash("sha256").update(`${name} ${number}`).digest("base64");
}

/** Clients that send bytes through a proxy and compare the echo, on one connection after the other. */
export function senders(
  { port, ca }: { port: number; ca?: Buffer | undefined },
  count: number,
  seed: number,
): Promise<Company> {
  let over = false;
  const those = Array.from({ length: count }, (_, i) => ({ said: 0, dice: new Dice(seed + i) }));
  const sending = those.map(async (one) => {
    while (!over) {
      await carry(port, ca, one.dice);
      one.said++;
      await quiet(one.dice.below(100));
    }
  });
  for (const each of sending) each.catch(() => {});
  return Promise.resolve({
    async progress() {
      await everyOne(those.map(({ said }) => said), those, sending);
    },
    async finish() {
      over = true;
      await Promise.all(sending);
      return Math.min(...those.map(({ said }) => said));
    },
  });
}

/** One connection: all bytes must come back, and both directions must end cleanly. */
async function carry(port: number, ca: Buffer | undefined, dice: Dice): Promise<void> {
  const begin = performance.now();
  const plain = connect({ port, host: "127.0.0.1", noDelay: true, allowHalfOpen: true });
  const socket: Socket = ca === undefined ? plain : connectTls({ socket: plain, ca, servername: "localhost" });
  const pieces = [
    Buffer.from(HONEST),
    ...Array.from({ length: 1 + dice.below(8) }, () => dice.bytes(dice.below(20_000))),
  ];
  const [sent, received] = [createHash("sha256"), createHash("sha256")];
  let [expected, count] = [0, 0];
  let deadline: NodeJS.Timeout | undefined;
  const outcome = new Promise<void>((resolve, reject) => {
    const failed = (what: string): void => {
      const ms = (performance.now() - begin).toFixed();
      const over = ca === undefined ? "" : " over TLS";
      reject(
        new Error(`an honest client of the proxy${over}: ${what}, after ${ms} ms and ${count} of ${expected} bytes`),
      );
    };
    deadline = setTimeout(() => failed("nothing more comes"), PATIENCE_MS);
    plain.on("error", (error) => failed(error.message));
    socket.on("error", (error) => failed(error.message));
    socket.on("data", (chunk: Buffer) => {
      received.update(chunk);
      count += chunk.length;
    });
    socket.on("end", () => resolve());
    socket.on("close", () => failed("closed without an end"));
  });
  outcome.catch(() => {});
  try {
    for (const piece of pieces) {
      sent.update(piece);
      expected += piece.length;
      socket.write(piece);
      await Promise.race([quiet(dice.below(60)), outcome.then(() => assert(false, "it has ended before we have"))]);
    }
    socket.end();
    await outcome;
    const ms = Math.round(performance.now() - begin);
    const what = `after ${ms} ms a client of the proxy${ca === undefined ? "" : " over TLS"} sent ${
      pieces.map(({ length }) => length)
    }`;
    assertEquals([count, received.digest("hex")], [expected, sent.digest("hex")], what);
  } finally {
    clearTimeout(deadline);
    plain.destroy();
  }
}
