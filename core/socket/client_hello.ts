/** The first message of a client in TLS (RFC 8446, 4.1.2), as far as a server needs it to choose a certificate. */

/** A client's first message. */
export interface ClientHello {
  /** The name of the server that the client wants (SNI), in lower case; null when it names none. */
  readonly serverName: string | null;
  /** The extensions, by their type. */
  readonly extensions: ReadonlyMap<number, Uint8Array>;
}

const RECORD_HANDSHAKE = 22;
const CLIENT_HELLO = 1;
const EXTENSION_SERVER_NAME = 0;
/** A ClientHello that is longer than this is not read. */
const MAX_BYTES = 64 * 1024;
const NONE: ClientHello = { serverName: null, extensions: /* @__PURE__ */ new Map() };

/**
 * Reads a ClientHello, which may be cut into several records.
 *
 * @param bytes The bytes that have arrived
 * @returns The message; null while it is incomplete. Bytes that are not a ClientHello give one without a name: the
 * handshake will refuse them
 */
export function readClientHello(bytes: Uint8Array): ClientHello | null {
  const message: number[] = [];
  for (let at = 0; at < bytes.length;) {
    if (bytes[at] !== RECORD_HANDSHAKE) return NONE;
    if (at + 5 > bytes.length) return null;
    const length = uint16(bytes, at + 3);
    if (length === 0) return NONE;
    for (const byte of bytes.subarray(at + 5, at + 5 + length)) message.push(byte);
    at += 5 + length;
    if (message.length >= 1 && message[0] !== CLIENT_HELLO) return NONE;
    if (message.length < 4) continue;
    const whole = 4 + ((message[1] as number) << 16 | (message[2] as number) << 8 | (message[3] as number));
    if (whole > MAX_BYTES) return NONE;
    if (message.length >= whole) return parse(Uint8Array.from(message.slice(4, whole)));
  }
  return null;
}

function parse(hello: Uint8Array): ClientHello {
  const extensions = new Map<number, Uint8Array>();
  // The version and the random bytes, the session, the cipher suites, the compression methods.
  let at = 34;
  at += 1 + (hello[at] ?? 0);
  at += 2 + uint16(hello, at);
  at += 1 + (hello[at] ?? 0);
  const end = Math.min(hello.length, at + 2 + uint16(hello, at));
  at += 2;
  while (at + 4 <= end) {
    const length = uint16(hello, at + 2);
    if (at + 4 + length > end) break;
    extensions.set(uint16(hello, at), hello.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return { serverName: nameIn(extensions.get(EXTENSION_SERVER_NAME)), extensions };
}

/** The list of names has at most one host name. */
function nameIn(list: Uint8Array | undefined): string | null {
  if (list === undefined || list.length < 5 || list[2] !== 0) return null;
  const name = list.subarray(5, 5 + uint16(list, 3));
  if (name.length === 0 || name.some((byte) => byte < 0x21 || byte > 0x7e)) return null;
  return String.fromCharCode(...name.subarray(0, 255)).toLowerCase();
}

function uint16(bytes: Uint8Array, at: number): number {
  return (bytes[at] ?? 0) << 8 | (bytes[at + 1] ?? 0);
}

/**
 * Writes a ClientHello in one record.
 *
 * @param serverName The name of the server, or null
 * @param extensions Further extensions
 * @returns The record
 */
export function writeClientHello(serverName: string | null, extensions: ReadonlyMap<number, Uint8Array>): Uint8Array {
  const all: number[] = [];
  const add = (type: number, value: readonly number[]): void => {
    all.push(type >> 8, type & 255, value.length >> 8, value.length & 255, ...value);
  };
  if (serverName !== null) {
    const name = Array.from(serverName, (letter) => letter.charCodeAt(0) & 127);
    const { length } = name;
    add(EXTENSION_SERVER_NAME, [length + 3 >> 8, length + 3 & 255, 0, length >> 8, length & 255, ...name]);
  }
  for (const [type, value] of extensions) add(type, Array.from(value));
  const hello = [
    3,
    3,
    ...new Array<number>(32).fill(0),
    0,
    0,
    2,
    0x13,
    1,
    1,
    0,
    all.length >> 8,
    all.length & 255,
    ...all,
  ];
  const message = [CLIENT_HELLO, 0, hello.length >> 8, hello.length & 255, ...hello];
  return Uint8Array.from([RECORD_HANDSHAKE, 3, 1, message.length >> 8, message.length & 255, ...message]);
}
