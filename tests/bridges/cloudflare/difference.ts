// The agreement of socketsConnect() with Cloudflare's types, and the differences. A test compiles
// it.

import type { connect as theirs } from "cloudflare:sockets";
import type { socketsConnect as ours, SocketsOptions } from "../../../core/mod.ts";

type Theirs = ReturnType<typeof theirs>;
type Ours = ReturnType<typeof ours>;
declare const socket: Ours;

/** No member is missing. */
export const missing: Exclude<keyof Theirs, keyof Ours> extends never ? true : false = true;
export const promises: Pick<Theirs, "closed" | "close" | "upgraded" | "secureTransport"> = socket;
export const startTls: (options?: Parameters<Theirs["startTls"]>[0]) => Ours = socket.startTls;
export const address: (address: Parameters<typeof theirs>[0]) => Ours = {} as typeof ours;
export const option: Pick<SocketsOptions, "allowHalfOpen" | "highWaterMark"> = {} as Pick<
  NonNullable<Parameters<typeof theirs>[1]>,
  "allowHalfOpen" | "highWaterMark"
>;

// An unknown address is null, as in the draft of WinterTC, not undefined.
// @ts-expect-error Different
export const opened: Theirs["opened"] = socket.opened;
// Only the three values are allowed, not every string.
// @ts-expect-error Different
export const transport: SocketsOptions["secureTransport"] = "" as string;
