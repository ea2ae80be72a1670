/**
 * The server of a board that up to 26 players share: `board_server [port]`. The protocol is in `_board.ts`.
 *
 * After the exercise of the chapter on socket programming: many players, overlapped operations with callbacks, and
 * all see all moves. No player is trusted: the server reads at most some messages a second of each, and leaves the
 * others in the system's buffers. It ends players that send invalid messages or do not read, without an effect on the
 * others.
 */

import { EventBase, type EventError, type ListeningSocket, Overlapped, sleep, type Socket } from "trivent";
import { COLUMNS, Link, PIECES, ROWS, STEPS } from "./_board.ts";
import { announce, main, onlyPort } from "./_common.ts";
import { peer, stopped } from "./_poll.ts";

const PENDING_ACCEPTS = 4;
/** The number of messages of a player that are read in a second, and at once. */
const MESSAGES_PER_SECOND = 100;
/** The number of malformed messages that are tolerated. */
const MAX_FAULTS = 8;
/** The bytes that may be on the way to a player; there is a ping for each `PING_EVERY` of them. */
const MAX_UNANSWERED = 64 * 1024;
const PING_EVERY = 8 * 1024;

const players = new Map<string, Player>();
/** News for all players. Sending one may end a player, which is more news, but later. */
const news: string[] = [];
let telling = false;

function acceptCallback(listening: ListeningSocket, overlapped: Overlapped, error: EventError | null): void {
  if (error?.code === "ECANCELED") return;
  if (overlapped.socket !== null) welcome(overlapped.socket);
  else console.error(error?.message);
  listening.acceptOverlapped(overlapped);
}

function welcome(socket: Socket): void {
  const piece = [...PIECES].find((letter) => !players.has(letter));
  if (piece !== undefined) return new Player(socket, piece).join();
  const link = new Link(socket, { line() {}, chunk() {}, over() {} });
  link.say("bye the board is full");
  link.end();
}

/** Sends the news to all, in the same order. */
function tellAll(line: string): void {
  news.push(line);
  if (telling) return;
  telling = true;
  for (let next = news.shift(); next !== undefined; next = news.shift()) {
    for (const player of players.values()) player.tell(next);
  }
  telling = false;
}

function isFree(column: number, row: number): boolean {
  return [...players.values()].every((player) => player.column !== column || player.row !== row);
}

class Player {
  readonly piece: string;
  column = -1;
  row = -1;
  readonly #from: string;
  readonly #link: Link;
  /** The number of sent bytes, and of those that the player must have read. */
  #said = 0;
  #answered = 0;
  /** Unanswered pings. Only a client that reads knows the number. */
  readonly #pings: { number: number; said: number }[] = [];
  #faults = 0;
  /** The number of messages that may come now. */
  #allowance = MESSAGES_PER_SECOND;
  #allowedAt = performance.now();
  /** Ends a rest. */
  readonly #left = new AbortController();

  constructor(socket: Socket, piece: string) {
    this.piece = piece;
    this.#from = peer(socket);
    this.#link = new Link(socket, {
      line: (text) => this.#line(text),
      chunk: () => this.#receiveWhenAllowed(),
      over: (reason) => this.leave(reason),
    });
  }

  join(): void {
    // The first free square, in an order that keeps players apart.
    let square = PIECES.indexOf(this.piece) * 11;
    while (!isFree(square % COLUMNS, Math.floor(square / COLUMNS) % ROWS)) square++;
    this.column = square % COLUMNS;
    this.row = Math.floor(square / COLUMNS) % ROWS;
    console.log(`${this.piece} has come, ${this.#from}`);
    this.tell(`board ${COLUMNS} ${ROWS}`);
    this.tell(`you ${this.piece}`);
    for (const { piece, column, row } of players.values()) this.tell(`piece ${piece} ${column} ${row}`);
    players.set(this.piece, this);
    tellAll(`piece ${this.piece} ${this.column} ${this.row}`);
    this.#link.receive();
  }

  tell(line: string): void {
    this.#say(line);
    const last = this.#pings[this.#pings.length - 1]?.said ?? this.#answered;
    if (this.#said - this.#answered > MAX_UNANSWERED) this.#remove("does not read", () => this.#link.cut());
    else if (this.#said - last > PING_EVERY) {
      const number = Math.floor(Math.random() * 1e9);
      this.#say(`ping ${number}`);
      this.#pings.push({ number, said: this.#said });
    }
  }

  /** Sends a last line and closes. */
  leave(reason: string): void {
    this.#remove(reason, () => {
      this.#link.say(`bye ${reason}`);
      this.#link.end();
    });
  }

  #remove(reason: string, end: () => void): void {
    if (players.get(this.piece) !== this) return;
    players.delete(this.piece);
    this.#left.abort();
    end();
    console.log(`${this.piece} is gone: ${reason}`);
    tellAll(`gone ${this.piece}`);
  }

  #say(line: string): void {
    this.#said += line.length + 1;
    this.#link.say(line);
  }

  #line(text: string): void {
    this.#allowance--;
    const [what, word, ...more] = text.split(" ");
    const step = STEPS.get(word ?? "");
    if (what === "move" && step !== undefined && more.length === 0) this.#move(...step);
    else if (text === "quit") this.leave("quit");
    else if (what === "pong" && this.#pings.length > 0 && text === `pong ${this.#pings[0]?.number}`) {
      this.#answered = this.#pings.shift()?.said ?? 0;
    } else if (++this.#faults > MAX_FAULTS) this.leave("too many malformed messages");
    else this.tell("no such message");
  }

  #move(columns: number, rows: number): void {
    const column = this.column + columns;
    const row = this.row + rows;
    if (column < 0 || column >= COLUMNS || row < 0 || row >= ROWS) return this.tell("no that is the edge");
    if (!isFree(column, row)) return this.tell("no that square is taken");
    this.column = column;
    this.row = row;
    tellAll(`move ${this.piece} ${column} ${row}`);
  }

  /**
   * A client that has sent too much is not read for a while: its messages stay in the buffers of our system, and then
   * of its own.
   */
  #receiveWhenAllowed(): void {
    const now = performance.now();
    const earned = (now - this.#allowedAt) / 1000 * MESSAGES_PER_SECOND;
    this.#allowance = Math.min(this.#allowance + earned, MESSAGES_PER_SECOND);
    this.#allowedAt = now;
    if (this.#allowance >= 0) this.#link.receive();
    else {
      const restMs = -this.#allowance / MESSAGES_PER_SECOND * 1000;
      sleep(restMs, { signal: this.#left.signal }).then(() => this.#link.receive(), () => {});
    }
  }
}

await main("board_server [port]", async (args) => {
  const base = new EventBase();
  const listening = await base.listen({ hostname: "127.0.0.1", port: onlyPort(args, 3500) });
  for (let i = 0; i < PENDING_ACCEPTS; i++) {
    listening.acceptOverlapped(new Overlapped((overlapped, _, error) => acceptCallback(listening, overlapped, error)));
  }
  const stop = stopped(base);
  announce(listening.address);
  await stop;
  await listening.close();
  for (const player of players.values()) player.leave("the server ends");
});
