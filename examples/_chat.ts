/**
 * The chat server of `chat.ts`, which lists its commands. `sim/chat.ts` tests it on a network with faults.
 */

import {
  BEV_EVENT_EOF,
  BEV_EVENT_READING,
  BEV_EVENT_TIMEOUT,
  EV_RATE_LIMIT_MAX,
  EvBuffer,
  type EventBase,
  EventError,
  serve,
  type Server,
  type SocketBufferEvent,
  TokenBucketConfig,
} from "trivent";

const MAX_LINE = 512;
/** The number of lines that a client may send at once; with more it must wait. Three times as many are too much. */
const BURST = 16;
const TICKS_PER_SECOND = 10;
const MAX_NAME = 16;
const LOBBY = "lobby";
/** With this much waiting output, a client is too slow. The system's buffers are not included. */
const MAX_OUTPUT = 1024 * 1024;
/** The time for a leaving client to receive the last lines. */
export const FAREWELL_MS = 5000;

/** A client. */
export interface Member {
  bev: SocketBufferEvent<Member>;
  name: string;
  room: string;
}

const decoder = new TextDecoder();
const encoder = new TextEncoder();
const rooms = new Map<string, Set<Member>>();
const names = new Map<string, Member>();
let guests = 0;

const COMMANDS: { readonly [name: string]: (member: Member, argument: string) => void } = {
  "/nick": rename,
  "/join": (member, room) => {
    if (!isName(room)) return tell(member, `* no room has such a name\n`);
    leave(member, `went to ${room}`);
    enter(member, room);
  },
  "/who": (member) => tell(member, `* here: ${[...members(member.room)].map(({ name }) => name).join(" ")}\n`),
  "/rooms": (member) => tell(member, `* rooms: ${[...rooms.keys()].join(" ")}\n`),
  "/quit": (member) => end(member, "goodbye", "has left"),
};

/** Options of a chat server. */
export interface ChatOptions {
  hostname: string;
  port: number;
  /** The largest number of clients at a time; further ones wait. */
  max: number;
  /** The time limit for silence, for one line, and for reading output. */
  patienceMs: number;
  /** The number of lines that a client may send in a second, on average. */
  rate: number;
}

/** Begins to serve. There is one chat in a program. */
export async function chat(base: EventBase, options: ChatOptions): Promise<Server<Member>> {
  const { hostname, port, max, patienceMs, rate } = options;
  const rateLimit = new TokenBucketConfig({
    readRate: Math.ceil(rate * MAX_LINE / TICKS_PER_SECOND),
    readBurst: Math.max(BURST, rate) * MAX_LINE,
    writeRate: EV_RATE_LIMIT_MAX,
    writeBurst: EV_RATE_LIMIT_MAX,
    tickMs: 1000 / TICKS_PER_SECOND,
  });
  rooms.clear();
  names.clear();
  guests = 0;
  return await serve<Member>({
    base,
    hostname,
    port,
    maxConnections: max,
    maxLine: MAX_LINE,
    // From this length on write() and writeBuffer() give false: see announceIn().
    writeHigh: MAX_OUTPUT,
    readTimeoutMs: patienceMs,
    messageTimeoutMs: patienceMs,
    writeTimeoutMs: patienceMs,
  }, {
    open(bev) {
      bev.setRateLimit(rateLimit);
      const member: Member = { bev, name: freeName(), room: LOBBY };
      bev.context = member;
      names.set(member.name, member);
      tell(member, `* welcome, ${member.name}\n`);
      enter(member, LOBBY);
    },
    line(bev, line) {
      // A short line costs as much as a long one: each goes to the whole room.
      bev.decrementReadLimit(MAX_LINE - line.length);
      if (bev.readLimit < -2 * rateLimit.readBurst) return end(bev.context, "you say too much", "has said too much");
      const text = decoder.decode(line).replace(/\p{Cc}/gu, "");
      const command = /^\/\S*/.exec(text)?.[0];
      if (command === undefined) say(bev.context, text);
      else if (Object.hasOwn(COMMANDS, command)) COMMANDS[command]?.(bev.context, text.slice(command.length).trim());
      else tell(bev.context, `* there is no ${command}\n`);
    },
    event({ context: member }, what, error) {
      if ((what & BEV_EVENT_EOF) !== 0) end(member, "goodbye", "has left");
      else if (error?.code === "EV_LINE_TOO_LONG") end(member, "your line is too long", "has said too much");
      else if (what === (BEV_EVENT_READING | BEV_EVENT_TIMEOUT)) end(member, "you are too slow", "was too slow");
      else member.bev.reset();
    },
    // Whatever the reason: a reset, a timeout, or a failed callback.
    close: ({ context: member }) => void gone(member, "is gone"),
    error: (error) => console.error(error instanceof EventError ? error.message : error),
  });
}

/** Ends the server, and tells all clients. */
export async function endChat(server: Server<Member>): Promise<void> {
  for (const { context } of server) end(context, "the server stops", "");
  await server.close({ graceMs: FAREWELL_MS });
}

function members(room: string): Set<Member> {
  let all = rooms.get(room);
  if (all === undefined) rooms.set(room, all = new Set());
  return all;
}

function enter(member: Member, room: string): void {
  member.room = room;
  members(room).add(member);
  announceIn(room, `* ${member.name} has come to ${room}\n`);
}

function leave(member: Member, how: string): void {
  const all = members(member.room);
  if (!all.delete(member)) return;
  if (all.size === 0) rooms.delete(member.room);
  else if (how !== "") announceIn(member.room, `* ${member.name} ${how}\n`);
}

function say(member: Member, text: string): void {
  announceIn(member.room, `<${member.name}> ${text}\n`);
}

/**
 * Everybody in a room gets the same lines in the same order, so slow clients are dropped after all have got the line.
 */
function announceIn(room: string, text: string): void {
  const bytes = encoder.encode(text);
  const shared = new EvBuffer();
  const slow = [...members(room)].filter(({ bev }) => {
    // All share the bytes: write() would copy them for each. Drop the bytes that a closed client has not taken.
    if (shared.length === 0) shared.addReference(bytes);
    return !bev.writeBuffer(shared);
  });
  for (const member of slow) end(member, "you read too slowly", "was too slow");
}

function tell(member: Member, text: string): void {
  if (!member.bev.write(text)) end(member, "you read too slowly", "was too slow");
}

function rename(member: Member, name: string): void {
  if (!isName(name) || names.has(name)) return tell(member, `* you can't be ${name}\n`);
  const before = member.name;
  names.delete(before);
  member.name = name;
  names.set(name, member);
  announceIn(member.room, `* ${before} is now ${name}\n`);
}

/** Sends a last line to a member, and closes the connection after its queued output has left. */
function end(member: Member, why: string, how: string): void {
  if (!gone(member, how)) return;
  member.bev.write(`* ${why}\n`);
  member.bev.close({ timeoutMs: FAREWELL_MS });
}

/** Removes a member. @returns False if it was removed before */
function gone(member: Member, how: string): boolean {
  if (names.get(member.name) !== member) return false;
  names.delete(member.name);
  leave(member, how);
  return true;
}

function isName(text: string): boolean {
  return text.length <= MAX_NAME && /^[\p{L}\p{N}_-]+$/u.test(text);
}

function freeName(): string {
  do guests++; while (names.has(`guest${guests}`));
  return `guest${guests}`;
}
