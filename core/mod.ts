/**
 * The core of Trivent: everything but the hosts. It imports nothing but itself and names no runtime.
 *
 * Give each `EventBase` its `Runtime`, or call {@linkcode setDefaultRuntime} once.
 *
 * @example
 * ```ts
 * import { EventBase } from "trivent/core";
 * import { simRuntime } from "trivent/sim";
 *
 * const sim = simRuntime();
 * const base = new EventBase({ runtime: sim });
 * base.timer(() => console.log("an hour later")).add(3_600_000);
 * await sim.run(base.dispatch());
 * ```
 *
 * @module
 */

export * from "./flags.ts";
export type { Callback } from "./callback.ts";
export { EventError, type EventErrorOptions } from "./errors.ts";
export {
  type AbortSignalLike,
  type AcceptSink,
  type Address,
  type Capabilities,
  type CompressionFormat,
  type Compressor,
  type ConnectOptions,
  type DatagramBinding,
  type DatagramOptions,
  type DatagramSink,
  defaultRuntime,
  type InetAddress,
  type ListenerBinding,
  type ListenOptions,
  type Runtime,
  setDefaultRuntime,
  type TimerToken,
  type TransportBinding,
  type TransportSink,
  type UnixAddress,
} from "./runtime.ts";
export type { Pem, StartTlsOptions, TlsConnectOptions, TlsInfo, TlsListenOptions, TlsOptions, TlsRole } from "./tls.ts";
export { EventBase, type EventBaseOptions } from "./loop/event_base.ts";
export { type EventCallback, EventCore, EventHandle } from "./loop/event_handle.ts";
export { CommonTimeout } from "./loop/common_timeout.ts";
export type { LoopResult } from "./loop/loop.ts";
export type { BaseStats } from "./loop/stats.ts";
export type { CheckCallback, PrepareCallback, Watcher } from "./loop/watch.ts";
export { Pollable } from "./socket/pollable.ts";
export { Socket } from "./socket/socket.ts";
export { ListeningSocket } from "./socket/listening_socket.ts";
export { type Datagram, DatagramSocket } from "./socket/datagram_socket.ts";
export { select, type SelectResult, type SelectSets } from "./poll/select.ts";
export { Poller, type PollEvent } from "./poll/poller.ts";
export { type Completion, CompletionPort } from "./poll/completion_port.ts";
export { Overlapped, type OverlappedCallback } from "./poll/overlapped.ts";
export type { WaitOptions } from "./poll/wait.ts";
export * from "./buffer/mod.ts";
export { Loan } from "./buffer/loan.ts";
export type { HostAbortSignal } from "./bufferevent/abort.ts";
export { BufferEvent, type BufferEventCallbacks, type Watermarks } from "./bufferevent/bufferevent.ts";
export { SocketBufferEvent } from "./bufferevent/socket.ts";
export { bufferEventPair, PairBufferEvent, type PairOptions } from "./bufferevent/pair.ts";
export { type BufferEventFilter, FilterBufferEvent } from "./bufferevent/filter.ts";
export {
  compress,
  compressionFilter,
  type CompressionFilterOptions,
  type CompressionOptions,
  decompress,
  type DecompressionOptions,
} from "./bufferevent/filters/compression.ts";
export { pipe, type PipeOptions, type PipeResult } from "./bufferevent/pipe.ts";
export { crlfToLf, lfToCrlf } from "./bufferevent/filters/line_endings.ts";
export {
  EV_RATE_LIMIT_MAX,
  RateLimitGroup,
  TokenBucketConfig,
  type TokenBucketOptions,
} from "./bufferevent/rate_limit.ts";
export { ConnListener, type ListenerCallback, type ListenerErrorCallback } from "./listener.ts";
export * from "./stream/frames.ts";
export * from "./stream/lines.ts";
export {
  type AdmissionCallbacks,
  connect,
  type ConnectionCallbacks,
  type ConnectionOptions,
  type RejectReason,
  serve,
  type ServeCallbacks,
  type ServeOptions,
  Server,
} from "./stream/serve.ts";
export type { FrameViewOptions, LineViewOptions } from "./stream/lenses.ts";
export { View, type ViewOptions } from "./stream/views.ts";
export type {
  ByteChunk,
  ByteReadable,
  ByteReadableStream,
  ByteWritable,
  ByteWritableStream,
} from "./stream/web_streams.ts";
export {
  connect as socketsConnect,
  SocketError,
  type SocketsAddress,
  type SocketsInfo,
  type SocketsOptions,
  type SocketsTlsOptions,
  StreamSocket,
} from "./stream/sockets.ts";
