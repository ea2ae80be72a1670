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
import type { NodeFsSync, NodePath } from "../types/node.ts";
import { longestPath } from "./errors.ts";
import { builtin, host } from "./host.ts";

/** A file that is bound under one name and has another. */
export class SocketFile {
  /** The name that the runtime binds. */
  readonly bound: string;
  readonly #path: string;
  /** The identity of our file. */
  #identity: string | undefined;

  private constructor(bound: string, path: string) {
    this.bound = bound;
    this.#path = path;
  }

  /**
   * Chooses another name for a path to listen on.
   *
   * @param path The path
   * @returns The file; undefined if the runtime must bind the path itself: for an abstract name, for a path that
   * exists, or if every other name would be too long
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
    // The working directory may change before the end.
    return bound === undefined ? undefined : new SocketFile(bound, builtin<NodePath>("node:path").resolve(path));
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
      // It was removed in between.
    }
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

/**
 * Lets a runtime bind a path, under another name if possible.
 *
 * @param path The path
 * @param file The other name
 * @param bind Binds a name
 * @param close Closes the bound object
 * @returns The bound object, and its file unless it was bound under the path itself
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
      // Report the error for the path itself.
    }
  }
  return { listener: bind(path), file: undefined };
}
