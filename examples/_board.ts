/**
 * The shared part of the game of `board_server.ts` and `board_client.ts`: a board on which every player has one
 * piece, a letter, and moves it one square at a time. No two pieces may be on the same square.
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
 * All players get the same moves in the same order. The ping detects a player that does not read, which the system's
 * buffers would hide for megabytes. So the server sends, and waits for, at most 64 KiB.
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
/** The time for a client that is being closed to receive the last lines. */
const FAREWELL_MS = 1000;

/** The events of a link. */
export interface LinkCallbacks {
  /** A line has arrived. */
  line(text: string): void;
  /** All lines of a chunk were reported: call `link.receive()`, now or later. */
  chunk(): void;
  /** The peer has finished; the owner ends the link. */
  over(reason: string): void;
}

/** A connection that carries lines, on overlapped operations: at most one receive and one send are in progress. */
export class Link {
  readonly #socket: Socket;
  readonly #callbacks: LinkCallbacks;
  readonly #messageBuffer = new Uint8Array(CHUNK);
  readonly #received = new Overlapped((_overlapped, bytes, error) => this.#recvCallback(bytes, error));
  readonly #sent = new Overlapped((_overlapped, _bytes, error) => this.#sendCallback(error));
  /** The beginning of a line. */
  #line = "";
  /** Bytes that wait for the current send. */
  #unsent = "";
  #state: "open" | "ending" | "closed" = "open";
  /** Ends the wait for a peer that reads nothing. */
  readonly #closed = new AbortController();

  constructor(socket: Socket, callbacks: LinkCallbacks) {
    this.#socket = socket;
    this.#callbacks = callbacks;
  }

  /** Begins to receive. */
  receive(): void {
    if (this.#state === "open") this.#socket.recvOverlapped(this.#messageBuffer, this.#received);
  }

  /** Sends a line. Unsent bytes wait; the owner decides how many. */
  say(line: string): void {
    if (this.#state !== "open") return;
    this.#unsent += `${line}\n`;
    this.#send();
  }

  /** Stops receiving, and closes when everything was sent. */
  end(): void {
    if (this.#state !== "open") return;
    this.#state = "ending";
    sleep(FAREWELL_MS, { signal: this.#closed.signal }).then(() => this.cut(), () => {});
    this.#send();
  }

  /** Closes at once; unsent bytes are lost. */
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
    // Receiving fails too, and reports it.
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
      // It may be printed, so remove characters that control a terminal.
      const line = this.#line.replace(/\r$/, "").replace(/[^ -~]/g, "?");
      this.#line = "";
      this.#callbacks.line(line);
      if (this.#state !== "open") return;
    }
    this.#callbacks.chunk();
  }
}

/** The positions of the pieces, as reported to a player. */
export class Board {
  /** The player's piece. */
  me = "";
  columns = 0;
  rows = 0;
  /** The number of moves of all players. */
  moves = 0;
  readonly pieces: Map<string, { column: number; row: number }> = new Map();

  /** Handles a line of the server. @returns False if it changes nothing or is not valid */
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

  /** The board as text, the player's own piece in `marks`. */
  draw(marks: readonly [string, string] = ["", ""]): string {
    const squares = Array.from({ length: this.rows }, () => new Array<string>(this.columns).fill("."));
    for (const [piece, { column, row }] of this.pieces) {
      const line = squares[row];
      if (line?.[column] !== undefined) line[column] = piece === this.me ? marks[0] + piece + marks[1] : piece;
    }
    return squares.map((line) => `${line.join(" ")}\n`).join("");
  }
}
