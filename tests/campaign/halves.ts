// The records of the two ends of a connection: what each has sent, what each has received, and how it ended. All checks of
// bytes are here.

/** Reports that a rule was broken. */
export type Blame = (problem: string) => void;

/** A message: its place in the sent bytes, and its bytes without terminator or prefix. */
interface Message {
  readonly start: number;
  readonly end: number;
  readonly payload: Uint8Array;
}

/** One end of a connection. */
export class Half {
  readonly name: string;
  readonly #blame: Blame;
  peer: Half | null = null;
  /** All bytes that were accepted for sending, and how much of the array they take. */
  said: Uint8Array = new Uint8Array(1024);
  saidLength = 0;
  readonly messages: Message[] = [];
  /** Its program has finished: everything that was accepted must arrive. */
  finished = false;
  /** Its program, or a crash, has ended the connection and may have dropped bytes that it had accepted. */
  cut: string | null = null;
  /** Its program, or a crash, has ended receiving. */
  deaf: string | null = null;
  /** Its host has crashed. */
  crashed = false;
  /** Whether something between the two may end the stream by itself, and nobody is told. */
  middlebox = false;
  /** How many bytes it has received. */
  heard = 0;
  heardMessages = 0;
  /** The last message that it has received was only a part. */
  torn = false;
  /** It was told of the peer's end. */
  heardEnd = false;
  /** Nothing had been told before that end. */
  cleanEnd = false;
  /** The code of the error or timeout that it was told of. */
  told: string | null = null;
  /** Checks that wait for the peer to be known. */
  #waiting: ((peer: Half) => void)[] = [];

  constructor(name: string, blame: Blame) {
    this.name = name;
    this.#blame = blame;
  }

  /** Ends both directions at once. */
  drop(how: string): void {
    this.cut ??= how;
    this.deaf ??= how;
  }

  /** Notes bytes that the library has accepted. */
  say(bytes: Uint8Array, payload?: Uint8Array): void {
    const length = this.saidLength + bytes.length;
    if (length > this.said.length) {
      const larger = new Uint8Array(Math.max(length, this.said.length * 2));
      larger.set(this.said.subarray(0, this.saidLength));
      this.said = larger;
    }
    this.said.set(bytes, this.saidLength);
    if (payload !== undefined) this.messages.push({ start: this.saidLength, end: length, payload });
    this.saidLength = length;
  }

  /** Removes bytes that were noted but not accepted. */
  unsay(length: number): void {
    this.saidLength = length;
    while ((this.messages.at(-1)?.end ?? 0) > length) this.messages.pop();
  }

  /** Checks bytes that have arrived. */
  hear(bytes: Uint8Array): void {
    this.#hearing();
    if (this.peer === null) {
      const copy = bytes.slice();
      this.#waiting.push((peer) => this.#compare(copy, peer));
    } else this.#compare(bytes, this.peer);
  }

  #compare(bytes: Uint8Array, peer: Half): void {
    const from = this.heard;
    this.heard += bytes.length;
    if (this.heard > peer.saidLength) {
      return this.#blame(`${this.name} got ${this.heard} bytes, and only ${peer.saidLength} were sent`);
    }
    const { said } = peer;
    for (let i = 0; i < bytes.length; i++) {
      if (bytes[i] !== said[from + i]) return this.#blame(`${this.name} got a wrong byte at ${from + i}`);
    }
  }

  /** Checks a message that has arrived. */
  hearMessage(payload: Uint8Array): void {
    this.#hearing();
    if (this.peer === null) {
      const copy = payload.slice();
      this.#waiting.push((peer) => this.#compareMessage(copy, peer));
    } else this.#compareMessage(payload, this.peer);
  }

  #compareMessage(payload: Uint8Array, peer: Half): void {
    const number = this.heardMessages++;
    const message = peer.messages[number];
    if (message === undefined) return this.#blame(`${this.name} got message ${number}, which was not sent`);
    if (message.start !== this.heard) return this.#blame(`${this.name} got message ${number} out of order`);
    if (this.torn) this.#blame(`${this.name} got message ${number} behind a part of one`);
    const same = payload.every((byte, i) => byte === message.payload[i]);
    if (same && payload.length < message.payload.length) {
      // Where the stream was cut, the rest of a line comes as a line.
      this.torn = true;
      this.heard += payload.length;
      return;
    }
    this.heard = message.end;
    if (!same || payload.length > message.payload.length) this.#blame(`${this.name} got a wrong message ${number}`);
  }

  #hearing(): void {
    if (this.heardEnd) this.#blame(`${this.name} got bytes after the end`);
  }

  /**
   * The peer's end has come.
   *
   * @param all Whether the program has taken all that came before
   */
  end(all: boolean = true): void {
    if (this.heardEnd) this.#blame(`${this.name} got the end twice`);
    this.heardEnd = true;
    this.cleanEnd = all && this.told === null && this.deaf === null;
  }

  /** An error or a timeout was told. */
  tell(code: string | undefined): void {
    this.told ??= code ?? "unknown";
  }

  /** Both ends are known now. */
  meet(peer: Half): void {
    this.peer = peer;
    peer.peer = this;
    for (const half of [this, peer]) {
      const other = half.peer as Half;
      for (const check of half.#waiting.splice(0)) check(other);
    }
  }

  /** Whether bytes have arrived from an unknown sender. */
  get orphan(): boolean {
    return this.#waiting.length > 0;
  }
}

/**
 * Checks one direction at the end.
 *
 * @param from The end that has sent
 * @param to The end that has received
 * @param middlebox Whether something between them may have ended the stream by itself
 * @param settled Whether there was time for everything to arrive
 * @param blame Called for each rule that is broken
 */
export function checkDirection(from: Half, to: Half, middlebox: boolean, settled: boolean, blame: Blame): void {
  const told = from.told !== null || to.told !== null;
  if (to.cleanEnd && !middlebox && from.cut === null && from.told === null) {
    // A clean end is a promise: it comes behind everything.
    if (!from.finished) blame(`${to.name} heard an end that ${from.name} did not send`);
    if (to.heard !== from.saidLength) blame(`${to.name} heard the end after ${to.heard} of ${from.saidLength} bytes`);
  }
  if (to.torn && from.cut === null && !told && !middlebox) blame(`${to.name} heard a part of a message`);
  if (!settled || told || from.cut !== null || to.deaf !== null || middlebox) return;
  if (to.heard !== from.saidLength) {
    blame(`${to.name} got ${to.heard} of ${from.saidLength} bytes of ${from.name}, and nobody was told why`);
  } else if (from.finished && !to.heardEnd) blame(`${to.name} did not hear the end of ${from.name}`);
}
