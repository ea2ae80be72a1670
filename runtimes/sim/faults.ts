/**
 * The faults of a simulated network that are random or belong to a link: their names, ranges and docstrings.
 *
 * @module
 */

import { show } from "../../core/checks.ts";
import type { Names } from "../../core/names.ts";

/**
 * The behaviour and the faults of a link. Each value can be changed at any time. `sim.faults` has
 * the values for every link without its own.
 *
 * Probabilities are from 0 (never) to 1 (always). The seed decides when. The random numbers of one
 * connection and direction never change those of another, and removing one kind of fault does not
 * change the others.
 */
export interface SimFaults {
  /**
   * The time that every packet is on its way, in milliseconds. A real packet needs 0.05 ms to
   * another process, 0.2 ms within a data centre, 80 ms across an ocean. All events reach both
   * programs that much later.
   *
   * @default 1
   */
  latencyMs?: number | undefined;
  /**
   * The longest time, in milliseconds, that is added to the latency of each packet. Queues of
   * routers do that. TCP puts segments back in order, so data arrives at irregular times; datagrams
   * overtake each other.
   *
   * @default 0
   */
  jitterMs?: number | undefined;
  /**
   * The number of bytes that the link carries in a second. Waiting packets are in a queue of 64
   * KiB. When the queue is full, connections wait and `write()` returns 0 after a while; datagrams
   * are dropped. Segments are at most 1,460 bytes.
   *
   * @default Infinity
   */
  bandwidth?: number | undefined;
  /**
   * The probability that a segment is cut in two, and is not joined with others at its arrival. A stream has no message
   * boundaries: a real network may deliver every byte by itself. The receiver gets more and shorter
   * chunks.
   *
   * @default 0
   */
  segmentCut?: number | undefined;
  /**
   * The probability, for each sent segment, that the connection is reset instead. A router that has
   * lost its state, or a server that was restarted, does that. Data on its way is lost; both
   * programs get `ECONNRESET`.
   *
   * @default 0
   */
  connectionReset?: number | undefined;
  /**
   * The probability that an attempt to connect is refused, as without a listener. The client gets
   * `ECONNREFUSED`, the server gets nothing.
   *
   * @default 0
   */
  connectRefused?: number | undefined;
  /**
   * The probability that an attempt to connect gets no answer at all. A firewall that drops packets
   * does that. The client gets `ETIMEDOUT` after `tcpTimeoutMs`, or after its own timeout; the
   * server gets nothing.
   *
   * @default 0
   */
  connectLost?: number | undefined;
  /**
   * The probability that a datagram is lost. Neither program is told.
   *
   * @default 0
   */
  datagramLost?: number | undefined;
  /**
   * The probability that a datagram arrives twice, as after a retransmission below IP. The receiver
   * gets it twice.
   *
   * @default 0
   */
  datagramDoubled?: number | undefined;
  /**
   * The probability that one bit of a datagram is flipped. Memory of routers does that, and the 16-bit checksum of UDP
   * can miss it. The receiver gets the wrong bytes.
   *
   * @default 0
   */
  datagramCorrupted?: number | undefined;
  /**
   * The probability that a datagram takes another way and arrives up to ten latencies late, so that later ones overtake it.
   *
   * @default 0
   */
  datagramReordered?: number | undefined;
}

/** The name of a value of {@linkcode SimFaults}. */
export type FaultName = keyof SimFaults;

/** The same values, none of them undefined. */
export type Rates = { [Name in FaultName]-?: number };

/** For the simulator: the names of {@linkcode SimFaults}. */
export const FAULT_NAMES: Names<SimFaults> = {
  latencyMs: true,
  jitterMs: true,
  bandwidth: true,
  segmentCut: true,
  connectionReset: true,
  connectRefused: true,
  connectLost: true,
  datagramLost: true,
  datagramDoubled: true,
  datagramCorrupted: true,
  datagramReordered: true,
};

/** The values of a new network. */
export const NO_FAULTS: Readonly<Rates> = {
  latencyMs: 1,
  jitterMs: 0,
  bandwidth: Infinity,
  segmentCut: 0,
  connectionReset: 0,
  connectRefused: 0,
  connectLost: 0,
  datagramLost: 0,
  datagramDoubled: 0,
  datagramCorrupted: 0,
  datagramReordered: 0,
};

/** The kinds of random faults, each with its number in the hash and in the random numbers. */
export const FAULT = {
  segmentCut: 1,
  connectionReset: 2,
  connectRefused: 3,
  connectLost: 4,
  datagramLost: 5,
  datagramDoubled: 6,
  datagramCorrupted: 7,
  datagramReordered: 8,
  shortWrite: 9,
  segmentLate: 10,
  packetLate: 11,
  answerLate: 12,
  timerLate: 13,
} as const;

/** A kind of random fault. */
export type FaultKind = keyof typeof FAULT;

/** The kinds without a probability: they always add a random time. */
export type LateKind = "segmentLate" | "packetLate" | "answerLate" | "timerLate";

/** Other random numbers: for sizes, durations and places. */
export const ROLL = {
  jitter: 101,
  cutLength: 102,
  corruptedBit: 103,
  reorderedBy: 104,
  shortLength: 105,
  timerLate: 106,
  lookupJitter: 107,
  controlJitter: 108,
} as const;

/** The random numbers for delays. */
export const LATE_ROLL: Readonly<Record<LateKind, number>> = {
  segmentLate: ROLL.jitter,
  packetLate: ROLL.controlJitter,
  answerLate: ROLL.lookupJitter,
  timerLate: ROLL.timerLate,
};

/**
 * Checks a value.
 *
 * @param verb The verb of the error: `Cannot <verb>: …`
 * @param name Its name
 * @param value The value
 * @returns The value
 * @throws {TypeError} When it is not a number
 * @throws {RangeError} When it is out of range
 */
export function checkRate(verb: string, name: FaultName, value: number, shown: string = name): number {
  if (name === "bandwidth") {
    if (typeof value === "number" && value > 0) return value;
    throw wrong(verb, shown, value, "a number of bytes a second, more than 0");
  }
  if (name === "latencyMs" || name === "jitterMs") return checkMs(verb, shown, value);
  return checkChance(verb, shown, value);
}

/** Checks a finite number of milliseconds, 0 or more. */
export function checkMs(verb: string, shown: string, value: number): number {
  if (typeof value === "number" && value >= 0 && value < Infinity) return value;
  throw wrong(verb, shown, value, "a finite number, 0 or more");
}

/** Checks a probability. */
export function checkChance(verb: string, shown: string, value: number): number {
  if (typeof value === "number" && value >= 0 && value <= 1) return value;
  throw wrong(verb, shown, value, "a finite number, 0 to 1");
}

/** The error of a value that is out of range. */
export function wrong(verb: string, shown: string, value: unknown, range: string): TypeError | RangeError {
  const text = `Cannot ${verb}: ${shown} is not ${range}: received ${show(value)}`;
  return typeof value === "number" ? new RangeError(text) : new TypeError(text);
}

/**
 * Gives an object a checked property for each value: `undefined` removes the value.
 *
 * @param target The object
 * @param verb The verb of the error: `Cannot <verb>: …`
 * @param read Returns the current value
 * @param write Sets a checked value
 */
export function defineRates(
  target: object,
  verb: string,
  read: (name: FaultName) => number,
  write: (name: FaultName, value: number | undefined) => void,
): void {
  for (const name of Object.keys(FAULT_NAMES) as FaultName[]) {
    Object.defineProperty(target, name, {
      enumerable: true,
      get: () => read(name),
      set: (value: number | undefined) => {
        write(name, value === undefined ? undefined : checkRate(verb, name, value));
      },
    });
  }
}

/**
 * Gives an object a property that checks its new values.
 *
 * @param target The object
 * @param name The property
 * @param initial Its value at first
 * @param check Throws for a wrong value, and returns the value to store
 */
export function defineChecked<T, G>(target: object, name: string, initial: T, check: (given: G) => T): void {
  let value = initial;
  const set = (given: G): void => void (value = check(given));
  Object.defineProperty(target, name, { enumerable: true, get: () => value, set });
}
