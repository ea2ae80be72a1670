/** A queue that can be long. `Array.shift()` moves all later items if an array is too large for V8's fast path. */

/** The least number of taken items before the front of the array is cut off. */
const SPARE = 64;

/** First in, first out; O(1). */
export class Fifo<T> {
  #items: (T | undefined)[] = [];
  #head = 0;

  /** The number of items. */
  get length(): number {
    return this.#items.length - this.#head;
  }

  /** The last item. */
  get last(): T | undefined {
    return this.#items[this.#items.length - 1];
  }

  /** Adds an item at the end. */
  push(item: T): void {
    this.#items.push(item);
  }

  /** Takes the first item, if there is one. */
  shift(): T | undefined {
    const items = this.#items;
    if (this.#head === items.length) return undefined;
    const item = items[this.#head];
    items[this.#head++] = undefined;
    if (this.#head === items.length) {
      items.length = 0;
      this.#head = 0;
    } else if (this.#head >= SPARE && this.#head * 2 > items.length) {
      this.#items = items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** Takes the last item, if there is one. */
  pop(): T | undefined {
    if (this.length === 0) return undefined;
    const item = this.#items.pop();
    if (this.#head === this.#items.length) this.#items.length = this.#head = 0;
    return item;
  }

  /** Removes all items that a predicate chooses. The others keep their order. O(n). */
  takeAll(chosen: (item: T) => boolean): T[] {
    const taken: T[] = [];
    const left: T[] = [];
    for (let i = this.#head; i < this.#items.length; i++) {
      const item = this.#items[i] as T;
      (chosen(item) ? taken : left).push(item);
    }
    if (taken.length > 0) {
      this.#items = left;
      this.#head = 0;
    }
    return taken;
  }
}
