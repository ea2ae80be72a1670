// The PROXY header: against an independent encoder, cut at every byte, and with every byte changed.

import { describe, it } from "node:test";
import fc from "fast-check";
import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import { decodeProxyHeader, encodeProxyHeader, EvBuffer, EventError, PP2_TYPE_CRC32C } from "../../../core/mod.ts";
import type { Address, ProxyHeader } from "../../../core/mod.ts";

const SIGNATURE = [13, 10, 13, 10, 0, 13, 10, 81, 85, 73, 84, 10];

function bufferOf(...parts: (Uint8Array | string)[]): EvBuffer {
  const buffer = new EvBuffer();
  for (const part of parts) buffer.add(part);
  return buffer;
}

function decode(bytes: Uint8Array | string): ProxyHeader | null {
  return decodeProxyHeader(bufferOf(bytes));
}

function inet(hostname: string, port: number): Address {
  return { hostname, port, family: hostname.includes(":") ? "IPv6" : "IPv4" };
}

function assertInvalid(bytes: Uint8Array | string, words: string): void {
  const buffer = bufferOf(bytes);
  const length = buffer.length;
  const error = assertThrows(() => decodeProxyHeader(buffer), EventError, words);
  assertEquals(error.code, "EV_PROXY_INVALID");
  assertEquals(buffer.length, length);
}

/** Version 2 according to the specification, written by hand. */
function binary(command: number, kind: number, ...body: number[]): Uint8Array {
  return Uint8Array.from([...SIGNATURE, 0x20 | command, kind, body.length >> 8, body.length & 255, ...body]);
}

/**
 * CRC-32C by long division of polynomials, bit by bit from the most significant one: independent of
 * ours.
 */
function slowCrc(bytes: Uint8Array): number {
  const flip = (value: number, bits: number): number =>
    parseInt([...value.toString(2).padStart(bits, "0")].reverse().join(""), 2);
  let rest = 0xffffffffn;
  for (const byte of bytes) {
    rest ^= BigInt(flip(byte, 8)) << 24n;
    for (let i = 0; i < 8; i++) rest = (rest & 0x80000000n) !== 0n ? (rest << 1n ^ 0x11edc6f41n) : rest << 1n;
  }
  return (flip(Number(rest), 32) ^ 0xffffffff) >>> 0;
}

describe("a PROXY header of version 1", () => {
  it("has the client's address, and leaves the bytes behind it", () => {
    const buffer = bufferOf("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n\x16\x03\x01");
    assertEquals(decodeProxyHeader(buffer), {
      version: 1,
      command: "PROXY",
      source: inet("192.0.2.1", 56324),
      destination: inet("198.51.100.7", 443),
      tlvs: [],
    });
    assertEquals(buffer.toString(), "\x16\x03\x01");
  });

  it("writes IPv6 in its one spelling", () => {
    const header = decode("PROXY TCP6 2001:0DB8::0001 ::FFFF:192.0.2.1 1 65535\r\n");
    assertEquals(header?.source, inet("2001:db8::1", 1));
    assertEquals(header?.destination, inet("::ffff:192.0.2.1", 65535));
  });

  it("gives no address for UNKNOWN, whatever follows", () => {
    for (const rest of ["", " a b c", " ffff:f...f:ffff ffff:f...f:ffff 65535 65535"]) {
      assertEquals(decode(`PROXY UNKNOWN${rest}\r\n`), {
        version: 1,
        command: "PROXY",
        source: null,
        destination: null,
        tlvs: [],
      });
    }
  });

  it("is unfinished at every cut", () => {
    const line = "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n";
    for (let n = 0; n < line.length; n++) {
      const buffer = bufferOf(line.slice(0, n));
      assertEquals(decodeProxyHeader(buffer), null);
      assertEquals(buffer.length, n);
      buffer.add(line.slice(n));
      assertEquals(decodeProxyHeader(buffer)?.source, inet("255.255.255.255", 65535));
    }
  });

  it("has at most 107 bytes", () => {
    const longest = `PROXY UNKNOWN ${"x".repeat(91)}\r\n`;
    assertEquals(longest.length, 107);
    assertEquals(decode(longest)?.version, 1);
    assertEquals(decode(longest.slice(0, 106)), null);
    assertInvalid(`PROXY UNKNOWN ${"x".repeat(92)}\r\n`, "no CR LF in 107 bytes");
  });

  it("is refused if it is not valid", () => {
    for (
      const [line, words] of [
        ["GET / HTTP/1.1\r\n", "does not begin with the signature"],
        ["PROXX", "does not begin with the signature"],
        ["PROXY\r\n", "does not begin with the signature"],
        ["PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", "its protocol is not TCP4, TCP6 or UNKNOWN"],
        ["PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "without a CR"],
        ["PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "two addresses and two ports"],
        ["PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", "two addresses and two ports"],
        ["PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", "two addresses and two ports"],
        ["PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n", "not of IPv4"],
        ["PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", "not of IPv4"],
        ["PROXY TCP4 ::1 ::1 1 2\r\n", "not of IPv4"],
        ["PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "not of IPv6"],
        ["PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "not of IPv6"],
        ["PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n", "a port"],
        ["PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "a port"],
        ["PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", "a port"],
        ["PROXY TCP4 1.2.3.4 1.2.3.4 1 2\0\r\n", "a port"],
      ] as const
    ) assertInvalid(line, words);
  });
});

describe("a PROXY header of version 2", () => {
  const FOUR = [192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 0x04, 0x01, 0xbb];

  it("has the client's address, TLVs and command", () => {
    const buffer = bufferOf(binary(1, 0x11, ...FOUR, 0x01, 0, 2, 104, 50, 0xe0, 0, 0), "rest");
    assertEquals(decodeProxyHeader(buffer), {
      version: 2,
      command: "PROXY",
      source: inet("192.0.2.1", 56324),
      destination: inet("198.51.100.7", 443),
      tlvs: [{ type: 1, value: Uint8Array.of(104, 50) }, { type: 0xe0, value: new Uint8Array() }],
    });
    assertEquals(buffer.toString(), "rest");
  });

  it("has IPv6 and unix sockets", () => {
    const six = decode(binary(1, 0x21, ...new Array(15).fill(0), 1, ...new Array(15).fill(0), 2, 0, 80, 1, 0));
    assertEquals([six?.source, six?.destination], [inet("::1", 80), inet("::2", 256)]);
    const path = [...new TextEncoder().encode("/run/a"), ...new Array(102).fill(0)];
    const abstract = [0, 65, 66, ...new Array(105).fill(0)];
    const unix = decode(binary(1, 0x31, ...path, ...abstract));
    assertEquals([unix?.source, unix?.destination], [{ path: "/run/a" }, { path: "\0AB" }]);
  });

  it("gives no address for LOCAL and other protocols, and consumes both completely", () => {
    for (
      const bytes of [binary(0, 0), binary(0, 0x11, ...FOUR), binary(0, 0x11), binary(1, 0), binary(1, 0x10, 4, 0, 0)]
    ) {
      const buffer = bufferOf(bytes, "rest");
      const header = decodeProxyHeader(buffer);
      assertEquals([header?.source, header?.destination], [null, null]);
      assertEquals(header?.command, bytes[12] === 0x20 ? "LOCAL" : "PROXY");
      assertEquals(buffer.toString(), "rest");
    }
  });

  it("is unfinished at every cut", () => {
    const whole = encodeProxyHeader({
      version: 2,
      command: "PROXY",
      source: { path: "/a" },
      destination: { path: "/b" },
      tlvs: [{ type: PP2_TYPE_CRC32C, value: new Uint8Array() }, { type: 5, value: new Uint8Array(300).fill(7) }],
    });
    for (let n = 0; n < whole.length; n++) {
      const buffer = bufferOf(whole.subarray(0, n));
      assertEquals(decodeProxyHeader(buffer), null);
      buffer.add(whole.subarray(n));
      assertEquals(decodeProxyHeader(buffer)?.source, { path: "/a" });
      assertEquals(buffer.length, 0);
    }
  });

  it("has at most 65,551 bytes", () => {
    const value = new Uint8Array(65_535 - 12 - 3);
    const header: ProxyHeader = {
      version: 2,
      command: "PROXY",
      source: inet("1.2.3.4", 1),
      destination: inet("1.2.3.4", 2),
      tlvs: [{ type: 4, value }],
    };
    const whole = encodeProxyHeader(header);
    assertEquals(whole.length, 65_551);
    assertEquals(decode(whole)?.tlvs[0]?.value.length, value.length);
    header.tlvs.push({ type: 4, value: new Uint8Array() });
    assertThrows(() => encodeProxyHeader(header), RangeError, "longer than 65535 bytes");
  });

  it("is refused if it is not valid", () => {
    const wrong = (at: number, value: number): Uint8Array => {
      const bytes = binary(1, 0x11, ...FOUR);
      bytes[at] = value;
      return bytes;
    };
    assertInvalid(wrong(0, 14), "does not begin with the signature");
    assertInvalid(wrong(11, 11), "does not begin with the signature");
    assertInvalid(wrong(12, 0x11), "version and command");
    assertInvalid(wrong(12, 0x22), "version and command");
    assertInvalid(wrong(13, 0x41), "family or protocol");
    assertInvalid(wrong(13, 0x13), "family or protocol");
    assertInvalid(wrong(15, 11), "too short for its addresses");
    assertInvalid(wrong(13, 0x21), "too short for its addresses");
    assertInvalid(binary(1, 0x11, ...FOUR, 1, 0), "longer than the header");
    assertInvalid(binary(1, 0x11, ...FOUR, 1, 0, 2, 1), "longer than the header");
    assertInvalid(binary(1, 0x11, ...FOUR, 3, 0, 3, 1, 2, 3), "has 3 bytes and not 4");
    assertInvalid(binary(1, 0x11, ...FOUR, 3, 0, 4, 1, 2, 3, 4), "CRC-32C is wrong");
  });

  it("is verified by its CRC-32C in every bit", () => {
    const whole = encodeProxyHeader({
      version: 2,
      command: "PROXY",
      source: inet("1.2.3.4", 1),
      destination: inet("5.6.7.8", 2),
      tlvs: [{ type: PP2_TYPE_CRC32C, value: new Uint8Array() }, { type: 2, value: Uint8Array.of(97, 98) }],
    });
    const blank = whole.slice();
    blank.fill(0, 31, 35);
    assertEquals(new DataView(whole.buffer).getUint32(31), slowCrc(blank));
    for (let bit = 16 * 8; bit < whole.length * 8; bit++) {
      const changed = whole.slice();
      changed[bit >> 3]! ^= 1 << (bit & 7);
      // Another type byte makes another TLV of it, which is not checked.
      if (bit >> 3 === 28) continue;
      assertThrows(() => decode(changed), EventError);
    }
  });
});

describe("PROXY headers", () => {
  const byte = fc.integer({ min: 0, max: 255 });
  const port = fc.integer({ min: 0, max: 65535 });
  const family = fc.constantFrom(4, 16);
  const random = family.chain((size) =>
    fc.record({
      size: fc.constant(size),
      source: fc.array(byte, { minLength: size, maxLength: size }),
      destination: fc.array(byte, { minLength: size, maxLength: size }),
      ports: fc.tuple(port, port),
      tlvs: fc.array(fc.tuple(fc.integer({ min: 4, max: 255 }), fc.array(byte, { maxLength: 40 })), { maxLength: 4 }),
    })
  );
  const text = (bytes: number[]): string =>
    bytes.length === 4
      ? bytes.join(".")
      : Array.from({ length: 8 }, (_, i) => (bytes[2 * i]! * 256 + bytes[2 * i + 1]!).toString(16)).join(":");

  it("are read from an independent encoder, and from our own", () => {
    fc.assert(fc.property(random, ({ size, source, destination, ports, tlvs }) => {
      const body = [...source, ...destination, ...ports.flatMap((port) => [port >> 8, port & 255])];
      for (const [type, value] of tlvs) body.push(type, value.length >> 8, value.length & 255, ...value);
      const two = decode(binary(1, size === 4 ? 0x11 : 0x21, ...body))!;
      const line = `PROXY TCP${size === 4 ? 4 : 6} ${text(source)} ${text(destination)} ${ports.join(" ")}\r\n`;
      const one = decode(line)!;
      assertEquals(one.source, two.source);
      assertEquals(one.destination, two.destination);
      assertEquals(two.tlvs.map(({ type, value }) => [type, [...value]]), tlvs);
      assertEquals(encodeProxyHeader(two), binary(1, size === 4 ? 0x11 : 0x21, ...body));
      assertEquals(decode(encodeProxyHeader(one)), one);
      assertEquals((two.source as { port: number }).port, ports[0]);
    }));
  });

  it("throw no other error for any bytes, and consume nothing unless they are complete", () => {
    const start = fc.constantFrom([], SIGNATURE, [...SIGNATURE, 0x21, 0x11], [
      ...new TextEncoder().encode("PROXY TCP4 "),
    ]);
    fc.assert(fc.property(start, fc.array(byte, { maxLength: 300 }), (first, rest) => {
      const buffer = bufferOf(Uint8Array.from([...first, ...rest]));
      const { length } = buffer;
      try {
        const header = decodeProxyHeader(buffer);
        assert(header === null ? buffer.length === length : buffer.length < length);
      } catch (error) {
        assertInstanceOf(error, EventError);
        assertEquals((error as EventError).code, "EV_PROXY_INVALID");
        assertEquals(buffer.length, length);
      }
    }));
  });

  it("are not written if they cannot be encoded", () => {
    const four = inet("1.2.3.4", 1);
    const header: ProxyHeader = { version: 2, command: "PROXY", source: four, destination: four, tlvs: [] };
    for (
      const [change, words] of [
        [{ version: 3 }, "the version is not 1 or 2: received 3"],
        [{ command: "local" }, "the command is not"],
        [{ source: inet("::1", 1) }, "not of one family"],
        [{ source: null }, "not of one family"],
        [{ source: inet("localhost", 1) }, "not a numeric address"],
        [{ source: inet("1.2.3.4", 65536) }, "the port of the source"],
        [{ version: 1, source: { path: "/a" }, destination: { path: "/b" } }, "a unix socket"],
        [{ version: 1, tlvs: [{ type: 1, value: new Uint8Array() }] }, "no TLVs"],
        [{ source: { path: "x".repeat(109) }, destination: { path: "/b" } }, "longer than 108 bytes"],
        [{ tlvs: [{ type: 256, value: new Uint8Array() }] }, "the type of a TLV"],
        [{ tlvs: [{ type: 1, value: new Uint8Array(65_536) }] }, "longer than 65535 bytes"],
      ] as const
    ) assertThrows(() => encodeProxyHeader({ ...header, ...change } as ProxyHeader), RangeError, words);
    for (
      const wrong of [null, undefined, 1, { ...header, tlvs: 1 }, { ...header, tlvs: [null] }, { ...header, source: 1 }]
    ) {
      assertThrows(() => encodeProxyHeader(wrong as unknown as ProxyHeader), TypeError);
    }
    assertEquals(
      encodeProxyHeader({ ...header, version: 1, command: "LOCAL" }),
      new TextEncoder().encode("PROXY UNKNOWN\r\n"),
    );
    assertEquals(encodeProxyHeader({ ...header, command: "LOCAL" }), binary(0, 0));
  });
});
