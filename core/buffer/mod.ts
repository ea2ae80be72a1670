/**
 * Byte queues: libevent's evbuffers.
 *
 * @module
 */

export { type EolPosition, EvBuffer, type ReadlnOptions } from "./evbuffer.ts";
export type { BufferCallback, BufferChange, CallbackEntry } from "./callbacks.ts";
export { FileSegment } from "./file_segment.ts";
export type { LineCallback } from "./lines.ts";
export type { EvBufferPtr } from "./position.ts";
