/**
 * A server that is replaced by a new version of itself without losing a client: `handover [port]`.
 *
 * At SIGUSR2 it starts the same program again, and the new process inherits the listening socket as descriptor 3, by the convention of
 * systemd's socket activation (`LISTEN_FDS`). The socket is never closed, so no client is refused: clients that
 * connect in between wait in the kernel. When the new version listens, it sends SIGTERM to the old one, which accepts
 * no more clients, answers its present ones, and ends. If the new version cannot start, the old one goes on.
 *
 * The same program runs under systemd (`systemd-socket-activate -l 127.0.0.1:40722 …`, or a socket unit). On Deno the
 * socket can be handed over only if the program was started so, because Deno does not report the descriptor of a
 * socket that it has opened itself.
 */

import { spawn } from "node:child_process";
import { EventBase, serve, stopOnSignals } from "trivent";
import { announce, fail, main, onlyPort } from "./_common.ts";

const { process } = globalThis;
/** The process that this one replaces. */
const OLD = "HANDOVER_OLD_PID";
/** The first descriptor that is handed over. */
const FIRST_FD = 3;

await main("handover [port]", async (args) => {
  const port = onlyPort(args, 40722);
  const { LISTEN_FDS, LISTEN_PID = String(process.pid), [OLD]: old } = process.env;
  // LISTEN_PID names the process for which the sockets are, because children inherit the variables.
  const isGiven = LISTEN_FDS === "1" && LISTEN_PID === String(process.pid);
  const base = new EventBase();
  const server = await serve(isGiven ? { base, fd: FIRST_FD } : { base, hostname: "127.0.0.1", port }, {
    line: (bev, line) => void bev.write(`${process.pid}: ${new TextDecoder().decode(line)}\n`),
  });
  stopOnSignals(server, { graceMs: 5000 });
  const onReplace = base.signal("SIGUSR2", () => replace(server.fd, args));
  onReplace.add();
  onReplace.unref();
  announce(server.address);
  if (old !== undefined) process.kill(Number(old), "SIGTERM");
  await base.dispatch();
});

/** Starts the new version. */
function replace(fd: number | undefined, args: string[]): void {
  if (fd === undefined) {
    return fail("Cannot hand over: the runtime does not report the descriptor of the listening socket");
  }
  const options = "Deno" in globalThis ? ["run", "--allow-all"] : process.execArgv;
  const env: { [name: string]: string | undefined } = { ...process.env, LISTEN_FDS: "1", [OLD]: String(process.pid) };
  delete env.LISTEN_PID;
  const child = spawn(process.execPath, [...options, process.argv[1] as string, ...args], {
    stdio: ["ignore", "inherit", "inherit", fd],
    env,
  });
  child.on("error", (error) => fail(`Cannot start the new version: ${error.message}`));
  // It outlives this process.
  child.unref();
}
