/**
 * The descriptor of a socket that listens already. The runtimes tell little about it: a wrong one is `EINVAL`, or they make it
 * listen on an address of its own. Linux shows in /proc what it is. Elsewhere, and where /proc may not be read, the runtime decides.
 *
 * @module
 */

import type { NodeFsSync } from "../types/node.ts";
import { failure, refusal } from "./errors.ts";
import { builtin } from "./host.ts";
import { publishedPath } from "./socket_file.ts";

/** How a descriptor is used that does not listen. */
const NOT_LISTENING = "the descriptor is a socket that does not listen";

/** The tables of the process's network: the file, the column of the inode, and the state of a socket that listens. */
const TABLES: readonly (readonly [name: string, inode: number, listening: string | null])[] = [
  ["tcp", 9, "0A"],
  ["tcp6", 9, "0A"],
  // The column has flags, and __SO_ACCEPTCON is the only one.
  ["unix", 6, "00010000"],
  ["udp", 9, null],
  ["udp6", 9, null],
];
/** The column of the state, in each table. */
const STATE = 3;

/**
 * Refuses a descriptor that is not a socket that listens, as far as the system shows it.
 *
 * @param tried The words for what was tried
 * @param fd The descriptor
 * @returns The path of a unix socket; undefined for any other one
 * @throws {EventError} `EBADF`, `ENOTSOCK`, `EINVAL`
 */
export function checkListening(tried: string, fd: number): string | undefined {
  const inode = socketOf(tried, fd);
  if (inode === undefined) return undefined;
  for (const [name, column, listening] of TABLES) {
    for (const line of read(`/proc/self/net/${name}`).split("\n")) {
      const columns = line.trim().split(/\s+/);
      if (columns[column] !== inode) continue;
      if (columns[STATE] !== listening) throw refusal(tried, "EINVAL", "listen", NOT_LISTENING);
      if (name !== "unix") return undefined;
      // The path may have spaces in it. An abstract name begins with a zero byte.
      const path = /^(?:\S+\s+){7}(.*)$/.exec(line.trim())?.[1] ?? "";
      return publishedPath(path.replace(/^@/, "\0"));
    }
  }
  // A socket of another network namespace is in none of these tables, and may be handed over all the same.
  return undefined;
}

/** The inode of a descriptor's socket; undefined if it cannot be found out. */
function socketOf(tried: string, fd: number): string | undefined {
  const fs = builtin<NodeFsSync>("node:fs");
  if (!fs.existsSync("/proc/self/fd/0")) return undefined;
  let link: string;
  try {
    link = fs.readlinkSync(`/proc/self/fd/${fd}`);
  } catch (reason) {
    if ((reason as { code?: unknown }).code !== "ENOENT") return undefined;
    throw refusal(tried, "EBADF", "listen", "the descriptor is not open");
  }
  const inode = /^socket:\[(\d+)\]$/.exec(link)?.[1];
  if (inode === undefined) throw refusal(tried, "ENOTSOCK", "listen", "the descriptor is not a socket");
  return inode;
}

/** The text of a file; empty if it cannot be read. */
function read(path: string): string {
  try {
    return builtin<NodeFsSync>("node:fs").readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/**
 * Converts the error with which a runtime refuses a descriptor.
 *
 * @param tried The words for what was tried
 * @param reason The runtime's error
 */
export function fdFailure(tried: string, reason: unknown): Error {
  const { code } = (reason ?? {}) as { code?: unknown };
  return code === "EINVAL" ? refusal(tried, "EINVAL", "listen", NOT_LISTENING) : failure(tried, reason, "listen");
}
