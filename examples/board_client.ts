/**
 * A player of `board_server`: `board_client [port] [host] [--script FILE]`. The protocol is in `_board.ts`.
 *
 * It draws the board in the terminal; the arrow keys move the piece, q quits. With `--script` it needs no terminal:
 * it runs the commands of the file, prints the board and ends. A line of the file is one of
 *
 *     up, down, left, right    a step; goes on when it was made or refused
 *     players NUMBER           waits until so many players are there
 *     seen NUMBER              waits until it has been told so many moves in all, anybody's
 *     wait MILLISECONDS
 */

import { EvBuffer, EventBase, FileSegment, Overlapped, sleep } from "trivent";
import { Board, Link, STEPS } from "./_board.ts";
import { fail, main, port, refuse } from "./_common.ts";
import { stopSignal } from "./_poll.ts";

const { process } = globalThis;

const ARROWS = new Map([["A", "up"], ["B", "down"], ["C", "right"], ["D", "left"]]);

/** The source of the moves: the keys, or a script. */
interface Hand {
  begin(): void;
  /** The board has changed, or a step was refused. */
  told(line: string): void;
  end(): void;
}

await main("board_client [port] [host] [--script FILE]", async (args) => {
  const at = args.indexOf("--script");
  const file = at < 0 ? undefined : args.splice(at, 2)[1] ?? refuse("Cannot play without the name of the script");
  const [portText = "3500", hostname = "127.0.0.1", ...more] = args;
  if (more.length > 0) refuse(`Cannot take ${args.length} arguments`);
  const address = { hostname, port: port(portText, 1), timeoutMs: 10_000 };
  const script = file === undefined ? undefined : parse(await read(file));
  if (script === undefined && !process.stdin.isTTY) refuse("Cannot take keys: standard input is not a terminal");

  const base = new EventBase();
  const board = new Board();
  await new Promise<void>((resolve) => {
    const over = (reason?: string): void => {
      hand.end();
      stop.removeEventListener("abort", quit);
      if (reason !== undefined) fail(`The game is over: ${reason}`);
      resolve();
    };
    const quit = (): void => {
      link.say("quit");
      link.end();
      over();
    };
    const connected = new Overlapped((_overlapped, _bytes, error) => {
      if (error !== null) {
        socket.close();
        return over(error.message);
      }
      hand.begin();
      link.receive();
    });
    const socket = base.connectOverlapped(address, connected);
    const link: Link = new Link(socket, {
      line(text) {
        if (text.startsWith("ping ")) link.say(text.replace("ping", "pong"));
        else if (text.startsWith("bye ")) this.over(text.slice(4));
        else if (board.tell(text) || text.startsWith("no ")) hand.told(text);
      },
      chunk: () => link.receive(),
      over(reason) {
        link.cut();
        over(reason);
      },
    });
    const move = (step: string): void => link.say(`move ${step}`);
    const hand: Hand = script === undefined ? keys(board, move, quit) : scripted(script, board, move, quit);
    const stop = stopSignal(base);
    stop.addEventListener("abort", quit);
  });
});

/** The arrow keys move, and the board is drawn as it changes. */
function keys(board: Board, move: (step: string) => void, quit: () => void): Hand {
  const { stdin, stdout } = process;
  let playing = false;
  const take = (data: string | Uint8Array): void => {
    const pressed = typeof data === "string" ? data : new TextDecoder().decode(data);
    // deno-lint-ignore no-control-regex
    for (const [key, arrow] of pressed.matchAll(/\x1b[[O]([A-D])|[^]/g)) {
      if (arrow !== undefined) move(ARROWS.get(arrow) as string);
      else if (key === "q" || key === "\x03" || key === "\x04") return quit();
    }
  };
  return {
    begin() {
      playing = true;
      stdin.setRawMode(true);
      stdin.on("data", take);
      stdin.resume();
      stdout.write("\x1b[?1049h\x1b[?25l"); // another screen, no cursor
    },
    told(line) {
      const text = `${board.draw(["\x1b[7m", "\x1b[m"])}\nYou are ${board.me}, ${board.pieces.size} here. ` +
        `Arrow keys move, q quits.\n${line.startsWith("no ") ? line.slice(3) : ""}`;
      // Overwrites the screen from the top, and clears the rest of each line and of the screen.
      stdout.write(`\x1b[H${text.replaceAll("\n", "\x1b[K\r\n")}\x1b[J`);
    },
    end() {
      if (!playing) return;
      playing = false;
      stdout.write("\x1b[?25h\x1b[?1049l");
      stdin.off("data", take);
      stdin.setRawMode(false);
      stdin.pause();
    },
  };
}

/** One command of a script. */
interface Command {
  what: string;
  number: number;
}

/** Plays a script. It continues after each line of the server, so it prints the board at exactly that line. */
function scripted(script: Command[], board: Board, move: (step: string) => void, quit: () => void): Hand {
  let next = 0;
  let moving = false;
  let waiting = false;
  const ended = new AbortController();
  const play = (): void => {
    while (!moving && !waiting) {
      const command = script[next];
      if (command === undefined) {
        console.log(`${board.draw()}${board.me}, ${board.pieces.size} here, ${board.moves} moves seen`);
        return quit();
      }
      const { what, number } = command;
      if (what === "players" && board.pieces.size < number || what === "seen" && board.moves < number) return;
      next++;
      if (what === "wait") {
        waiting = true;
        sleep(number, { signal: ended.signal }).then(() => {
          waiting = false;
          play();
        }, () => {});
      } else if (number === 0) {
        moving = true;
        move(what);
      }
    }
  };
  return {
    begin() {},
    told(line) {
      if (line.startsWith("no ") || line.startsWith(`move ${board.me} `)) moving = false;
      // Not before the player is on the board.
      if (board.pieces.has(board.me)) play();
    },
    end: () => ended.abort(),
  };
}

async function read(file: string): Promise<string> {
  const buffer = new EvBuffer();
  const segment = await FileSegment.open(file);
  buffer.addFileSegment(segment);
  segment.free();
  return buffer.toString();
}

function parse(text: string): Command[] {
  const commands: Command[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    const trimmed = line.trim();
    if (trimmed === "" || trimmed.startsWith("#")) continue;
    const [, what = "", number] = /^(players|seen|wait) +(\d{1,9})$/.exec(trimmed) ?? [];
    if (STEPS.has(trimmed)) commands.push({ what: trimmed, number: 0 });
    else if (number !== undefined) commands.push({ what, number: Number(number) });
    else refuse(`Cannot play line ${index + 1} of the script: there is no "${trimmed.slice(0, 40)}"`);
  }
  return commands;
}
