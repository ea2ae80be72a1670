// The mail server with common clients (swaks, nodemailer), behind HAProxy, and with hostile
// clients.

import { createHash, randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { connect as connectTls } from "node:tls";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { start } from "../tools/processes.mjs";
import { plainEnvironment, RUNTIMES } from "../tools/runtimes.mjs";
import {
  Client,
  eventually,
  type Fed,
  feed,
  makeCertificate,
  openSockets,
  type RunningServer,
  startServer,
  stopWhenClosed,
  untilClosed,
  withoutTls,
} from "./workshop.ts";

/** The part of nodemailer that is used here, which has no types. */
interface Nodemailer {
  createTransport(options: object): {
    sendMail(mail: object): Promise<{ accepted: string[]; rejected: string[]; response: string }>;
    close(): void;
  };
}
const NODEMAILER: string = "nodemailer";
const SENDER = "EHLO test.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<me@here.example>\r\n";

const directory = mkdtempSync(join(tmpdir(), "trivent-smtp-"));
const tls = needs("openssl") === false;
if (tls) makeCertificate(directory);
const CERTIFICATE = ["--cert", join(directory, "leaf.pem"), "--key", join(directory, "leaf.key")];
after(async () => {
  await Post.endAll();
  rmSync(directory, { recursive: true });
});
afterEach(() => Client.resetAll());

/** A running server and its folder. */
class Post {
  static #count = 0;
  static readonly #running: Set<Pick<RunningServer, "stop">> = new Set();
  readonly folder: string;
  server!: RunningServer;
  /** The sockets of a server without clients. */
  sockets = 0;

  private constructor(folder: string) {
    this.folder = folder;
  }

  static async open(
    runtime: (typeof RUNTIMES)[number],
    args: readonly string[] = [],
    folder: string = join(directory, `mail${Post.#count++}`),
  ): Promise<Post> {
    const post = new Post(folder);
    post.server = await startServer(runtime, "smtp", [folder, ...args]);
    post.sockets = openSockets(post.server.pid);
    Post.keep(post.server);
    return post;
  }

  /** A program that ends with the tests. */
  static keep<Program extends Pick<RunningServer, "stop">>(program: Program): Program {
    Post.#running.add(program);
    return program;
  }

  /** Ends processes that are left after a failure. Otherwise the tests would not end. */
  static async endAll(): Promise<void> {
    for (const server of Post.#running) await server.stop("SIGKILL");
  }

  /** The delivered mails, in any order. */
  mails(): string[] {
    const folder = join(this.folder, "new");
    return readdirSync(folder).map((name) => readFileSync(join(folder, name), "latin1"));
  }

  drafts(): string[] {
    return readdirSync(join(this.folder, "tmp"));
  }

  /** Stops it by a signal. Returns the failure. */
  stop(signal?: string): Promise<string | null> {
    Post.#running.delete(this.server);
    return this.server.stop(signal);
  }

  async close(): Promise<void> {
    Post.#running.delete(this.server);
    await stopWhenClosed(this.server, this.sockets);
    assertEquals(this.server.printed(), "");
    assertEquals(this.drafts(), []);
  }

  async talk(): Promise<Talk> {
    const talk = new Talk(await Client.open(this.server.port));
    assertMatch(await talk.reply(), /^220 localhost ESMTP$/);
    return talk;
  }
}

/** A client that sends commands directly. */
class Talk {
  readonly client: Client;
  #read = 0;

  constructor(client: Client) {
    this.client = client;
  }

  /** The next reply. */
  async reply(): Promise<string> {
    const rest = (): string => this.client.bytes.toString("latin1").slice(this.#read);
    const whole = /^(?:\d{3}-.*\r\n)*\d{3} .*\r\n/;
    await this.client.until("a reply", () => whole.test(rest()) || this.client.ended || this.client.closed);
    const [text = ""] = whole.exec(rest()) ?? [];
    this.#read += text.length;
    return text.trimEnd();
  }

  async says(bytes: Uint8Array | string): Promise<string> {
    await this.client.send(bytes);
    return await this.reply();
  }

  /** The codes of the replies to a group of commands. */
  async codes(bytes: Uint8Array | string, count: number): Promise<string> {
    await this.client.send(bytes);
    const codes: string[] = [];
    for (let i = 0; i < count; i++) codes.push((await this.reply()).slice(0, 3));
    return codes.join(" ");
  }

  /** The rest until the end of the connection. */
  async rest(): Promise<string> {
    await this.client.until("the end", () => this.client.ended || this.client.closed);
    return this.client.bytes.toString("latin1").slice(this.#read);
  }

  async begins(): Promise<void> {
    assertEquals(await this.codes(`${SENDER}DATA\r\n`, 4), "250 250 250 354");
  }
}

function swaks(port: number, ...args: string[]): Promise<Fed> {
  const to = ["--server", `127.0.0.1:${port}`, "--from", "a@b.example", "--to", "me@here.example"];
  return feed("swaks", [...to, "--helo", "test.example", ...args]);
}

function bodyOf(mail: string): string {
  return mail.slice(mail.indexOf("\r\n\r\n") + 4);
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => void server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const withoutSwaks = needs("swaks");

for (const runtime of RUNTIMES) {
  const noTls = withoutTls(runtime) || needs("openssl");

  describe(`smtp on ${runtime}`, () => {
    it(
      "accepts mail from swaks, pipelined and not, with dots and a large attachment",
      { skip: withoutSwaks },
      async () => {
        const post = await Post.open(runtime);
        const file = join(directory, "attachment");
        const bytes = randomBytes(3_000_000);
        writeFileSync(file, bytes);
        const text = ".\n..two\n.hidden\nlast";
        for (const args of [["--body", text], ["--body", text, "--pipeline"], ["--attach", `@${file}`]]) {
          const { code, stdout } = await swaks(post.server.port, ...args);
          assertEquals(code, 0, stdout.toString().slice(-2000));
        }
        const mails = post.mails();
        assertEquals(mails.length, 3);
        assertEquals(mails.filter((mail) => bodyOf(mail).startsWith(text.replaceAll("\n", "\r\n"))).length, 2);
        const [, base64 = ""] = /filename="attachment"[^]*?\r\n\r\n([^]*?)\r\n\r?\n?--/.exec(mails.join("\r\n")) ?? [];
        assertEquals(hash(Buffer.from(base64, "base64")), hash(bytes));
        for (const mail of mails) {
          assertMatch(
            mail,
            /^Return-Path: <a@b\.example>\r\nDelivered-To: me@here\.example\r\nReceived: from test\.example/,
          );
          assertMatch(
            mail,
            /\(\[127\.0\.0\.1\]\)\r\n\tby localhost with ESMTP id \S+; \w{3}, \d\d \w{3} \d{4} [\d:]{8} \+0000/,
          );
        }
        await post.close();
      },
    );

    it("accepts mail from swaks by STARTTLS", { skip: withoutSwaks || noTls }, async () => {
      const post = await Post.open(runtime, CERTIFICATE);
      for (const version of ["tlsv1_2", "tlsv1_3"]) {
        const { code, stdout } = await swaks(
          post.server.port,
          ...["--tls", "--tls-protocol", version, "--tls-verify", "--tls-ca-path", join(directory, "ca.pem")],
          ...["--tls-sni", "localhost", "--body", "secret"],
        );
        assertEquals(code, 0, stdout.toString());
        assertMatch(stdout.toString(), new RegExp(`TLS started with cipher ${version.replace("_", ".")}`, "i"));
      }
      const mails = post.mails();
      assertEquals(mails.length, 2);
      for (const mail of mails) assertMatch(mail, /with ESMTPS id/);
      await post.close();
    });

    it("accepts 60 mails from nodemailer, five at a time and by STARTTLS, each once", { skip: noTls }, async () => {
      const { createTransport } = await import(NODEMAILER) as Nodemailer;
      const post = await Post.open(runtime, CERTIFICATE);
      const transport = createTransport({
        host: "127.0.0.1",
        port: post.server.port,
        pool: true,
        maxConnections: 5,
        requireTLS: true,
        tls: { ca: readFileSync(join(directory, "ca.pem")), servername: "localhost" },
      });
      const numbers = Array.from({ length: 60 }, (_, i) => i);
      const results = await Promise.all(numbers.map((i) =>
        transport.sendMail({
          from: "a@b.example",
          to: ["me@here.example", `you${i}@here.example`],
          subject: `number ${i}`,
          text: `.\n.${i}\n`,
          attachments: [{ filename: "bytes", content: Buffer.alloc(i * 1000, i) }],
        })
      ));
      transport.close();
      for (const { accepted, rejected } of results) assertEquals([accepted.length, rejected], [2, []]);
      const ids = results.map(({ response }) => /^250 2\.0\.0 (\S+) stored$/.exec(response)?.[1]);
      assertEquals(new Set(ids).size, 60);
      assertEquals(readdirSync(join(post.folder, "new")).sort(), ids.sort() as string[]);
      const subjects = post.mails().map((mail) => Number(/^Subject: number (\d+)/m.exec(mail)?.[1]));
      assertEquals(subjects.sort((a, b) => a - b), numbers);
      await post.close();
    });

    it("reports refusals to nodemailer: a domain, and a mail that is too large", async () => {
      const { createTransport } = await import(NODEMAILER) as Nodemailer;
      const post = await Post.open(runtime, ["--domains", "here.example", "--size", "20000"]);
      const transport = createTransport({ host: "127.0.0.1", port: post.server.port, ignoreTLS: true });
      const mail = { from: "a@b.example", to: ["me@HERE.example", "you@there.example"], text: "hello" };
      const { accepted, rejected } = await transport.sendMail(mail);
      assertEquals([accepted, rejected], [["me@here.example"], ["you@there.example"]]);
      const failure = await transport.sendMail({ ...mail, to: "me@here.example", text: "x\n".repeat(20_000) }).then(
        () => 0,
        (error: { responseCode: number }) => error.responseCode,
      );
      assertEquals(failure, 552);
      transport.close();
      assertEquals(post.mails().length, 1);
      await post.close();
    });

    it(
      "gets the client's address behind HAProxy, and refuses a header of any other peer",
      { skip: withoutSwaks || needs("haproxy", "127.0.0.2", "/proc") },
      async () => {
        const post = await Post.open(runtime, ["--proxy", "127.0.0.1", "--each", "1"]);
        const port = await freePort();
        const config = join(directory, `${runtime}.cfg`);
        writeFileSync(
          config,
          "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n" +
            `listen mail\n  bind 127.0.0.1:${port}\n  server s 127.0.0.1:${post.server.port} send-proxy-v2\n`,
        );
        const proxy = Post.keep(
          await start("sh", ["-c", 'echo begun; exec haproxy -f "$0" -db', config], {
            env: plainEnvironment(),
            ready: /begun/,
          }),
        );
        await eventually("HAProxy listens", () => listens(port));
        // An open connection of another client does not count for this one.
        const other = await Client.open(port);
        await other.until("a greeting", () => other.received > 0);
        const { code, stdout } = await swaks(port, "--local-interface", "127.0.0.2");
        assertEquals(code, 0, stdout.toString());
        assertMatch(post.mails().join(), /Received: from test\.example \(\[127\.0\.0\.2\]\)/);
        const second = await Client.open(port);
        await second.until("the end", () => second.ended || second.closed);
        assertEquals(second.bytes.toString(), "421 4.7.0 too many connections\r\n");
        const plain = await Client.open(post.server.port);
        plain.end("EHLO test.example\r\n");
        await plain.until("the end", () => plain.ended || plain.closed);
        assertEquals(plain.received, 0);
        other.reset();
        await proxy.stop();
        await post.close();
      },
    );
  });

  describe(`smtp on ${runtime}, and hostile clients`, () => {
    let post: Post;
    before(async () => {
      post = await Post.open(runtime, [...(noTls ? [] : CERTIFICATE), "--patience", "4", "--size", "100000"]);
    });
    after(async () => {
      assertEquals(post.mails().length, 0);
      await post.close();
    });

    it("accepts no second mail that is hidden behind another kind of line end", async () => {
      const hidden = `\r\nMAIL FROM:<evil@b.example>\r\nRCPT TO:<me@here.example>\r\nDATA\r\nsmuggled\r\n.\r\n`;
      for (const end of ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r", "\n\n.\r\n", "\r\n\0.\n"]) {
        const talk = await post.talk();
        await talk.begins();
        await talk.client.send(`first${end}${hidden}`);
        assertEquals(await talk.rest(), "521 5.5.2 a bare CR or LF\r\n", JSON.stringify(end));
      }
      for (const command of ["NOOP\nNOOP\r\n", "NOOP\rNOOP\r\n", "NO\0OP\r\n", "EHLO gr\xfcn.example\r\n"]) {
        const talk = await post.talk();
        await talk.client.send(Buffer.from(command, "latin1"));
        assertEquals(await talk.rest(), "521 5.5.2 a command is ASCII, and ends with CR LF\r\n");
      }
    });

    it("accepts no truncated mail, and leaves no file", async () => {
      for (const text of ["half a li", "line\r\n", "a stuffed line\r\n.", "line\r\n.\r"]) {
        for (const how of ["end", "reset"] as const) {
          const talk = await post.talk();
          await talk.begins();
          await talk.client.send(text);
          // A reset may overtake sent bytes.
          await eventually("a draft", () => post.drafts().length === 1);
          talk.client[how]();
          await eventually("no draft", () => post.drafts().length === 0);
        }
      }
    });

    it("limits lines, mails, recipients and errors", async () => {
      const endless = await post.talk();
      await endless.client.send("x".repeat(200_000));
      assertEquals(await endless.rest(), "500 5.5.6 the line is too long\r\n");

      const inData = await post.talk();
      await inData.begins();
      await inData.client.send(`${"x".repeat(1000)}\r\n`.repeat(10) + "x".repeat(200_000));
      assertEquals(await inData.rest(), "500 5.5.6 the line is too long\r\n");

      const large = await post.talk();
      assertEquals((await large.says("EHLO test.example\r\n")).includes("250-SIZE 100000"), true);
      assertMatch(await large.says("MAIL FROM:<a@b.example> BODY=8BITMIME SIZE=100001\r\n"), /^552 5\.3\.4/);
      await large.begins();
      await large.client.send(`${"x".repeat(998)}\r\n`.repeat(105));
      assertMatch(await large.says("RSET\r\n.\r\n"), /^552 5\.3\.4/);
      await large.client.send("QUIT\r\n");
      assertEquals(await large.rest(), "221 2.0.0 goodbye\r\n");

      const many = await post.talk();
      const codes = await many.codes(SENDER + "RCPT TO:<you@here.example>\r\n".repeat(1099), 1102);
      assertEquals(count(codes), { 250: 102, 452: 1000 });
      assertEquals((await many.says("RCPT TO:<you@here.example>\r\n")).slice(0, 3), "421");

      const wrong = await post.talk();
      await wrong.client.send("GET / HTTP/1.1\r\n".repeat(20));
      assertEquals(count((await wrong.rest()).replace(/ .*\r\n/g, " ").trim()), { 421: 1, 500: 9 });
    });

    it("limits the time of a line, of silence, and of a client that does not read", async () => {
      const slow = await post.talk();
      const silent = await post.talk();
      const deaf = await post.talk();
      deaf.client.socket.pause();
      // More commands than the buffers on the way can hold answers.
      deaf.client.socket.write("EHLO test.example\r\n".repeat(400_000));
      const begin = performance.now();
      while (!slow.client.ended && performance.now() - begin < 60_000) {
        slow.client.socket.write("x");
        await pause(200);
      }
      assertEquals(await slow.rest(), "421 4.4.2 you are too slow\r\n");
      assertEquals(await silent.rest(), "421 4.4.2 you are too slow\r\n");
      assert(performance.now() - begin < 30_000, `${performance.now() - begin} ms`);
      await untilClosed(post.server.pid, post.sockets);
    });

    it("refuses bytes without TLS after STARTTLS", { skip: noTls }, async () => {
      const one = await post.talk();
      await one.says("EHLO test.example\r\n");
      await one.client.send("STARTTLS\r\nMAIL FROM:<evil@b.example>\r\n");
      assertEquals(await one.rest(), "521 5.5.1 nothing may follow STARTTLS before TLS\r\n");

      // As above, but half a command, which is continued with TLS.
      const two = await post.talk();
      await two.says(SENDER.slice(0, 19));
      assertMatch(await two.says("STARTTLS\r\n"), /^220/);
      await two.client.send("RSET\r\n");
      assertEquals(await two.rest().then((text) => text.includes("250")), false);

      const three = await post.talk();
      assertEquals(await three.codes(`${SENDER}STARTTLS\r\n`, 4), "250 250 250 220");
      const { socket } = three.client;
      socket.removeAllListeners("data");
      const secure = connectTls({ socket, ca: readFileSync(join(directory, "ca.pem")), servername: "localhost" });
      let said = "";
      secure.on("data", (chunk) => said += chunk);
      secure.write("DATA\r\nMAIL FROM:<a@b.example>\r\nSTARTTLS\r\nEHLO test.example\r\nQUIT\r\n");
      await eventually("the end", () => said.includes("221"));
      const text = said.replace(/ .*\r\n/g, " ");
      assertMatch(text, /^503 503 503 250-.*221 $/s);
      assert(!said.includes("STARTTLS\r\n"), said);
      secure.destroy();
    });

    it("accepts no address that could end a header or a command", async () => {
      const talk = await post.talk();
      assertMatch(await talk.says("EHLO a b\r\n"), /^501/);
      assertMatch(await talk.says("MAIL FROM:<a@b.example>\r\n"), /^503/);
      assertMatch(await talk.says("EHLO test.example\r\n"), /^250/);
      for (
        const [command, code] of [
          ["MAIL FROM:<a b@c.example>", 553],
          ["MAIL FROM:<a@b.example> AUTH=<>", 555],
          ["MAIL FROM:a@b.example", 501],
          ["RCPT TO:<me@here.example>", 503],
          ["MAIL FROM:<> SIZE=5", 250],
          ["RCPT TO:<>", 553],
          ["RCPT TO:<me>", 553],
          ["RCPT TO:<Postmaster>", 250],
          ["RCPT TO:<me@here.example> NOTIFY=NEVER", 501],
          ["VRFY me", 252],
        ] as const
      ) {
        assertEquals((await talk.says(`${command}\r\n`)).slice(0, 3), `${code}`, command);
      }
      assertMatch(await talk.says("RSET\r\n"), /^250/);
      assertEquals((await talk.says("DATA\r\n")).slice(0, 13), "421 4.7.0 too");
    });
  });

  describe(`smtp on ${runtime}, and its end`, () => {
    it("stops gracefully: 421 for idle clients, and a mail in progress is finished", async () => {
      const post = await Post.open(runtime);
      const idle = await post.talk();
      const sending = await post.talk();
      await sending.begins();
      await sending.client.send("first half\r\n");
      const stopped = post.stop();
      assertEquals(await idle.rest(), "421 4.3.2 the server stops\r\n");
      idle.client.end();
      await sending.client.send("second half\r\n.\r\n");
      assertMatch(await sending.reply(), /^250 2\.0\.0 \S+ stored$/);
      assertEquals(await sending.rest(), "421 4.3.2 the server stops\r\n");
      sending.client.end();
      assertEquals(await stopped, null);
      assertEquals(post.mails().map(bodyOf).length, 1);
      assertMatch(post.mails().join(), /first half\r\nsecond half\r\n$/);
    });

    it("keeps mails that it has answered with 250 when it is killed, and nothing else", async () => {
      const post = await Post.open(runtime);
      const talk = await post.talk();
      await talk.begins();
      assertMatch(await talk.says("whole\r\n.\r\n"), /^250/);
      assertEquals(await talk.codes(`${SENDER}DATA\r\n`, 4), "250 250 250 354");
      await talk.client.send(`half\r\n${"x".repeat(1000)}\r\n`);
      await eventually("a draft", () => post.drafts().length === 1);
      await post.stop("SIGKILL");
      assertEquals([post.mails().length, post.drafts().length], [1, 1]);
      const again = await Post.open(runtime, [], post.folder);
      assertEquals(again.drafts(), []);
      assertMatch(again.mails().join(), /\r\nwhole\r\n$/);
      await again.close();
    });

    it("answers 451 while it cannot write, and does not treat the mail as commands", async () => {
      const post = await Post.open(runtime);
      rmSync(join(post.folder, "tmp"), { recursive: true });
      const talk = await post.talk();
      assertEquals(await talk.codes(`${SENDER}DATA\r\n`, 4), "250 250 250 451");
      assertMatch(await talk.says("QUIT\r\n"), /^221/);
      talk.client.end();
      assertEquals(await post.stop(), null);
      assertMatch(post.server.printed(), /ENOENT/);
    });
  });
}

function hash(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** The number of times that each word occurs. */
function count(words: string): { [word: string]: number } {
  const all: { [word: string]: number } = {};
  for (const word of words.split(" ")) all[word] = (all[word] ?? 0) + 1;
  return all;
}

/** Whether somebody listens on a port. */
function listens(port: number): boolean {
  const hex = `:${port.toString(16).toUpperCase().padStart(4, "0")} 00000000:0000 0A`;
  return readFileSync("/proc/net/tcp", "utf8").includes(hex);
}
