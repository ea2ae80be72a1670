/** The begin and the end of the programs of this folder. */

import process from "node:process";

/** Prints the port of a server, and ends it at a signal. @param {number} port */
export function announce(port) {
  console.log(`listening on 127.0.0.1:${port}`);
  for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => process.exit(0));
}
