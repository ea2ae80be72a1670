/**
 * The record of a simulated network: a hash of all events, and on request a line for each.
 *
 * @module
 */

/** The kinds of entries. Their numbers are in the hash, so they must not change. */
export const NOTE = {
  /** An attempt to connect has arrived. */
  connect: 1,
  /** A connection was given to the program that listens. */
  accept: 2,
  /** Bytes were given to a program. */
  data: 3,
  /** A program was told that the peer has finished. */
  end: 4,
  /** A program was told that a connection is over. */
  close: 5,
  /** A timer of a program has fired. */
  timer: 6,
  /** A datagram was given to a program. */
  datagram: 7,
  /** A name was looked up. */
  lookup: 8,
  /** A signal was raised. */
  signal: 9,
  /** A program was told that it can write again. */
  writable: 10,
  /** A fault. The count is the number of its kind. */
  fault: 11,
} as const;

/** The number of a kind. */
export type NoteKind = (typeof NOTE)[keyof typeof NOTE];

/** The names of the kinds, by their numbers. */
const NAMES: readonly string[] = /* @__PURE__ */ [""].concat(/* @__PURE__ */ Object.keys(NOTE));

const A = 0x9e3779b1 | 0;
const B = 0x5f356495;
const BITS = /* @__PURE__ */ new Float64Array(1);
const WORDS = /* @__PURE__ */ new Int32Array(/* @__PURE__ */ BITS.buffer);

/** A subject with a number for the hash, and a text for the lines. */
export interface Named {
  /** Its number in this network: the same in each run of the seed. */
  readonly id: number;
  /** Its text: `10.0.0.2:32768 > 10.0.0.1:80`. */
  readonly label: string;
}

/**
 * The journal of one network.
 *
 * The hash has two halves of 32 bits. Each entry adds five words to both: the number of its kind, the two halves of the
 * time's 64 bits, the number of its subject, and a count. The lines have the same content.
 */
export class Journal {
  /** Whether lines are kept, or the function that gets them. */
  trace: boolean | ((line: string) => void) = false;
  /** The lines that were kept. */
  readonly lines: string[] = [];
  /** Gets each line, whatever the value of `trace` is. */
  onLine: ((line: string) => void) | undefined;
  #high = 0x9e3779b9 | 0;
  #low = 0x85ebca6b | 0;

  /** The hash of all entries: 16 hexadecimal digits. */
  get hash(): string {
    return hex(finish(this.#high ^ this.#low)) + hex(finish(this.#low));
  }

  /**
   * Records an event.
   *
   * @param kind The kind
   * @param time The time
   * @param about The subject
   * @param count The number of bytes, or another count
   * @param detail More for the line
   */
  note(kind: NoteKind, time: number, about: Named, count: number, detail?: string): void {
    BITS[0] = time;
    let high = Math.imul(this.#high ^ kind, A);
    let low = Math.imul(this.#low ^ kind, B);
    high = Math.imul(((high << 13) | (high >>> 19)) ^ (WORDS[0] as number), A);
    low = Math.imul(((low << 17) | (low >>> 15)) ^ (WORDS[0] as number), B);
    high = Math.imul(((high << 13) | (high >>> 19)) ^ (WORDS[1] as number), A);
    low = Math.imul(((low << 17) | (low >>> 15)) ^ (WORDS[1] as number), B);
    high = Math.imul(((high << 13) | (high >>> 19)) ^ about.id, A);
    low = Math.imul(((low << 17) | (low >>> 15)) ^ about.id, B);
    high = Math.imul(((high << 13) | (high >>> 19)) ^ count, A);
    low = Math.imul(((low << 17) | (low >>> 15)) ^ count, B);
    this.#high = (high << 13) | (high >>> 19);
    this.#low = (low << 17) | (low >>> 15);
    if (this.trace !== false || this.onLine !== undefined) this.#write(kind, time, about, count, detail);
  }

  #write(kind: NoteKind, time: number, about: Named, count: number, detail: string | undefined): void {
    const { trace, onLine } = this;
    const line = `${time} ${NAMES[kind]} ${about.label}${count === 0 || kind === NOTE.fault ? "" : ` ${count}`}${
      detail === undefined ? "" : ` ${detail}`
    }`;
    onLine?.(line);
    if (trace === true) this.lines.push(line);
    else if (trace !== false) trace(line);
  }
}

function finish(word: number): number {
  let hash = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}

function hex(word: number): string {
  return (word >>> 0).toString(16).padStart(8, "0");
}
