/**
 * The file of a listening unix socket. Each host removes the path that it has bound when it closes, whatever is there by
 * then: it may be the socket of another process, which has taken the place of this one. So a host binds another name beside
 * the path, and the file gets the path as a second name, before the first one is removed: what the host removes at the end
 * is not there any more, and we remove the file if it is still ours. link(2) fails where something has the path, as
 * bind(2) does. What the kernel calls the socket (`ss -x`) is the first name, so the path's own name is in it.
 *
 * @module
 */

import { encodeUtf8 } from "../../core/buffer/utf8.ts";
import type { NodeFsSync, NodePath } from "../types/node.ts";
import { longestPath } from "./errors.ts";
import { builtin, host } from "./host.ts";

/** A file that is bound by one name and known by another. */
export class SocketFile {
  /** The name that the host binds. */
  readonly bound: string;
  readonly #path: string;
  /** Which file is ours. */
  #identity: string | undefined;

  private constructor(bound: string, path: string) {
    this.bound = bound;
    this.#path = path;
  }

  /**
   * Chooses another name for a path that is to be listened on.
   *
   * @param path The path
   * @returns The file; undefined where the host is to bind the path itself: an abstract name, a path that exists already,
   * one beside which no name is short enough
   */
  static beside(path: string): SocketFile | undefined {
    const platform = host.process?.platform;
    const start = path.lastIndexOf("/") + 1;
    if (path.startsWith("\0") || start === path.length || platform === "win32" || identityOf(path) !== undefined) {
      return undefined;
    }
    const random = Math.random().toString(36).slice(2, 8).padEnd(6, "0");
    const [directory, name] = [path.slice(0, start), path.slice(start)];
    const bound = [`${directory}.${name}.${random}`, `${directory}.${random}`].find((bound) =>
      encodeUtf8(bound).length <= longestPath(platform)
    );
    // The working directory may be another one at the end.
    return bound === undefined ? undefined : new SocketFile(bound, builtin<NodePath>("node:path").resolve(path));
  }

  /**
   * Gives the file that the host has bound its path.
   *
   * @returns False where it could not: somebody has taken the path meanwhile, or the file system has no second names
   */
  publish(): boolean {
    const fs = builtin<NodeFsSync>("node:fs");
    try {
      const identity = identityOf(this.bound);
      fs.linkSync(this.bound, this.#path);
      this.#identity = identity;
      fs.unlinkSync(this.bound);
      return true;
    } catch {
      this.remove();
      return false;
    }
  }

  /** Removes the file, if it is still ours. */
  remove(): void {
    if (this.#identity === undefined || identityOf(this.#path) !== this.#identity) return;
    this.#identity = undefined;
    try {
      builtin<NodeFsSync>("node:fs").unlinkSync(this.#path);
    } catch {
      // Somebody else has removed it in between.
    }
  }
}

/** Tells a file from every other one that exists; undefined where there is none, or it cannot be seen. */
function identityOf(path: string): string | undefined {
  try {
    const { dev, ino } = builtin<NodeFsSync>("node:fs").lstatSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
}

/**
 * Lets a host bind a path, by another name where that can be had.
 *
 * @param path The path
 * @param file The other name
 * @param bind Binds a name
 * @param close Closes what was bound
 * @returns What was bound, and its file unless it is bound by its path
 */
export function bindPath<T>(
  path: string,
  file: SocketFile | undefined,
  bind: (name: string) => T,
  close: (listener: T) => void,
): { listener: T; file: SocketFile | undefined } {
  if (file !== undefined) {
    try {
      const listener = bind(file.bound);
      if (file.publish()) return { listener, file };
      close(listener);
    } catch {
      // What the path itself gives is the error to tell.
    }
  }
  return { listener: bind(path), file: undefined };
}
