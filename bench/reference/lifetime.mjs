/** What the programs of this folder do at their beginning and end. */

import process from "node:process";

/** Says where a server listens, and ends it at a signal. @param {number} port */
export function announce(port) {
  console.log(`listening on 127.0.0.1:${port}`);
  for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => process.exit(0));
}
