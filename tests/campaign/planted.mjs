/**
 * Faults that are planted in a copy of the library, one at a time, to see that the campaign finds each:
 * `node tests/campaign/planted.mjs [--runs N] [--seed N] [name…]` plays until each is found, and says after how many programs.
 */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { ROOT } from "../tools/runtimes.mjs";
import { bundleCampaign } from "./bundle.mjs";
import { playAlone } from "./shrink.mjs";

/** @type {readonly { name: string, file: string, from: string, to: string }[]} */
export const PLANTED = [
  {
    name: "loses a byte at a chunk border",
    file: "core/buffer/chain.ts",
    from: "  chunk.start += left;\n  chain.first = chunk;",
    to:
      "  if (left === 0 && chunk.end - chunk.start > 1) chain.length -= left = 1;\n  chunk.start += left;\n  chain.first = chunk;",
  },
  {
    name: "calls back after free()",
    file: "core/bufferevent/core.ts",
    from: "    this.callbacks = null;\n    this.forgetPending();\n    this.rate?.end();",
    to: "    this.rate?.end();",
  },
  {
    name: "forgets to resume reading below the high watermark",
    file: "core/bufferevent/core.ts",
    from: "if (this.readSuspended !== 0 && (this.readHigh === 0 || this.input.length < this.readHigh)) {",
    to: "if (this.readSuspended !== 0 && this.readHigh === 0) {",
  },
  {
    name: "sends the end before bytes that wait",
    file: "core/bufferevent/socket_core.ts",
    from: "    if (this.connection !== null && !this.connecting) this.queueFlush();\n  }\n\n  override close(",
    to: "    if (this.connection !== null && !this.connecting) this.connection.shutdown();\n  }\n\n  override close(",
  },
  {
    name: "sends a part twice after a short write",
    file: "core/socket/connection.ts",
    from: "        consume(buffer, taken);\n        total += taken;",
    to:
      "        consume(buffer, taken < wanted && taken < buffer.length ? taken - 1 : taken);\n        total += taken;",
  },
  {
    name: "leaves a timer behind",
    file: "core/bufferevent/core.ts",
    from: "    this.setIdleTimeout(0);\n    this.heartbeat = null;",
    to: "    this.setIdleTimeout(0);",
  },
  {
    name: "drops a last line without a terminator",
    file: "core/views/lines.ts",
    from: '      checkEvBuffer("read a line", input);\n      return take(input, input.length);',
    to: '      checkEvBuffer("read a line", input);\n      take(input, input.length);\n      return null;',
  },
  {
    name: "never refills a rate limit",
    file: "core/bufferevent/token_bucket.ts",
    from: "this.write = Math.min(writeBurst, this.write + ticks * writeRate);",
    to: "this.write = Math.min(writeBurst, this.write + 0 * writeRate);",
  },
  {
    name: "counts a read timeout from the wrong time",
    file: "core/bufferevent/socket_core.ts",
    from: "this.loop.setDeadline(this, this.readTimeoutMs, this.loop.clock());",
    to: "this.loop.setDeadline(this, this.readTimeoutMs * 0.9, this.loop.clock());",
  },
  {
    name: "forgets a client that waits in a listener",
    file: "core/api/listener.ts",
    from: "    this.#enabled = true;\n    this.#update();",
    to: "    this.#enabled = true;",
  },
  {
    name: "does not pass the end on in a pipe",
    file: "core/api/pipe.ts",
    from: "if (!this.other.core.finishing) this.other.core.shutdown();",
    to: "if (this.other.core.finishing) this.other.core.shutdown();",
  },
  {
    name: "forgets who waits for the output to drain",
    file: "core/bufferevent/core.ts",
    from: "if (rare.drains !== null) this.tellDrained(rare.drains);",
    to: "if (rare.drains !== null && rare.above !== null) this.tellDrained(rare.drains);",
  },
];

/**
 * Plays programs with a fault until one fails.
 *
 * @param {typeof PLANTED[number]} fault
 * @param {{ seed: number, runs: number }} options The first seed, and the most programs
 * @returns {Promise<{ runs: number, message: string } | null>} How many programs were played and what was found
 */
export async function hunt(fault, { seed, runs }) {
  const folder = join(ROOT, "build", "campaign");
  mkdirSync(folder, { recursive: true });
  const path = join(folder, `planted-${process.pid}-${PLANTED.indexOf(fault)}.mjs`);
  await bundleCampaign(path, fault);
  const campaign = await import(path);
  for (let i = 0; i < runs; i++) {
    const { error } = await playAlone(campaign, campaign.planOf(seed + i));
    if (error !== null) return { runs: i + 1, message: error.message };
  }
  return null;
}

if (process.argv[1] === import.meta.filename) {
  const { values: { runs = "20000", seed = "1" }, positionals } = parseArgs({
    allowPositionals: true,
    options: { runs: { type: "string" }, seed: { type: "string" } },
  });
  for (const fault of PLANTED) {
    if (positionals.length > 0 && !positionals.some((word) => fault.name.includes(word))) continue;
    const found = await hunt(fault, { seed: Number(seed), runs: Number(runs) });
    if (found === null) process.exitCode = 1;
    const text = found === null
      ? `not in ${runs} programs`
      : `${found.runs}: ${found.message.split("\n")[0].slice(0, 110)}`;
    console.log(`${fault.name}: ${text}`);
  }
}
