/** A queue that can be long. `Array.shift()` moves all later items if an array is too large for V8's fast path. */

/** The least number of taken items before the front of the array is cut off. An empty queue keeps so many places. */
const SPARE = 64;

/**
 * First in, first out; O(1). It keeps its array: usually one item comes and goes, and emptying an array costs 0.6 us on
 * V8, because the next item needs new memory.
 */
export class Fifo<T> {
  private items: (T | undefined)[] = [];
  private head = 0;
  private tail = 0;

  /** The number of items. */
  get length(): number {
    return this.tail - this.head;
  }

  /** The last item. */
  get last(): T | undefined {
    return this.tail === this.head ? undefined : this.items[this.tail - 1];
  }

  /** Adds an item at the end. */
  push(item: T): void {
    if (this.tail === this.items.length) this.items.push(item);
    else this.items[this.tail] = item;
    this.tail++;
  }

  /** Takes the first item, if there is one. */
  shift(): T | undefined {
    if (this.head === this.tail) return undefined;
    const item = this.items[this.head];
    this.items[this.head++] = undefined;
    this.trim();
    return item;
  }

  /** Takes the last item, if there is one. */
  pop(): T | undefined {
    if (this.head === this.tail) return undefined;
    const item = this.items[--this.tail];
    this.items[this.tail] = undefined;
    this.trim();
    return item;
  }

  /** Cuts off places that are not needed. */
  private trim(): void {
    if (this.head === this.tail) {
      this.head = this.tail = 0;
      if (this.items.length > SPARE) this.items = [];
    } else if (this.head >= SPARE && this.head * 2 > this.tail) {
      this.items = this.items.slice(this.head, this.tail);
      this.tail -= this.head;
      this.head = 0;
    }
  }

  /** Removes all items that a predicate chooses. The others keep their order. O(n). */
  takeAll(chosen: (item: T) => boolean): T[] {
    const taken: T[] = [];
    const left: T[] = [];
    for (let i = this.head; i < this.tail; i++) {
      const item = this.items[i] as T;
      (chosen(item) ? taken : left).push(item);
    }
    if (taken.length > 0) {
      this.items = left;
      this.head = 0;
      this.tail = left.length;
    }
    return taken;
  }
}
