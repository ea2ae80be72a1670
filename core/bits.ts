/** The type of sets of bits. */

declare const SET: unique symbol;

/**
 * Bits of one set, named by the set. The bits of one set cannot be assigned to another set, but a plain number can be,
 * so that `|`, `&` and `~` work as they are. `tests/packaging/bits.test.ts` refuses an operator between two sets.
 */
export type Bits<Name extends string> = number & { readonly [SET]?: Name };
