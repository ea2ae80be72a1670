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
 * The server's own lines begin with `*`, those of others with `<NAME>`. The server does not wait for slow clients: it
 * drops a client that reads too slowly, writes too much or is silent for too long, with a message.
 */

import { EventBase, stopOnSignals } from "trivent";
import { chat, endChat } from "./_chat.ts";
import { announce, main, named, port, refuse } from "./_common.ts";

/** The arguments and their defaults. */
const DEFAULTS = {
  /** The largest number of clients at a time; further ones wait. */
  "--max": 10_000,
  /** The time limit in seconds for silence, for one line, and for reading output. */
  "--patience": 600,
  /** The number of lines that a client may send in a second, on average. */
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
