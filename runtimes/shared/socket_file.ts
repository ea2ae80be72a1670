/**
 * The file of a listening unix socket. When a listener closes, each runtime removes the path that it has bound,
 * whatever is there by then. It may be the socket of another process that has replaced this one. So the runtime binds
 * another name beside the path. The file then gets the path as a second name, and the first name is removed. At the end
 * the runtime finds nothing to remove, and we remove the file if it is still ours. link(2) fails if the path exists, as
 * bind(2) does. The kernel shows the first name (`ss -x`), so that name contains the path's own name.
 *
 * @module
 */

import { encodeUtf8 } from "../../core/buffer/utf8.ts";
import type { NodeFsSync, NodeNet, NodePath } from "../types/node.ts";
import type { ListenOptions } from "../../core/runtime.ts";
import { failure, longestPath } from "./errors.ts";
import { EventError } from "../../core/errors.ts";
import { builtin, host, WRITE_AHEAD } from "./host.ts";

/** A file that is bound under one name and has another. */
export class SocketFile {
  /** The name that the runtime binds. */
  readonly bound: string;
  private readonly path: string;
  private readonly unlinkOnClose: boolean;
  /** The identity of our file. */
  private identity: string | undefined;

  private constructor(bound: string, path: string, unlinkOnClose: boolean) {
    this.bound = bound;
    this.path = path;
    this.unlinkOnClose = unlinkOnClose;
  }

  /**
   * Chooses another name for a path to listen on.
   *
   * @param path The path
   * @param unlinkOnClose Whether `remove()` removes the file
   * @returns The file; undefined if the runtime must bind the path itself: for an abstract name, for a path that
   * exists, or if every other name would be too long
   */
  static beside(path: string, unlinkOnClose = true): SocketFile | undefined {
    const platform = host.process?.platform;
    const start = path.lastIndexOf("/") + 1;
    if (path.startsWith("\0") || start === path.length || platform === "win32" || identityOf(path) !== undefined) {
      return undefined;
    }
    const bound = otherNames(path).find((bound) => encodeUtf8(bound).length <= longestPath(platform));
    // The working directory may change before the end.
    const absolute = builtin<NodePath>("node:path").resolve(path);
    return bound === undefined ? undefined : new SocketFile(bound, absolute, unlinkOnClose);
  }

  /**
   * Gives the bound file its path.
   *
   * @returns False if that fails: the path exists by now, or the file system has no hard links
   */
  publish(): boolean {
    const fs = builtin<NodeFsSync>("node:fs");
    try {
      const identity = identityOf(this.bound);
      fs.linkSync(this.bound, this.path);
      this.identity = identity;
      fs.unlinkSync(this.bound);
      return true;
    } catch {
      this.remove();
      return false;
    }
  }

  /** Removes the file, if it is still ours and is to be removed. */
  remove(): void {
    if (!this.unlinkOnClose || this.identity === undefined || identityOf(this.path) !== this.identity) return;
    this.identity = undefined;
    try {
      builtin<NodeFsSync>("node:fs").unlinkSync(this.path);
    } catch {
      // It was removed in between.
    }
  }
}

/** Other names in the directory of a path, which nobody has. The first contains the path's own name. */
function otherNames(path: string): readonly string[] {
  const random = Math.random().toString(36).slice(2, 8).padEnd(6, "0");
  const start = path.lastIndexOf("/") + 1;
  const [directory, name] = [path.slice(0, start), path.slice(start)];
  return [`${directory}.${name}.${random}`, `${directory}.${random}`];
}

/**
 * The path of a socket that was bound under another name.
 *
 * @param bound The name that the system shows
 * @returns The path, if that name was one of ours; otherwise `bound`
 */
export function publishedPath(bound: string): string {
  const path = bound.replace(/\.([^/]+)\.[0-9a-z]{6}$/, "$1");
  return identityOf(bound) === undefined && identityOf(path) !== undefined ? path : bound;
}

/** How long a listener may take to answer, and to end the connection. */
const PROBE_MS = 2000;

/** Whether nobody listens on a socket's file. What cannot be found out counts as somebody. */
function isDeserted(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = builtin<NodeNet>("node:net").connect({
      path,
      allowHalfOpen: false,
      noDelay: false,
      highWaterMark: WRITE_AHEAD,
      autoSelectFamily: false,
    });
    const timer = host.setTimeout(() => {
      socket.destroy();
      resolve(false);
    }, PROBE_MS);
    timer.unref();
    socket.on("connect", () => {
      resolve(false);
      // A peer whose greeting is not read would see a reset.
      socket.resume();
      socket.end();
    });
    socket.on("error", (reason: { code?: unknown }) => resolve(reason.code === "ECONNREFUSED"));
    socket.on("close", () => host.clearTimeout(timer));
  });
}

/**
 * Removes the file of a unix socket on which nobody listens. Anything else stays.
 *
 * Another process may replace the file by its own in between. So the file is first given another name, which is atomic, and is
 * removed only if it is still the one that was asked about. Otherwise it gets its name back.
 *
 * @param tried The words for what was tried
 * @param path The path
 */
async function removeStale(tried: string, path: string): Promise<void> {
  const [other] = otherNames(path);
  const stale = socketIdentity(path);
  if (other === undefined || path.startsWith("\0") || stale === undefined || !await isDeserted(path)) return;
  const fs = builtin<NodeFsSync>("node:fs");
  if (socketIdentity(path) !== stale) return;
  try {
    fs.renameSync(path, other);
  } catch (reason) {
    // Another process has removed it.
    if ((reason as { code?: unknown }).code === "ENOENT") return;
    throw failure(tried, reason, "listen");
  }
  if (socketIdentity(other) !== stale) {
    try {
      fs.linkSync(other, path);
    } catch {
      // A third one has the path by now.
    }
  }
  fs.unlinkSync(other);
}

/** The identity of a socket's file; undefined for any other file. An inode may be used again, so the time belongs to it. */
function socketIdentity(path: string): string | undefined {
  try {
    const stat = builtin<NodeFsSync>("node:fs").lstatSync(path, { bigint: true });
    return stat.isSocket() ? `${stat.dev}:${stat.ino}:${stat.mtimeNs}` : undefined;
  } catch {
    return undefined;
  }
}

/** The identity of a file among all that exist; undefined if there is none, or if it cannot be read. */
function identityOf(path: string): string | undefined {
  try {
    const { dev, ino } = builtin<NodeFsSync>("node:fs").lstatSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/** How a runtime binds the path of a unix socket. */
export interface PathBinder<T> {
  /** Whether it may bind another name beside the path. */
  readonly mayName: boolean;
  /** Binds a name. */
  bind(name: string): T | Promise<T>;
  /** Closes the bound object. */
  close(listener: T): void;
}

/**
 * Lets a runtime bind the path of the options, under another name if possible.
 *
 * @param tried The words for what was tried
 * @param path The path
 * @param options The other options
 * @param binder How the runtime binds
 * @returns The bound object, and its file unless it was bound under the path itself
 */
export async function bindPath<T>(
  tried: string,
  path: string,
  { replaceStale, unlinkOnClose = true }: ListenOptions,
  binder: PathBinder<T>,
): Promise<{ listener: T; file: SocketFile | undefined }> {
  if (replaceStale === true) await removeStale(tried, path);
  const file = binder.mayName ? SocketFile.beside(path, unlinkOnClose) : undefined;
  if (file !== undefined) {
    try {
      const listener = await binder.bind(file.bound);
      if (file.publish()) return { listener, file };
      binder.close(listener);
    } catch {
      // Report the error for the path itself.
    }
  }
  const listener = await binder.bind(path);
  if (unlinkOnClose || path.startsWith("\0")) return { listener, file: undefined };
  binder.close(listener);
  throw new EventError(
    `Cannot ${tried} and leave the file (unlinkOnClose: false): it could not be bound under another name, and the ` +
      "runtime removes it",
    { code: "EV_UNSUPPORTED" },
  );
}
