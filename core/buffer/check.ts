/** The invariants of a chain. Tests check them after each operation. */

import { invariant } from "../errors.ts";
import { COUNTED, HOSTS, LENT } from "./chunk.ts";
import { type Chain, FREED } from "./chain.ts";
import { Loan } from "../loan.ts";

/** Throws unless the chain is whole. O(chunks). */
export function checkChain(chain: Chain): void {
  let length = 0;
  let last = null;
  let memoHolds = chain.memo === null || chain.memo.pos === 0;
  const seen = new Set<object>();
  for (let chunk = chain.first; chunk !== null; chunk = chunk.next) {
    invariant(!seen.has(chunk), "a chunk is linked twice");
    seen.add(chunk);
    const { data, start, end } = chunk;
    invariant(data.constructor === Uint8Array, "a chunk's memory is not a plain Uint8Array");
    invariant(Number.isInteger(start) && Number.isInteger(end), "a chunk's window is not whole");
    // Memory that was transferred has no length any more.
    const fits = end <= data.length || data.length === 0;
    invariant(start >= 0 && start < end && fits, "a chunk is empty or its window is out of its memory");
    invariant(
      (chunk.lender !== null) === ((chunk.flags & COUNTED) !== 0),
      "COUNTED does not say whether there is a lender",
    );
    invariant((chunk.flags & LENT) === 0 || chunk.lender !== null, "memory is lent and nobody wants it back");
    invariant(
      (chunk.lender instanceof Loan) === ((chunk.flags & HOSTS) !== 0),
      "HOSTS does not say whether the lender is a loan",
    );
    invariant(chunk.lender === null || chunk.lender.users > 0, "a lender of memory in use was told");
    invariant(
      chunk.words === null || chunk.words.length === 0 ||
        (chunk.words.buffer === data.buffer && chunk.words.byteOffset === data.byteOffset),
      "a chunk's words are of other memory",
    );
    const grows = chunk.limit > end;
    invariant(
      !grows || (chunk.flags === 0 && (chunk.limit <= data.length || data.length === 0)),
      "a chunk cannot grow",
    );
    invariant(chunk.buffer === null || chunk.buffer === data.buffer, "a chunk's buffer is of other memory");
    if (chain.memo !== null && chain.memo.chunk === chunk) {
      invariant(chain.memo.at >= start && chain.memo.at <= end, "the scan goes on outside its chunk");
      invariant(chain.memo.pos === length + chain.memo.at - start, "the scan's position does not fit its chunk");
      memoHolds = true;
    }
    length += end - start;
    last = chunk;
  }
  invariant(last === chain.last, "the last chunk is not the last");
  invariant(length === chain.length, "the chunks' lengths do not add up");
  invariant(memoHolds, "the scan goes on in a chunk that is gone");
  invariant(
    chain.memo === null || (chain.memo.pos === 0) === (chain.memo.chunk === null),
    "a scan that knows nothing keeps a chunk",
  );
  invariant((chain.state & FREED) === 0 || chain.length === 0, "a freed buffer holds bytes");
  const spare = chain.rare === null ? null : chain.rare.spare;
  invariant(spare === null || (spare.fill >= 0 && spare.fill <= spare.memory.length), "spare memory is overfull");
}
