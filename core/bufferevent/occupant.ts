/** What takes the bytes of a bufferevent, in the place of the user's callbacks: a filter over it, or a pipe. */

/** Set as the callbacks. While it is, nothing else can take the bytes. */
export abstract class Occupant {
  /** What it is, for a message: `it has a filter, which has the bytes`. */
  abstract readonly what: string;
}
