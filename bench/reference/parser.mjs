/**
 * Parsers of lines and of frames with a length of 4 bytes, by hand, and the answers. They pass a
 * view of each message to a function, where a program would do its work; here it sends the message
 * back.
 *
 * All answers of one chunk are put together in one buffer, which all connections share, so that they leave with one write.
 */

const NEWLINE = 10;
const PREFIX = 4;

let reply = new Uint8Array(256 * 1024);
let filled = 0;

function reserve(bytes) {
  if (filled + bytes <= reply.length) return;
  const grown = new Uint8Array(Math.max(filled + bytes, 2 * reply.length));
  grown.set(reply.subarray(0, filled));
  reply = grown;
}

function onLine(line) {
  reserve(line.length + 1);
  reply.set(line, filled);
  filled += line.length;
  reply[filled++] = NEWLINE;
}

function onFrame(frame) {
  const { length } = frame;
  reserve(length + PREFIX);
  reply[filled] = length >>> 24;
  reply[filled + 1] = length >>> 16;
  reply[filled + 2] = length >>> 8;
  reply[filled + 3] = length;
  reply.set(frame, filled + PREFIX);
  filled += PREFIX + length;
}

/** Takes the lines from the front. @returns {number} Where the first unfinished one begins */
function takeLines(bytes) {
  let start = 0;
  for (let end = bytes.indexOf(NEWLINE); end >= 0; end = bytes.indexOf(NEWLINE, start)) {
    onLine(bytes.subarray(start, end));
    start = end + 1;
  }
  return start;
}

/** Takes the frames from the front. @returns {number} Where the first unfinished one begins */
function takeFrames(bytes) {
  let start = 0;
  while (bytes.length - start >= PREFIX) {
    const body = start + PREFIX;
    const length = ((bytes[start] << 24) | (bytes[start + 1] << 16) | (bytes[start + 2] << 8) | bytes[start + 3]) >>> 0;
    if (bytes.length - body < length) break;
    onFrame(bytes.subarray(body, body + length));
    start = body + length;
  }
  return start;
}

const TAKE = { lines: takeLines, frames: takeFrames };

/**
 * Takes all whole messages of a chunk.
 *
 * @param {"lines" | "frames"} mode
 * @param {Uint8Array} bytes With the rest of the chunk before it in front
 * @returns {{ start: number, answers: Uint8Array }} Where the first unfinished message begins; the answers, valid until the
 *   next call
 */
export function parse(mode, bytes) {
  filled = 0;
  const start = TAKE[mode](bytes);
  return { start, answers: reply.subarray(0, filled) };
}

/** @param {Uint8Array | null} rest @param {Uint8Array} chunk */
export function join(rest, chunk) {
  if (rest === null) return chunk;
  const both = new Uint8Array(rest.length + chunk.length);
  both.set(rest);
  both.set(chunk, rest.length);
  return both;
}

/** @param {Uint8Array} bytes @param {number} start */
export function restOf(bytes, start) {
  // Not `slice()`: that of a Buffer is a view, which would keep the whole chunk.
  return start === bytes.length ? null : new Uint8Array(bytes.subarray(start));
}
