/**
 * Costs of the JavaScript engine. They do not depend on the adapter, so the first base of a runtime that knows them
 * sets them for all.
 */

/** What copying costs on the JavaScript engine that runs us. */
export const copying: {
  /**
   * Up to this number of bytes a copy costs less than a view; 0 if a view is always cheaper. JavaScriptCore keeps a
   * small array without an ArrayBuffer until somebody reads its `buffer` or makes a view, which then costs about 1 us.
   */
  cheapBytes: number;
} = { cheapBytes: 0 };

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
