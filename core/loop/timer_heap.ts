/**
 * The timers of a base: a 4-ary heap of deadlines, first in first out for equal ones.
 *
 * Moving a deadline later does not move the node: the heap keeps a key that is never later than the deadline, and puts
 * the node right when it reaches the top. So restarting a timeout at every message costs a few stores.
 */

/** Something with a deadline. Only the heap writes `key`, `keySeq` and `index`. */
export abstract class TimerNode {
  /** When it is due, in milliseconds on the runtime's clock. Meaningful while `index >= 0`. */
  deadline = 0;
  /** The order among equal deadlines. */
  seq = 0;
  /** What the heap is ordered by: `key <= deadline`. */
  key = 0;
  /** The order among equal keys. */
  keySeq = 0;
  /** The node's place in the heap; -1 when it is not there. */
  index = -1;
}

/** A priority queue of {@linkcode TimerNode}s. */
export class TimerHeap {
  readonly #nodes: TimerNode[] = [];
  #seq = 0;

  /** How many timers there are. */
  get size(): number {
    return this.#nodes.length;
  }

  /** Gives the place in the order of equal deadlines to a timer that is kept elsewhere. */
  nextSeq(): number {
    return ++this.#seq;
  }

  /**
   * Adds the node, or moves it to a new deadline, behind those that are due at the same time, unless its place among
   * them is given. O(log n); later: O(1).
   */
  schedule(node: TimerNode, deadline: number, seq: number = this.nextSeq()): void {
    node.deadline = deadline;
    node.seq = seq;
    if (node.index >= 0) {
      if (deadline >= node.key) return;
      node.key = deadline;
      node.keySeq = node.seq;
      this.#up(node);
      return;
    }
    node.key = deadline;
    node.keySeq = node.seq;
    node.index = this.#nodes.length;
    this.#nodes.push(node);
    this.#up(node);
  }

  /** Takes the node out; one that is not in is left alone. O(log n). */
  remove(node: TimerNode): void {
    const index = node.index;
    if (index < 0) return;
    node.index = -1;
    const last = this.#nodes.pop() as TimerNode;
    if (last === node) return;
    last.index = index;
    this.#nodes[index] = last;
    this.#down(last);
    if (last.index === index) this.#up(last);
  }

  /** The node that is due first, or null. */
  first(): TimerNode | null {
    for (;;) {
      const top = this.#nodes[0];
      if (top === undefined) return null;
      if (top.keySeq === top.seq) return top;
      top.key = top.deadline;
      top.keySeq = top.seq;
      this.#down(top);
    }
  }

  /** Calls `fn` with each node, in no order. The heap must not change meanwhile. */
  forEach(fn: (node: TimerNode) => void): void {
    for (const node of this.#nodes) fn(node);
  }

  #up(node: TimerNode): void {
    const nodes = this.#nodes;
    let index = node.index;
    while (index > 0) {
      const parentIndex = (index - 1) >> 2;
      const parent = nodes[parentIndex] as TimerNode;
      if (parent.key < node.key || (parent.key === node.key && parent.keySeq < node.keySeq)) break;
      nodes[index] = parent;
      parent.index = index;
      index = parentIndex;
    }
    nodes[index] = node;
    node.index = index;
  }

  #down(node: TimerNode): void {
    const nodes = this.#nodes;
    const length = nodes.length;
    let index = node.index;
    for (;;) {
      const firstChild = (index << 2) + 1;
      if (firstChild >= length) break;
      let best = nodes[firstChild] as TimerNode;
      const end = firstChild + 4 < length ? firstChild + 4 : length;
      for (let i = firstChild + 1; i < end; i++) {
        const child = nodes[i] as TimerNode;
        if (child.key < best.key || (child.key === best.key && child.keySeq < best.keySeq)) best = child;
      }
      if (node.key < best.key || (node.key === best.key && node.keySeq < best.keySeq)) break;
      const bestIndex = best.index;
      nodes[index] = best;
      best.index = index;
      index = bestIndex;
    }
    nodes[index] = node;
    node.index = index;
  }
}
