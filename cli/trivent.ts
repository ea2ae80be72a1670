#!/usr/bin/env node
/**
 * The command `trivent`: `npx trivent explore FILE`.
 *
 * @module
 */

import process from "node:process";
import { exploreCommand, USAGE } from "./explore.ts";

const [command, ...rest] = process.argv.slice(2);
if (command === "explore") process.exitCode = await exploreCommand(rest);
else if (command === "--help" || command === "-h" || command === "help") console.log(USAGE);
else {
  const what = command === undefined ? "no command is given" : `there is no command "${command}"`;
  console.error(`trivent: ${what}\n\n${USAGE}`);
  process.exitCode = 2;
}
