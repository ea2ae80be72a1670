/**
 * A chat server: `chat [PORT] [--max CONNECTIONS] [--patience SECONDS] [--rate LINES]`. Try it with `nc 127.0.0.1 9877`.
 *
 * Lines end with LF or CR LF and have at most 512 bytes. The server sends a line to everyone in the room, except these:
 *
 *     /nick NAME     takes a name
 *     /join ROOM     goes to another room
 *     /who           who is here
 *     /rooms         which rooms there are
 *     /quit          leaves
 *
 * The server's own lines begin with `*`, those of others with `<NAME>`. The server waits for nobody: it tells a client
 * that reads too slowly, writes too much or says nothing for too long, and drops it.
 */

import { EventBase, stopOnSignals } from "trivent";
import { chat, endChat } from "./_chat.ts";
import { announce, main, named, port, refuse } from "./_common.ts";

/** The arguments, and their values when they are not given. */
const DEFAULTS = {
  /** How many clients there may be at a time; further ones wait. */
  "--max": 10_000,
  /** How many seconds a client may say nothing, take for one line, or leave what is sent to it untaken. */
  "--patience": 600,
  /** How many lines a second a client may send for long. */
  "--rate": 20,
};

await main("chat [PORT] [--max CONNECTIONS] [--patience SECONDS] [--rate LINES]", async ([where = "9877", ...args]) => {
  const options = named(args, DEFAULTS);
  if (Object.values(options).includes(0)) refuse("Cannot serve nobody: all arguments are positive numbers");
  const base = new EventBase();
  const server = await chat(base, {
    hostname: "127.0.0.1",
    port: port(where, 0),
    max: options["--max"],
    patienceMs: options["--patience"] * 1000,
    rate: options["--rate"],
  });
  stopOnSignals({ base, close: () => endChat(server) });
  announce(server.address);
  await base.dispatch();
});
