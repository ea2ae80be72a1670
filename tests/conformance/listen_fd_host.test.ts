/**
 * ListenOptions.fd, on whichever of Node, Deno and Bun runs this: wrong descriptors, and inherited
 * ones.
 */

import { spawn, spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, readlinkSync, rmSync, unlinkSync } from "node:fs";
import { connect as netConnect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { connect, detectRuntime, EventError, serve, type ServeOptions } from "../../mod.ts";
import { needs } from "../tools/needs.ts";
import { makeCertificates } from "./certificates.ts";

const runtime = detectRuntime();

async function refused(fd: number): Promise<EventError> {
  const error = await assertRejects(() => serve({ runtime, fd }, {}), EventError) as EventError;
  assertMatch(error.message, new RegExp(`^Cannot listen on file descriptor ${fd}: `));
  assertEquals(runtime.openHandles, 0);
  return error;
}

/** The descriptors of sockets that this process has. */
function sockets(): Map<number, string> {
  const found = new Map<number, string>();
  for (const name of readdirSync("/proc/self/fd")) {
    try {
      const link = readlinkSync(`/proc/self/fd/${name}`);
      if (link.startsWith("socket:")) found.set(Number(name), link);
    } catch {
      // The descriptor of the folder itself.
    }
  }
  return found;
}

/** The command of a program that serves its descriptor 3. */
function heirCommand(): string[] {
  const options = "Deno" in globalThis ? ["run", "-A", "--no-check"] : [];
  return [process.execPath, ...options, join("tests", "conformance", "fixtures", "heir.mjs")];
}

/** Starts it with a descriptor of this process. */
async function heir(fd: number): Promise<{ said: unknown; end(): Promise<void> }> {
  const [file = "", ...args] = heirCommand();
  const child = spawn(file, args, { stdio: ["pipe", "pipe", "inherit", fd] });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  let printed = "";
  const said = await new Promise<unknown>((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`the heir has ended with ${code}`)));
    child.stdout?.setEncoding("utf8");
    child.stdout?.on("data", (text: string) => {
      printed += text;
      if (printed.endsWith("\n")) resolve(JSON.parse(printed));
    });
  });
  return {
    said,
    end() {
      child.stdin?.end();
      return ended;
    },
  };
}

describe(`${runtime.name}: a descriptor that does not listen`, { skip: needs("/proc") }, () => {
  it("is refused with a message if it is closed", async () => {
    assertEquals((await refused(4321)).code, "EBADF");
  });

  it("is refused with a message if it is a file, and stays open", async () => {
    const fd = openSync("package.json", "r");
    assertEquals((await refused(fd)).code, "ENOTSOCK");
    closeSync(fd);
  });

  it("is refused with a message if it is a connection or a datagram socket, and stays unchanged", async () => {
    const accepted: Socket[] = [];
    const server = createServer((socket) => void accepted.push(socket.resume()));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const before = sockets();
    const client = netConnect((server.address() as { port: number }).port, "127.0.0.1");
    await new Promise((resolve) => client.once("connect", resolve));
    const udp = runtime.capabilities.udp
      ? await runtime.datagram?.({ hostname: "127.0.0.1" }, { onMessage() {}, onWritable() {}, onError() {} })
      : undefined;
    const made = [...sockets()].filter(([fd]) => !before.has(fd));
    assert(made.length >= (udp === undefined ? 1 : 2));
    const handles = runtime.openHandles;
    for (const [fd] of made) {
      const error = await assertRejects(() => serve({ runtime, fd }, {}), EventError) as EventError;
      assertEquals([error.code, runtime.openHandles], ["EINVAL", handles]);
      assertMatch(error.message, /the descriptor is a socket that does not listen/);
    }
    assertEquals(made.filter(([fd, link]) => readlinkSync(`/proc/self/fd/${fd}`) !== link), []);
    udp?.close();
    client.destroy();
    for (const socket of accepted) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
    while (runtime.openHandles > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  });
});

describe(`${runtime.name}: a socket that is bound and does not listen`, { skip: needs("/proc", "perl") }, () => {
  it("is refused with a message: it must listen before", () => {
    const path = join(tmpdir(), `trivent-bound-${process.pid}`);
    const program =
      `use Socket; $^F = 10; socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die; bind($s, sockaddr_un(shift)) or die;
      open(my $three, ">&=3") or POSIX::dup2(fileno($s), 3); exec @ARGV;`;
    const { stdout } = spawnSync("perl", ["-MPOSIX", "-e", program, path, ...heirCommand()], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"],
    });
    unlinkSync(path);
    const { code, message } = JSON.parse(stdout) as { code: string; message: string };
    assertEquals(code, "EINVAL");
    assertMatch(message, /^Cannot listen on file descriptor 3: the descriptor is a socket that does not listen/);
  });
});

describe(`${runtime.name}: a socket that another program has opened`, { skip: needs("perl") }, () => {
  /** Opens a socket, prints its port, and becomes a program that serves it. */
  const opener = `use Socket; use POSIX; $^F = 10; $| = 1; socket(my $s, PF_INET, SOCK_STREAM, 0) or die;
    bind($s, sockaddr_in(0, INADDR_LOOPBACK)) or die; listen($s, 100) or die;
    my ($port) = sockaddr_in(getsockname $s); POSIX::dup2(fileno($s), 3) or die;
    print "$port\n"; exec @ARGV;`;

  for (const withTls of [false, true]) {
    it(`is served to many clients, with half-closes and 1 MiB each way${withTls ? ", over TLS" : ""}`, {
      skip: withTls && (needs("openssl") || !runtime.capabilities.tls && "capabilities.tls is false"),
    }, async () => {
      const folder = mkdtempSync(join(tmpdir(), "trivent-heir-"));
      const certificates = withTls ? makeCertificates(folder) : undefined;
      const { ca = "", ...pair } = certificates ?? {};
      const child = spawn("perl", ["-e", opener, ...heirCommand()], {
        stdio: ["pipe", "pipe", "inherit"],
        env: { ...process.env, ...(withTls ? { HEIR_TLS: JSON.stringify(pair) } : undefined) },
      });
      const ended = new Promise((resolve) => child.once("exit", resolve));
      let printed = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => printed += text);
      while (printed.split("\n").length < 3) await new Promise((resolve) => setTimeout(resolve, 10));
      const port = Number(printed.split("\n")[0]);
      const said = JSON.parse(printed.split("\n")[1] as string);
      assertEquals(said, { address: { hostname: "127.0.0.1", port, family: "IPv4" }, fd: 3 });
      const line = "x".repeat(1023);
      await Promise.all(Array.from({ length: 20 }, async (_, i) => {
        const tls = withTls ? { ca, serverName: "localhost" } : undefined;
        const client = await connect({ runtime, port, tls }, {});
        const lines = i === 0 ? 1024 : 10;
        for (let j = 0; j < lines; j++) client.write(`${line}\n`);
        client.shutdown();
        let bytes = 0;
        for await (const chunk of client) bytes += chunk.length;
        assertEquals(bytes, lines * (1024 + "heir: ".length));
        await client.close();
      }));
      child.stdin.end();
      assertEquals(await ended, 0);
      rmSync(folder, { recursive: true });
      while (runtime.openHandles > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    });
  }
});

describe(`${runtime.name}: a socket that another process inherits`, {
  skip: runtime.name === "deno" && "Deno does not tell the descriptor of a socket that it has opened itself",
}, () => {
  const path = join(tmpdir(), `trivent-heir-${process.pid}`);
  const places: [string, ServeOptions][] = [
    ["TCP", { hostname: "127.0.0.1", port: 0 }],
    ["a unix socket whose file stays", { path, unlinkOnClose: false }],
  ];
  for (const [name, where] of places) {
    it(`goes on listening when the first one has closed it: ${name}`, async () => {
      const server = await serve({ runtime, ...where }, {});
      const { address, fd } = server;
      const { said, end } = await heir(fd as number);
      assertEquals(said, { address, fd: 3 });
      await server.close();
      assertEquals(server.fd, undefined);
      const client = await connect({ runtime, ...("path" in address ? address : { port: address.port }) }, {});
      client.write("hello\n");
      const { value } = await client.lines().next();
      assertEquals(new TextDecoder().decode(value), "heir: hello");
      await client.close();
      await end();
      if ("path" in address) {
        assert(existsSync(path));
        unlinkSync(path);
      }
      while (runtime.openHandles > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    });
  }
});
