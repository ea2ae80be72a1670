/**
 * Costs of the JavaScript engine. A process has one engine, so all bases share them. Each base sets those that its
 * runtime knows.
 */

/** What copying costs on the JavaScript engine that runs us. */
export const copying: {
  /**
   * Up to this number of bytes a copy costs less than a view; 0 if a view is always cheaper. JavaScriptCore keeps a
   * small array without an ArrayBuffer until a program reads its `buffer` or makes a view, which then costs
   * about 1 us.
   */
  cheapBytes: number;
} = { cheapBytes: 0 };

/** How a byte is found far from where the search begins. Near bytes are found by a loop. */
export const searching: {
  /**
   * Returns the index of the first `byte` in `bytes` from `from` on, or −1. It is null if a loop over four bytes at a time is faster
   * than all that the runtime has, as on V8: `indexOf()` of its typed arrays looks at single bytes.
   */
  find: ((bytes: Uint8Array, byte: number, from: number) => number) | null;
} = { find: (bytes, byte, from) => bytes.indexOf(byte, from) };

/** The index of the first `byte` in `bytes` from `from` on, or −1. */
export function indexOfByte(bytes: Uint8Array, byte: number, from: number): number {
  const { find } = searching;
  return find === null ? bytes.indexOf(byte, from) : find(bytes, byte, from);
}

/** The bytes of `data` from `start` to `end`; `data` itself if that is all of it. */
export function view(data: Uint8Array, start: number, end: number): Uint8Array {
  if (start === 0 && end === data.length) return data;
  return data.subarray(start, end);
}

/** As {@linkcode view}, for bytes to hand out. They may be a copy. */
export function part(data: Uint8Array, start: number, end: number): Uint8Array {
  if (end - start > copying.cheapBytes || (start === 0 && end === data.length)) return view(data, start, end);
  return data.slice(start, end);
}
