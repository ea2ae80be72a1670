// compressionFilter() on a real connection of the runtime that runs this, with the gzip and brotli commands (or, where
// there is no brotli, node:zlib) at the other end.

import zlib from "node:zlib";
import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  compress,
  compressionFilter,
  EV_READ,
  EventError,
  type FilterBufferEvent,
  serve,
  simRuntime,
} from "../../mod.ts";
import { needs } from "../tools/needs.ts";
import { feed, nc } from "./real_client.ts";

const missing = needs("gzip", "nc -N");
const brotli = needs("brotli") === false;

/** Some MiB of lines, all different. */
function lines(count: number): string {
  let text = "";
  for (let i = 0; i < count; i++) text += `line ${i} of many, with ${(i * 2654435761) % 4294967296}\n`;
  return text;
}

/** Serves one kind of layer. Returns the codes with which its connections have ended. */
async function serving(
  format: "gzip" | "brotli",
  handle: (layer: FilterBufferEvent) => Promise<void>,
): Promise<{ port: number; ended: Promise<string>; stop: () => Promise<void> }> {
  let end: (how: string) => void;
  const ended = new Promise<string>((resolve) => end = resolve);
  const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
    open(bev) {
      const layer = compressionFilter(bev, format, { flags: 1 });
      handle(layer).then(() => end("well"), (error) => {
        end((error as EventError).code);
        layer.free();
      });
    },
  });
  const { port } = server.address as { port: number };
  return { port, ended, stop: () => server.close({ graceMs: 5000 }) };
}

const echo = async (layer: FilterBufferEvent): Promise<void> => {
  await layer.readable.pipeTo(layer.writable);
  assert(await layer.close(), "not all was delivered");
};

describe("compressionFilter() on a real connection", { skip: missing }, () => {
  it("echoes some MiB to the gzip command, completely and in order", async () => {
    const { port, ended, stop } = await serving("gzip", echo);
    const text = lines(100_000);
    const packed = await feed("gzip", ["-c"], text);
    const back = await feed("gzip", ["-dc"], await nc(port, packed));
    assertEquals(Buffer.compare(back, Buffer.from(text)), 0);
    assertEquals(await ended, "well");
    await stop();
  });

  it("reads several streams of the gzip command as one", async () => {
    const { port, ended, stop } = await serving("gzip", async (layer) => {
      let all = "";
      for await (const line of layer.lines({ text: true })) all += `${line};`;
      layer.write(all);
      await layer.close();
    });
    const members = await Promise.all(["one\n", "two\n", "three"].map((text) => feed("gzip", ["-c9"], text)));
    const answer = await feed("gzip", ["-dc"], await nc(port, Buffer.concat(members)));
    assertEquals(new TextDecoder().decode(answer), "one;two;three;");
    assertEquals(await ended, "well");
    await stop();
  });

  it("reports a stream that the gzip command has not finished", async () => {
    const { port, ended, stop } = await serving("gzip", async (layer) => {
      for await (const _chunk of layer);
    });
    const packed = await feed("gzip", ["-c"], lines(1000));
    await nc(port, packed.subarray(0, packed.length - 4));
    assertEquals(await ended, "EV_COMPRESSED_TRUNCATED");
    await stop();
  });

  it("limits the memory for a compression bomb to the high watermark", async () => {
    let most = 0;
    let total = 0;
    const { port, ended, stop } = await serving("gzip", async (layer) => {
      assertEquals(layer.getWatermark(EV_READ).high, 65_536);
      for await (const chunk of layer) {
        // The chunk and the waiting bytes each have a bound: the filter may go on while we check
        // the chunk.
        most = Math.max(most, layer.input.length, chunk.length);
        total += chunk.length;
      }
      await layer.close();
    });
    await nc(port, await feed("gzip", ["-c9"], new Uint8Array(64 << 20)));
    assertEquals(await ended, "well");
    assertEquals(total, 64 << 20);
    assert(most <= 65_536 + 32_768, `${most} bytes at once`);
    await stop();
  });

  it("echoes some MiB in brotli", async () => {
    const { port, ended, stop } = await serving("brotli", echo);
    const text = Buffer.from(lines(20_000));
    const fast = { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 3 } };
    const packed = brotli ? await feed("brotli", ["-c", "-q", "3"], text) : zlib.brotliCompressSync(text, fast);
    const answer = await nc(port, packed);
    const back = brotli ? await feed("brotli", ["-d", "-c"], answer) : zlib.brotliDecompressSync(answer);
    assertEquals(Buffer.compare(back, text), 0);
    assertEquals(await ended, "well");
    await stop();
  });
});

describe("a runtime without zlib", () => {
  it("gets EV_UNSUPPORTED when the filter is made", () => {
    const own = Object.getOwnPropertyDescriptor(process, "getBuiltinModule") ?? {
      value: process.getBuiltinModule,
      configurable: true,
      writable: true,
    };
    const runtime = simRuntime();
    Object.defineProperty(process, "getBuiltinModule", { value: undefined, configurable: true, writable: true });
    try {
      const error = assertThrows(() => compress("gzip", { runtime }), EventError) as EventError;
      assertEquals(error.code, "EV_UNSUPPORTED");
    } finally {
      Object.defineProperty(process, "getBuiltinModule", own);
    }
    assertEquals(typeof compress("gzip", { runtime }), "function");
  });
});
