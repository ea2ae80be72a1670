/** The programs that are ready. */

import chat from "./programs/chat.js?raw";
import halfClose from "./programs/half_close.js?raw";
import retry from "./programs/retry.js?raw";
import rot13 from "./programs/rot13.js?raw";
import slowReader from "./programs/slow_reader.js?raw";

/** A program: its name in the address, its title, its text, and the speed at which it is good to watch. */
export interface Ready {
  name: string;
  title: string;
  source: string;
  speed: number;
}

export const PROGRAMS: readonly Ready[] = [
  { name: "rot13", title: "ROT13", source: rot13, speed: 100 },
  { name: "chat", title: "Chat", source: chat, speed: 200 },
  { name: "slow-reader", title: "Slow reader and watermarks", source: slowReader, speed: 200 },
  { name: "retry", title: "Retry, with a planted bug", source: retry, speed: 200 },
  { name: "half-close", title: "Half-close", source: halfClose, speed: 200 },
];
