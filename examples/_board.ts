/**
 * The game of `board_server.ts` and `board_client.ts`, as far as both know it: a board on which every player has one
 * piece, a letter, and moves it one square at a time; no two pieces stand on the same square.
 *
 * They talk in lines of ASCII, each ended by a newline (a CR before it is dropped) and at most 64 bytes long with it.
 *
 *     a player says
 *       move up | down | left | right      a step
 *       pong NUMBER                        the answer to a ping
 *       quit
 *     and is told
 *       board COLUMNS ROWS                 first of all
 *       you PIECE                          which piece is the player's
 *       piece PIECE COLUMN ROW             who is there, oneself too, and later who comes; from 0 on, 0 0 is top left
 *       move PIECE COLUMN ROW              whose piece has moved where to: everyone's, one's own too
 *       gone PIECE                         who has left
 *       no REASON                          the step (or message) was refused; each step gets its `move` or its `no`
 *       ping NUMBER                        to be answered soon
 *       bye REASON                         the last line
 *
 * All players are told the same moves in the same order. The ping is there because the system's buffers hide for
 * megabytes that somebody does not read: so the server holds, and waits for, 64 KiB at most.
 */

import { type EventError, Overlapped, sleep, type Socket } from "trivent";

export const COLUMNS = 8;
export const ROWS = 8;
export const PIECES = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
export const STEPS: ReadonlyMap<string, readonly [columns: number, rows: number]> = new Map([
  ["up", [0, -1]],
  ["down", [0, 1]],
  ["left", [-1, 0]],
  ["right", [1, 0]],
]);

const MAX_MESSAGE = 64;
const NEWLINE = 10;
const CHUNK = 512;
/** How long a client that is being closed may take to receive the last lines. */
const FAREWELL_MS = 1000;

/** What a link tells its owner. */
export interface LinkCallbacks {
  /** A line has come. */
  line(text: string): void;
  /** A chunk of lines has been told: `link.receive()` is wanted, now or later. */
  chunk(): void;
  /** Nothing more comes; the owner ends the link. */
  over(reason: string): void;
}

/** A connection that carries lines, on overlapped operations: at most one receive and one send are under way. */
export class Link {
  readonly #socket: Socket;
  readonly #callbacks: LinkCallbacks;
  readonly #messageBuffer = new Uint8Array(CHUNK);
  readonly #received = new Overlapped((_overlapped, bytes, error) => this.#recvCallback(bytes, error));
  readonly #sent = new Overlapped((_overlapped, _bytes, error) => this.#sendCallback(error));
  /** The beginning of a line. */
  #line = "";
  /** What waits for the send that is under way. */
  #unsent = "";
  #state: "open" | "ending" | "closed" = "open";
  /** Ends the wait for a peer that takes nothing. */
  readonly #closed = new AbortController();

  constructor(socket: Socket, callbacks: LinkCallbacks) {
    this.#socket = socket;
    this.#callbacks = callbacks;
  }

  /** Begins to receive. */
  receive(): void {
    if (this.#state === "open") this.#socket.recvOverlapped(this.#messageBuffer, this.#received);
  }

  /** Sends a line. What has not left waits: how much that may be, the owner decides. */
  say(line: string): void {
    if (this.#state !== "open") return;
    this.#unsent += `${line}\n`;
    this.#send();
  }

  /** Receives no more, and closes when all was sent. */
  end(): void {
    if (this.#state !== "open") return;
    this.#state = "ending";
    sleep(FAREWELL_MS, { signal: this.#closed.signal }).then(() => this.cut(), () => {});
    this.#send();
  }

  /** Closes at once; what was not sent is lost. */
  cut(): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#closed.abort();
    this.#socket.reset();
  }

  #send(): void {
    if (this.#state === "closed" || this.#sent.pending) return;
    if (this.#unsent !== "") {
      const bytes = new TextEncoder().encode(this.#unsent);
      this.#unsent = "";
      this.#socket.sendOverlapped(bytes, this.#sent);
    } else if (this.#state === "ending") {
      this.#state = "closed";
      this.#closed.abort();
      this.#socket.close();
    }
  }

  #sendCallback(error: EventError | null): void {
    if (error === null) return this.#send();
    // Receiving fails too, and says so.
    if (this.#state === "ending") this.cut();
  }

  #recvCallback(bytes: number, error: EventError | null): void {
    if (this.#state !== "open") return;
    if (error !== null) return this.#callbacks.over(error.code);
    if (bytes === 0) return this.#callbacks.over("has hung up");
    for (const byte of this.#messageBuffer.subarray(0, bytes)) {
      if (byte !== NEWLINE) {
        this.#line += String.fromCharCode(byte);
        if (this.#line.length >= MAX_MESSAGE) return this.#callbacks.over("too long a message");
        continue;
      }
      // It may be printed, so nothing in it controls a terminal.
      const line = this.#line.replace(/\r$/, "").replace(/[^ -~]/g, "?");
      this.#line = "";
      this.#callbacks.line(line);
      if (this.#state !== "open") return;
    }
    this.#callbacks.chunk();
  }
}

/** Where the pieces are, as a player was told. */
export class Board {
  /** Which piece is the player's. */
  me = "";
  columns = 0;
  rows = 0;
  /** How many moves of anybody's were told. */
  moves = 0;
  readonly pieces: Map<string, { column: number; row: number }> = new Map();

  /** Takes what the server says. @returns False for what changes nothing, nonsense included */
  tell(line: string): boolean {
    const size = /^board ([1-9]|[1-5]\d) ([1-9]|[1-5]\d)$/.exec(line);
    const [, what, piece = "", column, row] = /^(you|gone|piece|move) ([A-Z])(?: (\d\d?) (\d\d?))?$/.exec(line) ?? [];
    if (size !== null) [this.columns, this.rows] = [Number(size[1]), Number(size[2])];
    else if (what === "you") this.me = piece;
    else if (what === "gone") this.pieces.delete(piece);
    else if (what !== undefined && row !== undefined) {
      this.pieces.set(piece, { column: Number(column), row: Number(row) });
      if (what === "move") this.moves++;
    } else return false;
    return true;
  }

  /** The board as text, one's own piece in `marks`. */
  draw(marks: readonly [string, string] = ["", ""]): string {
    const squares = Array.from({ length: this.rows }, () => new Array<string>(this.columns).fill("."));
    for (const [piece, { column, row }] of this.pieces) {
      const line = squares[row];
      if (line?.[column] !== undefined) line[column] = piece === this.me ? marks[0] + piece + marks[1] : piece;
    }
    return squares.map((line) => `${line.join(" ")}\n`).join("");
  }
}
