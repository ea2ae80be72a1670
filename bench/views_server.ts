/**
 * The servers with views that the benchmark measures, and the same with callbacks. The second argument chooses: `lines`,
 * `batches` or `line` (the callback) send lines back; `frames` or `frames-callback` send frames back; `text` or
 * `text-callback` decode the bytes as UTF-8 and send the text back.
 */

import process from "node:process";
import { type BufferEvent, EVBUFFER_EOL_LF, EventError, lengthPrefixed, serve, type ServeCallbacks } from "../mod.ts";

const codec = lengthPrefixed({ prefixBytes: 4 });
const LF = { eol: EVBUFFER_EOL_LF };

/** A loop over a view for each connection. The end of a connection ends its loop. */
function looping(loop: (bev: BufferEvent) => Promise<void>): ServeCallbacks {
  return {
    async open(bev) {
      try {
        await loop(bev);
      } catch (error) {
        if (!(error instanceof EventError)) throw error;
      }
    },
  };
}

function answer(bev: BufferEvent, line: Uint8Array): void {
  bev.write(line);
  bev.write("\n");
}

const MODES: Record<string, () => ServeCallbacks> = {
  line: () => ({ line: answer }),
  lines: () =>
    looping(async (bev) => {
      for await (const line of bev.lines(LF)) answer(bev, line);
    }),
  batches: () =>
    looping(async (bev) => {
      for await (const lines of bev.lines(LF).batches()) for (const line of lines) answer(bev, line);
    }),
  frames: () =>
    looping(async (bev) => {
      for await (const frame of bev.frames(codec)) bev.writeFrame(codec, frame);
    }),
  "frames-callback": () => ({
    read(bev) {
      const { input } = bev;
      for (let frame = codec.decode(input); frame !== null; frame = codec.decode(input)) bev.writeFrame(codec, frame);
    },
  }),
  text: () =>
    looping(async (bev) => {
      const decoded = (bev.readable as unknown as ReadableStream).pipeThrough(new TextDecoderStream());
      const reader = decoded.getReader();
      for (let next = await reader.read(); !next.done; next = await reader.read()) bev.write(next.value);
    }),
  "text-callback": () => {
    const decoders = new WeakMap<BufferEvent, TextDecoder>();
    return {
      open: (bev) => void decoders.set(bev, new TextDecoder()),
      read(bev) {
        const bytes = bev.input.toUint8Array();
        bev.input.drain(bytes.length);
        bev.write((decoders.get(bev) as TextDecoder).decode(bytes, { stream: true }));
      },
    };
  },
};

const callbacks = MODES[process.argv[3] ?? ""];
if (callbacks === undefined) throw new Error(`there is no mode "${process.argv[3]}"`);
const server = await serve(
  { hostname: "127.0.0.1", port: Number(process.argv[2] ?? 0), eol: EVBUFFER_EOL_LF },
  callbacks(),
);
const { address } = server;
if ("port" in address) console.log(`listening on ${address.hostname}:${address.port}`);
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => process.exit(0));
