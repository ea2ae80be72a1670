/** The type of a callback that may be left out. */

/**
 * A callback that may be left out, or be undefined, in an object of callbacks.
 *
 * Its parameters are compared as those of a method: a function for every `BufferEvent` fits where one for a
 * `SocketBufferEvent` is called, and the other way round.
 */
export type Callback<Parameters extends unknown[], Result = unknown> = {
  call(...parameters: Parameters): Result;
}["call"];
