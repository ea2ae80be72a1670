/**
 * Trivent: libevent's model (event base, events, evbuffers, bufferevents, connection listeners) for TCP servers and
 * clients, the same code on Node, Deno and Bun.
 *
 * All examples import from `trivent`, the package's name on npm. On JSR the name is `@trivent/trivent`: add it under the
 * short name with `deno add trivent@jsr:@trivent/trivent`, or map it in the `imports` of `deno.json`.
 *
 * @example A ROT13 server
 * ```ts
 * import { EVBUFFER_EOL_LF, serve } from "trivent";
 *
 * const server = await serve({ hostname: "127.0.0.1", port: 0 }, {
 *   read(bev) {
 *     for (let line = bev.input.readln(EVBUFFER_EOL_LF); line !== null; line = bev.input.readln(EVBUFFER_EOL_LF)) {
 *       for (let i = 0; i < line.length; i++) {
 *         const c = line[i]! | 32;
 *         if (c >= 97 && c <= 122) line[i]! += c < 110 ? 13 : -13;
 *       }
 *       bev.write(line);
 *       bev.write("\n");
 *     }
 *   },
 * });
 * console.log("listening on", server.address);
 * await server.close();
 * ```
 *
 * @module
 */

import { setDefaultRuntime } from "./core/runtime.ts";
import { detectRuntime } from "./runtimes/detect.ts";

export * from "./core/mod.ts";
export { detectRuntime } from "./runtimes/detect.ts";
export { type SimFaults, type SimHost, type SimOptions, type SimRuntime, simRuntime } from "./runtimes/sim.ts";

setDefaultRuntime(detectRuntime);
