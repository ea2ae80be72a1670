/**
 * A small key-value server that speaks RESP, the protocol of Redis: `resp_server [PORT]`. Try it with
 * `redis-cli -p 9878`, or measure it with `redis-benchmark -p 9878 -t ping,set,get,incr`.
 *
 * It shows a custom codec: `FrameCodec<Resp>` decodes and encodes values with a type, and its limits hold against any
 * peer. The commands are PING, ECHO, GET, SET, DEL, INCR, COMMAND and CONFIG.
 */

import { type EvBuffer, EventBase, EventError, type FrameCodec, serve, stopOnSignals } from "trivent";
import { announce, main, onlyPort } from "./_common.ts";

/** A value of RESP. A text is a simple string, bytes are a bulk string, and null is a missing bulk string. */
type Resp = { simple: string } | { error: string } | { integer: number } | { bulk: Uint8Array | null } | {
  array: Resp[];
};

const MAX_BYTES = 1024 * 1024;
const MAX_ITEMS = 1024;
const MAX_DEPTH = 8;
const CR = 0x0d;
const LF = 0x0a;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Reads one value from bytes that may end anywhere. */
class Parser {
  at = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The next value; null while it is incomplete. */
  value(depth = 0): Resp | null {
    const line = this.#line();
    if (line === null) return null;
    const rest = line.slice(1);
    switch (line[0]) {
      case "+":
        return { simple: rest };
      case "-":
        return { error: rest };
      case ":":
        return { integer: count(rest, Number.MAX_SAFE_INTEGER) };
      case "$":
        return rest === "-1" ? { bulk: null } : this.#bulk(count(rest, MAX_BYTES));
      case "*":
        if (depth === MAX_DEPTH) throw invalid(`more than ${MAX_DEPTH} arrays in each other`);
        return this.#array(count(rest, MAX_ITEMS), depth + 1);
    }
    // A command as a person types it.
    return { array: line.split(" ").filter((word) => word !== "").map((word) => ({ bulk: encoder.encode(word) })) };
  }

  #line(): string | null {
    const end = this.#bytes.indexOf(LF, this.at);
    if (end < 0) return null;
    const line = decoder.decode(this.#bytes.subarray(this.at, this.#bytes[end - 1] === CR ? end - 1 : end));
    this.at = end + 1;
    return line;
  }

  #bulk(length: number): Resp | null {
    const end = this.at + length;
    if (this.#bytes.length < end + 2) return null;
    if (this.#bytes[end] !== CR || this.#bytes[end + 1] !== LF) throw invalid("a bulk string without its CR LF");
    const bulk = this.#bytes.slice(this.at, end);
    this.at = end + 2;
    return { bulk };
  }

  #array(length: number, depth: number): Resp | null {
    const array: Resp[] = [];
    while (array.length < length) {
      const item = this.value(depth);
      if (item === null) return null;
      array.push(item);
    }
    return { array };
  }
}

const resp: FrameCodec<Resp> = {
  decode(input) {
    const bytes = input.pullup(-1);
    if (bytes === null) return null;
    const parser = new Parser(bytes);
    const value = parser.value();
    if (value !== null) input.drain(parser.at);
    else if (bytes.length > 2 * MAX_BYTES) throw new EventError("too long", { code: "EV_FRAME_TOO_LONG" });
    return value;
  },
  encode(output, value) {
    if ("simple" in value) output.add(`+${value.simple}\r\n`);
    else if ("error" in value) output.add(`-${value.error}\r\n`);
    else if ("integer" in value) output.add(`:${value.integer}\r\n`);
    else if ("array" in value) {
      output.add(`*${value.array.length}\r\n`);
      for (const item of value.array) resp.encode(output, item);
    } else encodeBulk(output, value.bulk);
  },
};

function encodeBulk(output: EvBuffer, bulk: Uint8Array | null): void {
  if (bulk === null) return output.add("$-1\r\n");
  output.add(`$${bulk.length}\r\n`);
  output.add(bulk);
  output.add("\r\n");
}

function count(text: string, most: number): number {
  if (!/^\d{1,16}$/.test(text) || Number(text) > most) throw invalid(`a count from 0 to ${most} was expected`);
  return Number(text);
}

function invalid(why: string): EventError {
  return new EventError(`Cannot read a value: ${why}`, { code: "EV_FRAME_INVALID" });
}

const values = new Map<string, Uint8Array>();
const OK: Resp = { simple: "OK" };

const COMMANDS: { readonly [name: string]: (args: readonly Uint8Array[]) => Resp } = {
  PING: ([text]) => text === undefined ? { simple: "PONG" } : { bulk: text },
  ECHO: ([text = new Uint8Array()]) => ({ bulk: text }),
  GET: ([key]) => ({ bulk: values.get(decoder.decode(key)) ?? null }),
  SET([key, value]) {
    if (value === undefined) return { error: "ERR wrong number of arguments" };
    values.set(decoder.decode(key), value);
    return OK;
  },
  DEL: (keys) => ({ integer: keys.filter((key) => values.delete(decoder.decode(key))).length }),
  INCR([key]) {
    const name = decoder.decode(key);
    const next = Number(decoder.decode(values.get(name) ?? encoder.encode("0"))) + 1;
    if (!Number.isSafeInteger(next)) return { error: "ERR value is not an integer or out of range" };
    values.set(name, encoder.encode(`${next}`));
    return { integer: next };
  },
  COMMAND: () => ({ array: [] }),
  CONFIG: () => ({ array: [] }),
};

function answer(command: Resp): Resp | null {
  const words = "array" in command ? command.array.map((item) => "bulk" in item ? item.bulk : null) : [null];
  if (words.length === 0) return null;
  const known = words.filter((word) => word !== null);
  if (known.length < words.length) return { error: "ERR a command is an array of bulk strings" };
  const name = decoder.decode(known[0]).toUpperCase();
  return Object.hasOwn(COMMANDS, name)
    ? (COMMANDS[name]?.(known.slice(1)) ?? null)
    : { error: `ERR unknown command '${name.replace(/\W/g, "").slice(0, 20)}'` };
}

await main("resp_server [PORT]", async (args) => {
  const base = new EventBase();
  const server = await serve({ base, hostname: "127.0.0.1", port: onlyPort(args, 9878) }, {
    async open(bev) {
      for await (const commands of bev.frames(resp, { maxBytes: 2 * MAX_BYTES }).batches()) {
        for (const command of commands) {
          const reply = answer(command);
          if (reply !== null) bev.writeFrame(resp, reply);
        }
      }
    },
    error: (error) => console.error(error instanceof EventError ? error.message : error),
  });
  stopOnSignals(server, { graceMs: 1000 });
  announce(server.address);
  await base.dispatch();
});
