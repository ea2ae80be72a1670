/**
 * Space to write in place: `expand`, `reserveSpace`, `commitSpace`. Reserved space belongs to one buffer only, so a
 * late write into it harms no other buffer.
 */

import { stateError } from "../checks.ts";
import { Chunk, Slab } from "./chunk.ts";
import { type Chain, changed, linkBack, rareOf } from "./chain.ts";

/** The least size of an allocation. */
const LEAST_BYTES = 1024;

/** The largest allocation. Every runtime can make an array of this size. */
const MOST_BYTES = 2 ** 31 - 1;

/** Throws if `n` bytes are too many for one piece. Nothing is allocated before. */
export function checkRoom(verb: string, n: number): void {
  if (n > MOST_BYTES) throw new RangeError(`Cannot ${verb}: the count is above ${MOST_BYTES}: received ${n}`);
}

/** Allocates `n` bytes, if the runtime has them. */
function slabOf(n: number): Slab {
  try {
    return new Slab(Math.max(n, LEAST_BYTES));
  } catch (cause) {
    throw new RangeError(`Cannot set bytes aside: there is no memory for them: received ${n}`, { cause });
  }
}

/** The reserved space, until it is committed or bytes are added. */
export interface Reservation {
  /** The views that were returned, in order. */
  readonly extents: readonly Uint8Array[];
  /** The memory of each. */
  readonly slabs: readonly Slab[];
}

/** Makes the next `n` bytes that are added contiguous. */
export function expandSpare(chain: Chain, n: number): Slab {
  const rare = rareOf(chain);
  if (rare.spare === null || rare.spare.room < n) {
    rare.spare = slabOf(n);
    rare.reservation = null;
  }
  return rare.spare;
}

/** Copies `bytes` behind the chain's own memory if they fit there. */
export function appendToSpare(chain: Chain, spare: Slab, bytes: Uint8Array): boolean {
  const n = bytes.length;
  if (n > spare.room) return false;
  spare.memory.set(bytes, spare.fill);
  extendInto(chain, spare, n);
  return true;
}

/** The next `n` bytes of the spare memory have been written for this chain. */
function extendInto(chain: Chain, spare: Slab, n: number): void {
  const at = spare.fill;
  const last = chain.last;
  spare.fill = at + n;
  if (last !== null && last.data === spare.memory && last.end === at && last.flags === 0) {
    last.end = at + n;
    chain.length += n;
  } else {
    linkBack(chain, new Chunk(spare.memory, at, at + n, 0, null));
  }
  if (spare.room <= 0 && chain.rare !== null && chain.rare.spare === spare) chain.rare.spare = null;
}

/** Returns writable space of at least `n` bytes in at most `maxVecs` pieces. */
export function reserve(chain: Chain, n: number, maxVecs: number): Uint8Array[] {
  const rare = rareOf(chain);
  if (n === 0 && maxVecs > 1) {
    rare.reservation = { extents: [], slabs: [] };
    return [];
  }
  const slabs: Slab[] = [];
  const spare = rare.spare;
  if (maxVecs > 1 && spare !== null && spare.room > 0 && spare.room < n) {
    slabs.push(spare, slabOf(n - spare.room));
  } else {
    slabs.push(expandSpare(chain, n));
  }
  const extents = slabs.map((slab) => slab.memory.subarray(slab.fill));
  rare.reservation = { extents, slabs };
  return extents.slice();
}

/** Adds the bytes that were written into the front of each reserved piece. */
export function commit(chain: Chain, vecs: readonly Uint8Array[]): void {
  if (vecs.length === 0) return;
  const rare = rareOf(chain);
  const reservation = rare.reservation;
  if (reservation === null) throw stale("nothing is reserved, or something was added since");
  let added = 0;
  for (let i = 0; i < vecs.length; i++) {
    const vec = vecs[i] as Uint8Array;
    const extent = reservation.extents[i];
    if (extent === undefined) throw stale("there are more pieces than were reserved");
    if (vec.buffer !== extent.buffer || vec.byteOffset !== extent.byteOffset || vec.length > extent.length) {
      throw stale(`piece ${i} is not a prefix of what was reserved`);
    }
    added += vec.length;
  }
  rare.reservation = null;
  if (added === 0) return;
  const origSize = chain.length;
  for (let i = 0; i < vecs.length; i++) {
    const n = (vecs[i] as Uint8Array).length;
    const slab = reservation.slabs[i] as Slab;
    if (n === 0) continue;
    rare.spare = slab;
    extendInto(chain, slab, n);
  }
  changed(chain, origSize, added, 0);
}

function stale(reason: string): Error {
  return stateError("commit reserved space", reason, "EV_STALE");
}
