// RESP, the protocol of Redis, as a codec. A command is an array of texts: ["SET", "key", "value"]. A reply is a text, a number,
// null, { ok: "OK" } for a simple string, or { error: "ERR …" }.
import { EventError } from "trivent";

const MAX_BYTES = 1_000_000;
const MAX_WORDS = 1000;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

function invalid(why) {
  return new EventError(`Cannot read RESP: ${why}`, { code: "EV_FRAME_INVALID" });
}

/** Reads one value of `bytes` from `start` on. Returns null while it is incomplete. */
function parse(bytes, start, depth = 0) {
  const end = bytes.indexOf(10, start);
  if (end < 0) return null;
  const line = decoder.decode(bytes.subarray(start, bytes[end - 1] === 13 ? end - 1 : end));
  const kind = line[0];
  const rest = line.slice(1);
  if (kind === "+") return { value: { ok: rest }, at: end + 1 };
  if (kind === "-") return { value: { error: rest }, at: end + 1 };
  // A command as a person types it.
  if (kind !== ":" && kind !== "$" && kind !== "*") return { value: line.trim().split(/\s+/), at: end + 1 };
  if (!/^-?\d{1,15}$/.test(rest)) throw invalid("a number was expected");
  const number = Number(rest);
  if (kind === ":") return { value: number, at: end + 1 };
  if (number === -1 && kind === "$") return { value: null, at: end + 1 };
  if (number < 0) throw invalid("a length is negative");
  if (kind === "$") {
    if (number > MAX_BYTES) throw invalid(`more than ${MAX_BYTES} bytes`);
    const after = end + 1 + number;
    if (bytes.length < after + 2) return null;
    if (bytes[after] !== 13 || bytes[after + 1] !== 10) throw invalid("a text without its end");
    return { value: decoder.decode(bytes.subarray(end + 1, after)), at: after + 2 };
  }
  if (number > MAX_WORDS) throw invalid(`more than ${MAX_WORDS} words`);
  if (depth > 0) throw invalid("an array in an array");
  const words = [];
  let at = end + 1;
  while (words.length < number) {
    const word = parse(bytes, at, 1);
    if (word === null) return null;
    words.push(word.value);
    at = word.at;
  }
  return { value: words, at };
}

/** The codec: for `bev.frames(resp)` and `bev.writeFrame(resp, value)`. */
export const resp = {
  /** @returns {any} */
  decode(input) {
    const bytes = input.pullup(-1);
    if (bytes === null) return null;
    const found = parse(bytes, 0);
    if (found === null) return null;
    input.drain(found.at);
    // frames() ends at null only, so a reply that is null comes as an object.
    return found.value === null ? { nil: true } : found.value;
  },
  encode(output, value) {
    if (value === null) output.add("$-1\r\n");
    else if (typeof value === "number") output.add(`:${value}\r\n`);
    else if (typeof value === "string") {
      const bytes = encoder.encode(value);
      output.add(`$${bytes.length}\r\n`);
      output.add(bytes);
      output.add("\r\n");
    } else if (Array.isArray(value)) {
      output.add(`*${value.length}\r\n`);
      for (const word of value) resp.encode(output, word);
    } else output.add("ok" in value ? `+${value.ok}\r\n` : `-${value.error}\r\n`);
  },
};
