/**
 * The timers of a base: a 4-ary heap of deadlines, first in first out for equal ones.
 *
 * The heap has numbers in typed arrays, not objects. A comparison reads keys that are side by side, a timer makes no
 * garbage, and only `slot` of the event is written. A timer has one slot while it is in the heap, and a place that
 * changes.
 *
 * Moving a deadline later does not move the timer. The heap keeps a key that is never later than the deadline, and
 * corrects it when the timer reaches the top. So restarting a timeout with every message costs a few stores.
 */

import { invariant } from "../errors.ts";

/** The `slot` of a node without a timer. */
export const NO_TIMER = -1;

/** Something with a deadline. */
export abstract class TimerNode {
  /** The place of the deadline in the heap. Only the heap writes it. Negative when the node is not in the heap. */
  declare slot: number;

  constructor() {
    this.slot = NO_TIMER;
  }
}

const SMALLEST = 16;

/** A priority queue of {@linkcode TimerNode}s. */
export class TimerHeap {
  /** The number of timers. Only the heap writes it. The loop reads it in each turn, so it is a field. */
  size = 0;
  private seq = 0;

  // By place: the key and the order among equal keys (two numbers each), and the slot.
  private keys: Float64Array = new Float64Array(2 * SMALLEST);
  private slots: Int32Array = new Int32Array(SMALLEST);

  // By slot: the deadline and the order among equal ones (two numbers each), the place, and the node. A free slot has
  // the next free one for its place.
  private dues: Float64Array = new Float64Array(2 * SMALLEST);
  private places: Int32Array = new Int32Array(SMALLEST);
  private nodes: (TimerNode | null)[] = [];
  private free = -1;

  /** Returns the next place in the order of equal deadlines, for a timer that is kept elsewhere. */
  nextSeq(): number {
    return ++this.seq;
  }

  /** The deadline of a node in the heap, in milliseconds on the runtime's clock. */
  deadlineOf(node: TimerNode): number {
    return this.dues[2 * node.slot] as number;
  }

  /**
   * Adds the node, or moves it to a new deadline, behind nodes with the same deadline unless its place among them is
   * given. O(log n), or O(1) for a later deadline.
   */
  schedule(node: TimerNode, deadline: number, seq: number = ++this.seq): void {
    let slot = node.slot;
    let place: number;
    if (slot < 0) {
      slot = this.take(node);
      place = this.size++;
    } else if (deadline >= (this.dues[2 * slot] as number)) {
      // A timeout begins anew. The key is not later than the present deadline, so it need not be looked at.
      place = -1;
    } else {
      place = this.places[slot] as number;
      if (deadline >= (this.keys[2 * place] as number)) place = -1;
    }
    this.dues[2 * slot] = deadline;
    this.dues[2 * slot + 1] = seq;
    if (place >= 0) this.up(place, deadline, seq, slot);
  }

  /** Removes the node, if it is in the heap. O(log n). */
  remove(node: TimerNode): void {
    const slot = node.slot;
    if (slot < 0) return;
    invariant(this.nodes[slot] === node, "a timer is taken out of a heap that it is not in");
    node.slot = NO_TIMER;
    const place = this.places[slot] as number;
    this.nodes[slot] = null;
    this.places[slot] = this.free;
    this.free = slot;
    const last = --this.size;
    if (last !== place) {
      const keys = this.keys;
      const key = keys[2 * last] as number;
      const seq = keys[2 * last + 1] as number;
      const moved = this.slots[last] as number;
      // The last one takes the place, and goes up or down from there.
      const parent = (place - 1) >> 2;
      const above = place === 0 ? -Infinity : keys[2 * parent] as number;
      if (key < above || (key === above && seq < (keys[2 * parent + 1] as number))) this.up(place, key, seq, moved);
      else this.down(place, key, seq, moved);
    }
    if (last < this.slots.length >> 3 && this.slots.length > SMALLEST) this.shrink();
  }

  /** The node that is due first, or null. */
  first(): TimerNode | null {
    const dues = this.dues;
    while (this.size > 0) {
      const slot = this.slots[0] as number;
      const seq = dues[2 * slot + 1] as number;
      if (this.keys[1] === seq) return this.nodes[slot] as TimerNode;
      this.down(0, dues[2 * slot] as number, seq, slot);
    }
    return null;
  }

  /**
   * No deadline is earlier than this; Infinity without timers. Unlike {@linkcode first} it corrects no key: with a
   * restart for every message, that would move a timer through the heap for every message.
   */
  get floor(): number {
    return this.size === 0 ? Infinity : this.keys[0] as number;
  }

  /** Calls `fn` with each node, in no order. The heap must not change meanwhile. */
  forEach(fn: (node: TimerNode) => void): void {
    for (const node of this.nodes) if (node !== null) fn(node);
  }

  /** Returns the node a slot. */
  private take(node: TimerNode): number {
    if (this.size === this.slots.length) this.grow();
    let slot = this.free;
    if (slot < 0) slot = this.nodes.push(node) - 1;
    else {
      this.free = this.places[slot] as number;
      this.nodes[slot] = node;
    }
    node.slot = slot;
    return slot;
  }

  private grow(): void {
    // By a factor of four: unused pages of a large array take no memory, and less is copied.
    const room = 4 * this.slots.length;
    this.keys = larger(this.keys, new Float64Array(2 * room));
    this.dues = larger(this.dues, new Float64Array(2 * room));
    this.slots = larger(this.slots, new Int32Array(room));
    this.places = larger(this.places, new Int32Array(room));
  }

  /** Releases memory, and moves the remaining nodes to the first slots. */
  private shrink(): void {
    const size = this.size;
    const room = this.slots.length >> 2;
    const nodes: TimerNode[] = [];
    const dues = new Float64Array(2 * room);
    for (let place = 0; place < size; place++) {
      const slot = this.slots[place] as number;
      const node = this.nodes[slot] as TimerNode;
      node.slot = place;
      nodes.push(node);
      dues[2 * place] = this.dues[2 * slot] as number;
      dues[2 * place + 1] = this.dues[2 * slot + 1] as number;
    }
    this.nodes = nodes;
    this.dues = dues;
    this.keys = this.keys.slice(0, 2 * room);
    this.slots = new Int32Array(room).map((_, place) => place);
    this.places = this.slots.slice();
    this.free = -1;
  }

  /** Puts a timer at a place, or higher if the timers above are later. */
  private up(place: number, key: number, seq: number, slot: number): void {
    const keys = this.keys;
    const slots = this.slots;
    const places = this.places;
    while (place > 0) {
      const parent = (place - 1) >> 2;
      const parentKey = keys[2 * parent] as number;
      if (parentKey < key || (parentKey === key && (keys[2 * parent + 1] as number) < seq)) break;
      const parentSlot = slots[parent] as number;
      keys[2 * place] = parentKey;
      keys[2 * place + 1] = keys[2 * parent + 1] as number;
      slots[place] = parentSlot;
      places[parentSlot] = place;
      place = parent;
    }
    keys[2 * place] = key;
    keys[2 * place + 1] = seq;
    slots[place] = slot;
    places[slot] = place;
  }

  /** Puts a timer at a place, or lower if the timers below are earlier. */
  private down(place: number, key: number, seq: number, slot: number): void {
    const keys = this.keys;
    const slots = this.slots;
    const places = this.places;
    const size = this.size;
    for (;;) {
      let best = (place << 2) + 1;
      if (best >= size) break;
      const end = best + 4 < size ? best + 4 : size;
      let bestKey = keys[2 * best] as number;
      for (let child = best + 1; child < end; child++) {
        const childKey = keys[2 * child] as number;
        if (
          childKey < bestKey ||
          (childKey === bestKey && (keys[2 * child + 1] as number) < (keys[2 * best + 1] as number))
        ) {
          best = child;
          bestKey = childKey;
        }
      }
      const bestSeq = keys[2 * best + 1] as number;
      if (key < bestKey || (key === bestKey && seq < bestSeq)) break;
      const bestSlot = slots[best] as number;
      keys[2 * place] = bestKey;
      keys[2 * place + 1] = bestSeq;
      slots[place] = bestSlot;
      places[bestSlot] = place;
      place = best;
    }
    keys[2 * place] = key;
    keys[2 * place + 1] = seq;
    slots[place] = slot;
    places[slot] = place;
  }
}

function larger<T extends Float64Array | Int32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
