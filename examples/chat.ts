/**
 * A chat server: `chat [port] [connections]`. Try it with `nc 127.0.0.1 9877`.
 *
 * Lines end with LF or CR LF and have at most 512 bytes. A line is said to everyone in the room, but for these:
 *
 *     /nick NAME     takes a name
 *     /join ROOM     goes to another room
 *     /who           who is here
 *     /rooms         which rooms there are
 *     /quit          leaves
 *
 * What the server says begins with `*`, what others say with `<NAME>`. Nobody is waited for: who does not read what is
 * said is told so, and dropped.
 */

import { BEV_EVENT_EOF, EV_WRITE, EventBase, serve, type SocketBufferEvent } from "trivent";
import { announce, main, onStop, port, refuse } from "./_common.ts";

const MAX_LINE = 512;
const MAX_NAME = 16;
const LOBBY = "lobby";
/** With so much output that waits, somebody is too slow. What the systems hold comes on top. */
const MAX_OUTPUT = 1024 * 1024;
/** How long who leaves may take to receive the last lines. */
const FAREWELL_MS = 5000;

interface Member {
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

await main("chat [port] [connections]", async (args) => {
  if (args.length > 2) refuse(`Cannot take ${args.length} arguments`);
  const [where = "9877", most = "10000"] = args;
  const maxConnections = port(most, 1);
  const base = new EventBase();
  const server = await serve<Member>({
    base,
    hostname: "127.0.0.1",
    port: port(where, 0),
    maxConnections,
    maxLine: MAX_LINE,
  }, {
    open(bev) {
      bev.setWatermark(EV_WRITE, 0, MAX_OUTPUT);
      const member: Member = { bev, name: freeName(), room: LOBBY };
      bev.context = member;
      names.set(member.name, member);
      tell(member, `* welcome, ${member.name}\n`);
      enter(member, LOBBY);
    },
    line(bev, line) {
      const text = decoder.decode(line).replace(/\p{Cc}/gu, "");
      const command = /^\/\S*/.exec(text)?.[0];
      if (command === undefined) say(bev.context, text);
      else if (Object.hasOwn(COMMANDS, command)) COMMANDS[command]?.(bev.context, text.slice(command.length).trim());
      else tell(bev.context, `* there is no ${command}\n`);
    },
    event(bev, what, error) {
      if ((what & BEV_EVENT_EOF) !== 0) end(bev.context, "goodbye", "has left");
      else if (error?.code === "EV_LINE_TOO_LONG") end(bev.context, "your line is too long", "has said too much");
      else {
        gone(bev.context, "is gone");
        bev.free();
      }
    },
    error: (error) => console.error((error as Error).message),
  });

  onStop(base, () => {
    for (const { context } of server) end(context as Member, "the server stops", "");
    void server.close({ graceMs: FAREWELL_MS });
  });
  announce(server.address);
  await base.dispatch();
});

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

/** Everybody in a room hears the same, in the same order: who is too slow goes when all have heard it. */
function announceIn(room: string, text: string): void {
  const bytes = encoder.encode(text);
  const slow = [...members(room)].filter(({ bev }) => !bev.write(bytes));
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

/** Says goodbye to a member, and lets what is queued leave before the connection is closed. */
function end(member: Member, why: string, how: string): void {
  if (!gone(member, how)) return;
  member.bev.write(`* ${why}\n`);
  member.bev.close({ timeoutMs: FAREWELL_MS });
}

/** A member is there no more. @returns False when it was gone before */
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
