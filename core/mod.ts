/**
 * The core of Trivent: everything except the adapters. It imports nothing but itself and names no runtime.
 *
 * Give each `EventBase` its `Runtime`, or call {@linkcode setDefaultRuntime} once.
 *
 * @example
 * ```ts
 * import { EventBase } from "trivent/core";
 * import { simRuntime } from "trivent/sim";
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
  type ProxyHeader,
  type ProxyTlv,
  type Runtime,
  setDefaultRuntime,
  type TimerToken,
  type TransportBinding,
  type TransportSink,
  type UnixAddress,
} from "./runtime.ts";
export type {
  Pem,
  StartTlsOptions,
  TlsConnectOptions,
  TlsInfo,
  TlsListenOptions,
  TlsOptions,
  TlsRole,
  TlsVersion,
} from "./tls.ts";
export { sleep, type SleepOptions } from "./api/sleep.ts";
export { EventBase, type EventBaseOptions } from "./api/event_base.ts";
export { type EventCallback, EventCore, EventHandle } from "./api/event_handle.ts";
export { CommonTimeout } from "./api/common_timeout.ts";
export type { LoopResult } from "./loop/loop.ts";
export type { BaseStats } from "./loop/stats.ts";
export type { CheckCallback, PrepareCallback, Watcher } from "./loop/watch.ts";
export { Pollable } from "./api/pollable.ts";
export { Socket } from "./api/socket.ts";
export { ListeningSocket } from "./api/listening_socket.ts";
export type { Datagram } from "./socket/datagrams.ts";
export { DatagramSocket } from "./api/datagram_socket.ts";
export { select, type SelectResult, type SelectSets } from "./api/select.ts";
export { Poller, type PollEvent } from "./api/poller.ts";
export { type Completion, CompletionPort } from "./api/completion_port.ts";
export { Overlapped, type OverlappedCallback } from "./api/overlapped.ts";
export type { WaitOptions } from "./poll/wait.ts";
export * from "./buffer/mod.ts";
export { Loan } from "./loan.ts";
export type { HostAbortSignal } from "./bufferevent/abort.ts";
export type { BufferEventCallbacks } from "./bufferevent/callbacks.ts";
export { BufferEvent, type Watermarks } from "./api/bufferevent.ts";
export { SocketBufferEvent } from "./api/socket_bufferevent.ts";
export { bufferEventPair, PairBufferEvent, type PairOptions } from "./api/pair_bufferevent.ts";
export type { BufferEventFilter } from "./bufferevent/filter_run.ts";
export { FilterBufferEvent } from "./api/filter_bufferevent.ts";
export {
  compress,
  compressionFilter,
  type CompressionFilterOptions,
  type CompressionOptions,
  decompress,
  type DecompressionOptions,
} from "./api/compression.ts";
export { type Heartbeat, heartbeat, type HeartbeatOptions } from "./api/heartbeat.ts";
export { pipe, type PipeOptions, type PipeResult } from "./api/pipe.ts";
export { crlfToLf, lfToCrlf } from "./api/line_endings.ts";
export { EV_RATE_LIMIT_MAX, TokenBucketConfig, type TokenBucketOptions } from "./bufferevent/rate_limit.ts";
export { RateLimitGroup } from "./api/rate_limit_group.ts";
export { ConnListener, type ListenerCallback, type ListenerErrorCallback } from "./api/listener.ts";
export {
  DEFAULT_MAX_FRAME_BYTES,
  delimited,
  fixedLength,
  type FrameCodec,
  type FrameInput,
  type FrameOptions,
  lengthPrefixed,
  type LengthPrefixOptions,
  mapCodec,
  varintPrefixed,
} from "./views/frames.ts";
export { jsonLines } from "./views/json.ts";
export * from "./views/lines.ts";
export {
  decodeProxyHeader,
  encodeProxyHeader,
  PP2_TYPE_ALPN,
  PP2_TYPE_AUTHORITY,
  PP2_TYPE_CRC32C,
  PP2_TYPE_NETNS,
  PP2_TYPE_NOOP,
  PP2_TYPE_SSL,
  PP2_TYPE_UNIQUE_ID,
} from "./socket/proxy_header.ts";
export {
  type AdmissionCallbacks,
  connect,
  type ConnectionCallbacks,
  type ConnectionOptions,
  connectNow,
  type ProxyProtocolOptions,
  type RejectReason,
  serve,
  type ServeCallbacks,
  type ServeOptions,
  Server,
  type TlsCredentials,
  type TlsServeOptions,
} from "./serve/serve.ts";
export type { ServerStats } from "./serve/figures.ts";
export { prometheus } from "./serve/prometheus.ts";
export type { KeepAliveOptions } from "./serve/keep_alive.ts";
export { stopOnSignals, type StopOptions, type Stoppable } from "./serve/stop_on_signals.ts";
export {
  type BackoffOptions,
  Link,
  type LinkState,
  reconnect,
  type ReconnectCallbacks,
  type ReconnectOptions,
} from "./serve/reconnect.ts";
export type { FrameViewOptions, LineViewOptions } from "./views/decoders.ts";
export { View, type ViewOptions } from "./views/views.ts";
export type {
  ByteChunk,
  ByteReadable,
  ByteReadableStream,
  ByteWritable,
  ByteWritableStream,
} from "./views/web_streams.ts";
export {
  connect as socketsConnect,
  SocketError,
  type SocketsAddress,
  type SocketsInfo,
  type SocketsOptions,
  type SocketsTlsOptions,
  StreamSocket,
} from "./serve/sockets.ts";
