/**
 * The paths of a host's unix sockets.
 *
 * @module
 */

import { checkPath, longestPath, refusal, show } from "../shared/errors.ts";

/** The directories that every host has, as the Filesystem Hierarchy Standard names them. */
const DIRECTORIES: readonly string[] = /* @__PURE__ */ (
  "/ /dev /dev/shm /etc /home /media /mnt /opt /root /run /srv /tmp /usr /usr/local /var /var/cache /var/lib /var/log " +
  "/var/run /var/spool /var/tmp"
).split(" ");

/** The paths of one host, and their listeners. */
export class PathTable<T> {
  /** The directories in which a socket may be bound. */
  readonly directories: Set<string> = new Set(DIRECTORIES);
  readonly #files: ReadonlyMap<string, unknown>;
  readonly #holders: Map<string, T> = new Map();
  /** The files of sockets without a listener. */
  readonly #stale: Set<string> = new Set();

  /**
   * Makes a table.
   *
   * @param files The host's files, by path. They and their directories cannot be bound
   */
  constructor(files: ReadonlyMap<string, unknown>) {
    this.#files = files;
  }

  /**
   * Checks a path to listen on.
   *
   * @param path The path
   * @param replaceStale Whether a file without a listener is removed
   * @throws {EventError} `EINVAL`, `ENOENT`, `ENOTDIR`, `EADDRINUSE`
   */
  claim(path: string, replaceStale: boolean): void {
    const tried = `listen on ${show({ path })}`;
    checkPath(tried, path, "listen", longestPath("linux"));
    if (replaceStale) this.#stale.delete(path);
    const isThere = this.#holders.has(path) || this.#stale.has(path) || this.#files.has(path);
    const code = isThere ? "EADDRINUSE" : this.#missing(path);
    if (code !== undefined) throw refusal(tried, code, "listen");
  }

  /**
   * Binds the path that `claim()` has allowed.
   *
   * @param path The path
   * @param holder The socket that listens there from now on
   */
  add(path: string, holder: T): void {
    this.#holders.set(path, holder);
  }

  /**
   * Gives the holder of a path.
   *
   * @param path The path
   * @returns The holder, or undefined
   */
  holder(path: string): T | undefined {
    return this.#holders.get(path);
  }

  /**
   * Releases a path, and leaves its file. An abstract name has no file.
   *
   * @param path The path
   */
  desert(path: string): void {
    this.#holders.delete(path);
    if (!path.startsWith("\0")) this.#stale.add(path);
  }

  /**
   * Removes the file of a socket. Its holder goes on listening, but cannot be reached any more.
   *
   * @param path The path
   */
  unlink(path: string): void {
    this.#stale.delete(path);
    this.#holders.delete(path);
  }

  /**
   * Finds the listener of a path.
   *
   * @param path The path
   * @returns The listener, or the code of the error
   */
  find(path: string): T | string {
    const holder = this.#holders.get(path);
    if (holder !== undefined) return holder;
    if (path.startsWith("\0") || this.#stale.has(path) || this.#files.has(path)) return "ECONNREFUSED";
    return this.#missing(path) ?? "ENOENT";
  }

  /** The code of the error for the directory of a path. */
  #missing(path: string): string | undefined {
    const name = path.replace(/\/+/g, "/");
    const slash = name.lastIndexOf("/");
    // An abstract name has no directory, and the working directory is always there.
    if (path.startsWith("\0") || slash < 0) return undefined;
    const directory = name.slice(0, slash) || "/";
    if (this.directories.has(directory)) return undefined;
    if (this.#holders.has(directory) || this.#stale.has(directory) || this.#files.has(directory)) return "ENOTDIR";
    for (const file of this.#files.keys()) if (file.startsWith(`${directory}/`)) return undefined;
    return "ENOENT";
  }
}
