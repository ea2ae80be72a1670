// The board: all players see every move, in the same order and by the rules. Players that break the
// rules, flood or do not read are ended, without an effect on the others.

import { after, before, describe, it } from "node:test";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { exampleCommand, plainEnvironment, ROOT, type RuntimeName, RUNTIMES } from "../tools/runtimes.mjs";
import {
  assertHeldLess,
  Client,
  eventually,
  type Fed,
  feed,
  type MeasuredServer,
  oneLine,
  openSockets,
  PATIENCE_MS,
  quiet,
  residentMiB,
  type RunningServer,
  runProgram,
  startMeasured,
  startServer,
  stopWhenClosed,
} from "./workshop.ts";

const MAX_PLAYERS = 26;
/** How many moves the server accepts from a player in a second, and at once. */
const MESSAGES_PER_SECOND = 100;
const MIB = 1 << 20;

/**
 * A player that sends what the test wants, and checks all answers. It knows the rules, but shares
 * no code with the server.
 */
class Player {
  readonly client: Client;
  readonly lines: string[] = [];
  readonly #pieces = new Map<string, [column: number, row: number]>();
  me = "";
  /** The answers to messages of `move`. */
  answers = 0;
  /** All moves that it has received, including its own. */
  readonly moves: string[] = [];
  #rest = "";

  private constructor(client: Client) {
    this.client = client;
    client.socket.on("data", (chunk: Buffer) => {
      const lines = (this.#rest + chunk.toString("latin1")).split("\n");
      this.#rest = lines.pop() as string;
      for (const line of lines) this.#take(line);
    });
  }

  /** Connects and waits for its piece. */
  static async join(server: RunningServer): Promise<Player> {
    const player = new Player(await Client.open(server.port));
    await player.until("a piece", () => player.me !== "" && player.#pieces.has(player.me));
    assertEquals(player.lines[0], "board 8 8");
    return player;
  }

  static joinAll(server: RunningServer, count: number): Promise<Player[]> {
    return Promise.all(Array.from({ length: count }, () => Player.join(server)));
  }

  get pieces(): number {
    return this.#pieces.size;
  }

  say(text: string): void {
    this.client.socket.write(text, "latin1");
  }

  /** Makes a step, and waits until it was made or refused. */
  async step(step: string): Promise<void> {
    const { answers } = this;
    this.say(`move ${step}\n`);
    await this.until(`an answer to ${step}`, () => this.answers > answers);
  }

  until(what: string, holds: () => boolean): Promise<void> {
    return this.client.until(what, holds);
  }

  /** The number of lines of a kind. */
  count(kind: RegExp): number {
    return this.lines.filter((line) => kind.test(line)).length;
  }

  async quit(): Promise<void> {
    this.say("quit\n");
    await this.client.untilEnd();
    assertEquals(this.lines[this.lines.length - 1], "bye quit");
  }

  #take(line: string): void {
    this.lines.push(line);
    const [what, piece = "", ...numbers] = line.split(" ");
    const [column = NaN, row = NaN] = numbers.map(Number);
    if (what === "ping") this.say(`pong ${piece}\n`);
    else if (what === "you") this.me = piece;
    else if (what === "gone") this.#pieces.delete(piece);
    else if (what === "no") this.answers++;
    else if (what === "piece" || what === "move") {
      assert(column >= 0 && column < 8 && row >= 0 && row < 8, `beyond the edge: ${line}`);
      for (const [other, at] of this.#pieces) {
        assert(other === piece || at[0] !== column || at[1] !== row, `two on one square, ${other} too: ${line}`);
      }
      if (what === "move") {
        const [oldColumn, oldRow] = this.#pieces.get(piece) ?? [NaN, NaN];
        assertEquals(Math.abs(column - oldColumn) + Math.abs(row - oldRow), 1);
        this.moves.push(line);
        if (piece === this.me) this.answers++;
      }
      this.#pieces.set(piece, [column, row]);
    }
  }
}

const STEPS = ["up", "right", "down", "down", "left", "left", "up", "up", "right"];

/** Lines that no player sends. */
const NONSENSE = [
  "",
  "move",
  "move ",
  "move north",
  "move up up",
  "move  up",
  " move up",
  "MOVE UP",
  "move constructor",
  "you A",
  "gone A",
  "pong",
  "pong 1",
  "pong NaN",
  "move up\0",
  "\x1b[2J\x1b[31mmove up",
  "\xff\xfe\xc3\x28",
  "m\u00f6ve up",
];

for (const runtime of RUNTIMES) {
  describe(`board_server on ${runtime}`, () => {
    let server: MeasuredServer;
    let socketsBefore: number;

    before(async () => {
      server = await startMeasured(runtime, "board_server");
      await (await Player.join(server)).quit();
      socketsBefore = openSockets(server.pid);
    });
    after(async () => {
      await stopWhenClosed(server, socketsBefore);
      // It never prints what a player has sent.
      for (const line of server.printed().trimEnd().split("\n")) {
        assertMatch(line, /^[A-Z] (has come, (ip 127\.0\.0\.1, port \d+|already gone)|is gone: [A-Za-z ]+)$/);
      }
    });

    /** A well-behaved player joins, plays and leaves, and each step is answered. */
    async function plays(on: RunningServer = server): Promise<void> {
      const player = await Player.join(on);
      for (const step of STEPS) await player.step(step);
      await player.quit();
    }

    it("shows every move to all 12 players, in the same order", async () => {
      const players = await Player.joinAll(server, 12);
      assertEquals(new Set(players.map((player) => player.me)).size, 12);
      for (const player of players) await player.until("the others", () => player.pieces === 12);
      await Promise.all(players.map(async (player, i) => {
        for (let n = 0; n < 40; n++) await player.step(STEPS[(n + i) % STEPS.length] as string);
      }));
      const [first] = players as [Player];
      const made = Math.max(...players.map((player) => player.moves.length));
      assert(made > 200, `only ${made} steps were made`);
      for (const player of players) {
        await player.until("every move", () => player.moves.length === made);
        assertEquals(player.moves, first.moves);
      }
      await first.quit();
      for (const player of players.slice(1)) {
        await player.until("the one who leaves", () => player.lines.includes(`gone ${first.me}`));
      }
      await Promise.all(players.slice(1).map((player) => player.quit()));
    });

    it("refuses steps over the edge and onto other pieces, and goes on", async () => {
      const player = await Player.join(server);
      for (let n = 0; n < 9; n++) await player.step("left");
      assertEquals(player.lines[player.lines.length - 1], "no that is the edge");
      const others = await Player.joinAll(server, 20);
      // A player that crosses all rows and returns meets another one.
      for (let row = 0; row < 8; row++) {
        for (let n = 0; n < 8; n++) await player.step(row % 2 === 0 ? "right" : "left");
        await player.step("down");
      }
      assert(player.lines.includes("no that square is taken"));
      await Promise.all([player, ...others].map((one) => one.quit()));
    });

    it("accepts messages in halves, many at once, and with CR LF", async () => {
      const player = await Player.join(server);
      for (const piece of ["mo", "ve r", "ight", "\r", "\nmove left\r\nmove ri", "ght\nmove left\n"]) {
        player.say(piece);
        await quiet(20);
      }
      await player.until("four answers", () => player.answers === 4);
      await player.quit();
    });

    it("answers invalid input, tolerates some, and ends clients that go on with it", async () => {
      const witness = await Player.join(server);
      for (let at = 0; at < NONSENSE.length; at++) {
        const player = await Player.join(server);
        for (let n = 0; n < 8; n++) player.say(`${NONSENSE[(at + n) % NONSENSE.length]}\n`);
        await player.until("the answers", () => player.answers === 8);
        assertEquals(player.moves, []);
        assertEquals(player.count(/^no such message$/), 8);
        await player.step("up");
        player.say(`${NONSENSE[at]}\n`);
        await player.client.untilEnd();
        assertEquals(player.lines[player.lines.length - 1], "bye too many malformed messages");
        await witness.until("the one who goes", () => witness.count(/^gone/) === at + 1);
      }
      await witness.quit();
    });

    it("ends clients that send garbage or a message that is too long", async () => {
      const witness = await Player.join(server);
      const garbage = Buffer.from(
        Array.from({ length: 100_000 }, (_, i) => (i * 7919) % 256).filter((c) => c !== 10),
      );
      for (
        const text of [
          "x".repeat(64),
          "x".repeat(1_000_000),
          Buffer.from(garbage).toString("latin1"),
          "move up\n".repeat(3) + "y".repeat(99),
        ]
      ) {
        const player = await Player.join(server);
        player.say(text);
        await player.client.until("the end", () => player.client.ended || player.client.closed);
        // It may have been reset before it could read the reason, because it was still sending.
        if (text.length < 1000) assertEquals(player.lines[player.lines.length - 1], "bye too long a message");
        player.client.socket.destroy();
        await witness.until("the one who goes", () => witness.pieces === 1);
      }
      // The longest line that is allowed is only an unknown command.
      const player = await Player.join(server);
      player.say(`${"x".repeat(63)}\n`);
      await player.until("an answer", () => player.answers === 1);
      await player.quit();
      await witness.quit();
    });

    it("survives players that hang up or reset at any time", async () => {
      const witness = await Player.join(server);
      for (let i = 0; i < 12; i++) {
        const client = await Client.open(server.port);
        if (i % 3 !== 0) await client.send(i % 3 === 1 ? "move u" : "move up\n".repeat(30));
        if (i % 2 === 0) await quiet(20);
        if (i % 4 === 0) {
          client.end();
          await client.until("the end", () => client.ended);
          client.socket.destroy();
        } else client.reset();
      }
      await witness.until("all to be gone", () => witness.pieces === 1);
      await witness.quit();
    });

    it(
      "accepts a flood of moves at a limited rate, and serves the others at once",
      { skip: needs("/proc") },
      async () => {
        // A separate server: it goes on playing moves that it has read before the reset, for a
        // minute, and other tests count moves.
        const flooded = await startMeasured(runtime, "board_server");
        const held = residentMiB(flooded.pid);
        const flooder = await Player.join(flooded);
        const begun = performance.now();
        const flood = Buffer.from("move left\nmove right\n".repeat(50_000));
        let taken = 0;
        for (let i = 0; i < 16; i++) flooder.client.socket.write(flood, () => taken++);
        for (let i = 0; i < 10; i++) await plays(flooded);
        await quiet(500);
        const seconds = (performance.now() - begun) / 1000;
        assert(taken < 16, "the whole flood was taken");
        assert(flooder.answers > 0, "no move was taken");
        // One chunk may have brought more moves than the rate allowed.
        assert(flooder.answers <= MESSAGES_PER_SECOND * (seconds + 1) + 200, `${flooder.answers} in ${seconds} s`);
        await assertHeldLess(flooded, held, 64);
        flooder.client.reset();
        assertEquals(await flooded.stop(), null);
        const newlines = await Player.join(server);
        newlines.say("\n".repeat(10 * MIB));
        await newlines.client.until("the end", () => newlines.client.ended || newlines.client.closed);
        newlines.client.socket.destroy();
        await plays();
      },
    );

    it("ends clients that do not read, holds little memory for them, and does not slow down the others", {
      skip: needs("/proc"),
    }, async () => {
      const held = residentMiB(server.pid);
      const deaf = await Player.join(server);
      deaf.client.socket.pause();
      const players = await Player.joinAll(server, 14);
      let playing = true;
      const play = async (player: Player): Promise<void> => {
        // As fast as the server reads.
        while (playing) {
          const { answers } = player;
          player.say("move left\nmove right\n".repeat(10));
          await player.until("answers", () => player.answers === answers + 20);
        }
      };
      const witness = await Player.join(server);
      const all = Promise.all(players.map(play));
      try {
        await witness.until("the deaf one to be gone", () => witness.lines.includes(`gone ${deaf.me}`));
      } finally {
        playing = false;
      }
      await all;
      players.push(witness);
      const made = Math.max(...players.map((player) => player.moves.length));
      for (const player of players) {
        await player.until(`${made} moves, after ${player.moves.length}`, () => player.moves.length === made);
      }
      for (const player of players) assertEquals(player.moves, witness.moves);
      await assertHeldLess(server, held, 48);
      assertMatch(server.printed(), new RegExp(`^${deaf.me} is gone: does not read$`, "m"));
      deaf.client.socket.destroy();
      await Promise.all(players.map((player) => player.quit()));
    });

    it(
      "has space for 26, refuses the next one with a message, and accepts it when a player has left",
      { skip: needs("nc -N") },
      async () => {
        const players = await Player.joinAll(server, MAX_PLAYERS);
        assertEquals(players.map((player) => player.me).sort().join(""), "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
        const refused = await feed("nc", ["-N", "127.0.0.1", String(server.port)]);
        assertEquals(refused.stdout.toString(), "bye the board is full\n");
        const [leaving, ...others] = players as [Player, ...Player[]];
        await leaving.quit();
        const next = await Player.join(server);
        assertEquals(next.me, leaving.me);
        await Promise.all([next, ...others].map((player) => player.quit()));
      },
    );

    it("can be played with nc and socat", { skip: needs("nc", "socat") }, async () => {
      const clients = [["nc", "127.0.0.1", String(server.port)], [
        "socat",
        "-t",
        "50",
        "-",
        `TCP:127.0.0.1:${server.port}`,
      ]];
      for (const [file, ...args] of clients as [string, ...string[]][]) {
        const { stdout } = await feed(file, args, "move right\nmove left\nquit\n");
        assertMatch(stdout.toString(), /^board 8 8\nyou A\npiece A 0 0\nmove A 1 0\nmove A 0 0\nbye quit\n$/);
      }
    });

    it("sends everyone a last message at SIGTERM and ends with exit code 0", async () => {
      const other = await startServer(runtime, "board_server");
      const players = await Player.joinAll(other, 10);
      const deaf = await Player.join(other);
      deaf.client.socket.pause();
      const how = await other.stop();
      for (const player of players) {
        await player.client.untilEnd();
        assertEquals(
          player.lines[player.lines.length - 1]?.replace(/^gone .$/, "bye the server ends"),
          "bye the server ends",
        );
      }
      deaf.client.socket.destroy();
      assertEquals(how, null);
    });

    it("prints one line about wrong arguments", async () => {
      const wrong = await runProgram(runtime, "board_server", ["70000"]);
      assertEquals(wrong.code, 2);
      assertMatch(oneLine(wrong), /usage: board_server \[port\]$/);
    });
  });

  describe(`board_client on ${runtime}`, () => {
    let server: RunningServer;
    let folder: string;

    /** The name of a file with a script. */
    function script(name: string, ...lines: string[]): string {
      const file = join(folder, name);
      writeFileSync(file, lines.join("\n"));
      return file;
    }

    function client(on: RuntimeName, ...args: string[]): Promise<Fed> {
      return runProgram(on, "board_client", [String(server.port), ...args]);
    }

    before(async () => {
      folder = mkdtempSync(join(tmpdir(), "trivent-board-"));
      server = await startServer(runtime, "board_server");
    });
    after(async () => {
      rmSync(folder, { recursive: true });
      assertEquals(await server.stop(), null);
    });

    it("plays a script and prints the board", async () => {
      const { code, stdout, stderr } = await client(
        runtime,
        "--script",
        script("alone.txt", "# a walk", "up", "right", "down", "", "  down", "wait 20", "left", "seen 4"),
      );
      assertEquals(stderr, "");
      assertEquals(code, 0);
      const empty = ". . . . . . . .\n";
      assertEquals(
        stdout.toString(),
        empty + empty + "A . . . . . . .\n" + empty.repeat(5) + "A, 1 here, 4 moves seen\n",
      );
    });

    it("10 players, on this and the other runtimes, see the same board", async () => {
      // Each step is legal: all step down and up again, and none stands below another.
      const count = 10;
      const file = script("together.txt", `players ${count}`, "down", "up", "down", "up", `seen ${count * 4}`);
      const players = await Promise.all(
        Array.from(
          { length: count },
          (_, i) => client(i < 6 ? runtime : RUNTIMES[i % RUNTIMES.length] as RuntimeName, "--script", file),
        ),
      );
      const boards = players.map(({ code, stdout, stderr }) => {
        assertEquals(stderr, "");
        assertEquals(code, 0);
        return stdout.toString().split("\n");
      });
      assertEquals(new Set(boards.map((lines) => lines.slice(0, 8).join("\n"))).size, 1);
      assertEquals(boards.map((lines) => lines[8]?.[0]).sort().join(""), "ABCDEFGHIJ");
      for (const lines of boards) assertMatch(lines[8] as string, /^[A-J], 10 here, 40 moves seen$/);
      assertEquals((boards[0] as string[]).slice(0, 8).join("").replaceAll(/[ .]/g, "").length, count);
    });

    it("draws the board, reads arrow keys and q, and restores the terminal", async () => {
      const witness = await Player.join(server);
      const terminal = new Terminal(runtime, "board_client", [String(server.port)]);
      await terminal.until("You are B, 2 here.");
      assert(terminal.shown.includes("\x1b[?1049h") && terminal.shown.includes("\x1b[7mB\x1b[m"));
      terminal.press("\x1b[B\x1b[C\x1bOA");
      await witness.until("three steps", () => witness.moves.length === 3);
      assertEquals(witness.moves, ["move B 3 2", "move B 4 2", "move B 4 1"]);
      // The edge is reported.
      terminal.press("\x1b[A\x1b[A");
      await terminal.until("that is the edge");
      await witness.step("right");
      await terminal.until(". A . . ");
      terminal.press("q");
      assertEquals(await terminal.ended, 0);
      assert(terminal.shown.trimEnd().endsWith("\x1b[?25h\x1b[?1049l"));
      await witness.until("the other one to be gone", () => witness.pieces === 1);
      await witness.quit();
    });

    it("leaves at Ctrl-C in the terminal", async () => {
      const terminal = new Terminal(runtime, "board_client", [String(server.port)]);
      await terminal.until("You are A, 1 here.");
      terminal.press("\x03");
      assertEquals(await terminal.ended, 0);
    });

    it("prints one line about why it cannot play", async () => {
      const cases: [code: number, message: RegExp, args: string[]][] = [
        [2, /there is no "jump"/, ["--script", script("jump.txt", "up", "jump")]],
        [2, /there is no "wait"/, ["--script", script("wait.txt", "wait")]],
        [2, /without the name of the script/, ["--script"]],
        [2, /is not a terminal/, []],
        [2, /Cannot take 3 arguments/, ["127.0.0.1", "x"]],
        [1, /ENOENT/, ["--script", join(folder, "none.txt")]],
      ];
      for (const [code, message, args] of cases) {
        const fed = await client(runtime, ...args);
        assertMatch(oneLine(fed), message);
        assertEquals(fed.code, code);
      }
      const refused = await runProgram(runtime, "board_client", ["1", "--script", script("up.txt", "up")]);
      assertMatch(oneLine(refused), /^The game is over: .*ECONNREFUSED/);
      assertEquals(refused.code, 1);
    });

    it("prints one line if the server has ended, or is full", async () => {
      const file = script("long.txt", "wait 60000");
      const players = await Player.joinAll(server, MAX_PLAYERS - 1);
      const waiting = client(runtime, "--script", file);
      const [first] = players as [Player];
      await first.until("the client", () => first.pieces === MAX_PLAYERS);
      const full = await client(runtime, "--script", file);
      assertEquals(oneLine(full), "The game is over: the board is full");
      assertEquals(full.code, 1);
      await Promise.all(players.map((player) => player.quit()));
      assertEquals(await server.stop(), null);
      const ended = await waiting;
      assertEquals(oneLine(ended), "The game is over: the server ends");
      assertEquals(ended.code, 1);
      server = await startServer(runtime, "board_server");
    });
  });
}

/** A program in its own terminal. */
class Terminal {
  shown = "";
  /** Its exit code. */
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;

  constructor(runtime: RuntimeName, name: string, programArgs: readonly string[]) {
    const { file, args } = exampleCommand(runtime, name, programArgs);
    const command = [file, ...args].map((word) => `'${word}'`).join(" ");
    this.#child = spawn("script", ["-q", "-e", "-c", command, "/dev/null"], {
      cwd: ROOT,
      env: { ...plainEnvironment(), TERM: "xterm" },
      stdio: "pipe",
    });
    this.#child.stdout?.on("data", (chunk: Buffer) => this.shown += chunk.toString());
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 2 * PATIENCE_MS);
    this.ended = new Promise((resolve) => {
      this.#child.on("close", (code) => {
        clearTimeout(timer);
        resolve(code);
      });
    });
  }

  press(keys: string): void {
    this.#child.stdin?.write(keys);
  }

  until(text: string): Promise<void> {
    return eventually(`the terminal shows ${text}`, () => this.shown.includes(text));
  }
}
