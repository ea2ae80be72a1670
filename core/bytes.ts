/**
 * What is cheap on the engine that runs us. It is no host's business, so no adapter is asked twice: the first base of a
 * runtime that knows says it for all.
 */

/** The engine. */
export const engine: {
  /**
   * A copy of so many bytes costs less than a view of them; 0 where a view is always the cheaper one. JavaScriptCore keeps
   * a small array without an ArrayBuffer until someone wants to look at its memory, which then costs about 1 us.
   */
  copyBytes: number;
} = { copyBytes: 0 };

/** The bytes of `data` from `start` to `end`: `data` itself when that is all of it. */
export function view(data: Uint8Array, start: number, end: number): Uint8Array {
  if (start === 0 && end === data.length) return data;
  return data.subarray(start, end);
}

/** As {@linkcode view}, for bytes to hand out, of which nobody will expect that a change of the array shows in them. */
export function part(data: Uint8Array, start: number, end: number): Uint8Array {
  if (end - start > engine.copyBytes || (start === 0 && end === data.length)) return view(data, start, end);
  return data.slice(start, end);
}
