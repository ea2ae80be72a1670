/**
 * Streams of Node and bufferevents: {@linkcode toDuplex} runs libraries for Node's streams and sockets on a bufferevent, and
 * {@linkcode fromDuplex} makes a bufferevent of any stream. It works on Node, Deno and Bun, with their own `node:stream`.
 *
 * @module
 */

export { BufferEventDuplex, type Done, type DuplexAddress, toDuplex, type ToDuplexOptions } from "./duplex/stream.ts";
export { DuplexBufferEvent, fromDuplex } from "./duplex/bufferevent.ts";
