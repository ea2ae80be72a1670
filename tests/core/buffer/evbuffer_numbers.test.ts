/** Fixed-size integers and floating-point numbers at both ends. */

import { describe, it } from "node:test";
import { assertEquals, assertThrows } from "@std/assert";
import { EvBuffer } from "../../../core/buffer/mod.ts";
import { checkBuffer } from "../../../core/buffer/internal.ts";

type Kind =
  | "Uint8"
  | "Int8"
  | "Uint16"
  | "Int16"
  | "Uint32"
  | "Int32"
  | "Float32"
  | "Float64"
  | "BigUint64"
  | "BigInt64";

const KINDS: Record<Kind, { bytes: number; values: (number | bigint)[]; wrong: (number | bigint)[] }> = {
  Uint8: { bytes: 1, values: [0, 1, 255], wrong: [-1, 256, 0.5, NaN] },
  Int8: { bytes: 1, values: [0, -1, 127, -128], wrong: [128, -129, 0.5] },
  Uint16: { bytes: 2, values: [0, 1, 0x1234, 0xffff], wrong: [-1, 0x10000, Infinity] },
  Int16: { bytes: 2, values: [0, -1, 0x1234, -0x8000], wrong: [0x8000, -0x8001] },
  Uint32: { bytes: 4, values: [0, 1, 0x12345678, 0xffffffff], wrong: [-1, 2 ** 32] },
  Int32: { bytes: 4, values: [0, -1, 0x12345678, -0x80000000], wrong: [2 ** 31, -(2 ** 31) - 1] },
  Float32: { bytes: 4, values: [0, -0, 1.5, -Infinity, NaN], wrong: [] },
  Float64: { bytes: 8, values: [0, -0, 0.1, 1e300, NaN], wrong: [] },
  BigUint64: { bytes: 8, values: [0n, 1n, 0x123456789abcdef0n, 2n ** 64n - 1n], wrong: [-1n, 2n ** 64n] },
  BigInt64: { bytes: 8, values: [0n, -1n, 0x123456789abcdef0n, -(2n ** 63n)], wrong: [2n ** 63n, -(2n ** 63n) - 1n] },
};

function call(buffer: EvBuffer, name: string, ...args: unknown[]): unknown {
  return (buffer as unknown as Record<string, (...args: unknown[]) => unknown>)[name]?.(...args);
}

/** The bytes that `DataView` writes for a value. */
function reference(kind: Kind, value: number | bigint, littleEndian: boolean): Uint8Array {
  const view = new DataView(new ArrayBuffer(KINDS[kind].bytes));
  (view as unknown as Record<string, (at: number, value: unknown, le: boolean) => void>)[`set${kind}`]?.(
    0,
    value,
    littleEndian,
  );
  return new Uint8Array(view.buffer);
}

for (const [kind, { bytes, values, wrong }] of Object.entries(KINDS) as [Kind, typeof KINDS[Kind]][]) {
  for (const order of bytes === 1 ? [""] : ["BE", "LE"]) {
    describe(`EvBuffer.add${kind}${order}() and read${kind}${order}()`, () => {
      it("write what a DataView writes, and read it back over every split", () => {
        for (const value of values) {
          const buffer = new EvBuffer();
          call(buffer, `add${kind}${order}`, value);
          const expected = reference(kind, value, order === "LE");
          assertEquals(buffer.toUint8Array(), expected);
          assertEquals(call(buffer, `read${kind}${order}`), value);
          assertEquals(buffer.length, 0);
          for (let cut = 1; cut < bytes; cut++) {
            const pieces = new EvBuffer();
            pieces.addReference(expected.slice(0, cut));
            pieces.addReference(expected.slice(cut));
            pieces.add("rest");
            assertEquals(call(pieces, `read${kind}${order}`), value);
            checkBuffer(pieces);
            assertEquals(pieces.toString(), "rest");
          }
        }
      });

      it("take nothing if there are too few bytes", () => {
        const buffer = new EvBuffer();
        buffer.add(new Uint8Array(bytes - 1));
        assertEquals(call(buffer, `read${kind}${order}`), null);
        assertEquals(buffer.length, bytes - 1);
      });

      it("refuse values that do not fit, and add nothing", () => {
        const buffer = new EvBuffer();
        for (const value of wrong) assertThrows(() => call(buffer, `add${kind}${order}`, value), RangeError);
        const other = typeof values[0] === "bigint" ? 1 : 1n;
        for (const value of [other, "1", null, undefined]) {
          assertThrows(() => call(buffer, `add${kind}${order}`, value), TypeError);
        }
        assertEquals(buffer.length, 0);
      });
    });
  }
}

describe("EvBuffer's numbers", () => {
  it("are not disturbed by callbacks that read and add numbers", () => {
    const buffer = new EvBuffer();
    buffer.addUint32BE(0x01020304);
    buffer.addUint32BE(0x05060708);
    let inner: number | null = null;
    const entry = buffer.addCallback((it) => {
      entry.remove();
      inner = it.readUint16BE();
      it.addUint8(9);
    });
    assertEquals(buffer.readUint32BE(), 0x01020304);
    assertEquals(inner, 0x0506);
    assertEquals(buffer.toUint8Array(), Uint8Array.of(7, 8, 9));
  });
});
