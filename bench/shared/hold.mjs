/**
 * Connections that are open and idle. As a program: `hold.mjs PORT COUNT` connects, has one line answered on each,
 * prints `held`, and keeps them until it is ended.
 *
 * They come from several addresses of the loopback, other ones for each process, so that ports do not run short.
 */

import { execFileSync, spawn } from "node:child_process";
import { connect } from "node:net";
import { fileURLToPath, pathToFileURL } from "node:url";
import { pinned } from "./pinned.mjs";

const self = fileURLToPath(import.meta.url);
/** The number of attempts at the same time: within every backlog. */
const AT_A_TIME = 100;
const PER_ADDRESS = 1000;
/** The other files of a process. */
const OTHER_FILES = 200;

/**
 * The reason why this number of connections is not possible here, if there is one. @param {number}
 * count
 */
export function whyNot(count) {
  if (process.platform !== "linux") return "it needs Linux: /proc, and 127.0.0.0/8 as loopback";
  const limit = execFileSync("sh", ["-c", "ulimit -Hn"], { encoding: "utf8" }).trim();
  if (limit === "unlimited" || Number(limit) >= count + OTHER_FILES) return undefined;
  return `a process may have ${limit} open files here, and it needs ${count + OTHER_FILES} (ulimit -Hn)`;
}

/**
 * Opens idle connections to a server.
 *
 * @param {{ port: string }} server
 * @param {number} count
 * @returns {Promise<() => Promise<void>>} Closes them
 */
export function hold(server, count) {
  const raise = ["sh", "-c", 'ulimit -n "$(ulimit -Hn)"; exec "$@"', "sh"];
  const [file, ...args] = pinned(1, [...raise, process.execPath, self, server.port, String(count)]);
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "inherit"] });
  const end = () => child.kill("SIGKILL");
  process.on("exit", end);
  return new Promise((resolve, reject) => {
    const ended = new Promise((done) =>
      child.once("exit", () => {
        process.off("exit", end);
        reject(new Error(`${count} idle connections could not be opened`));
        done();
      })
    );
    child.on("error", reject);
    child.stdout.once("data", () =>
      resolve(() => {
        end();
        return ended;
      }));
  });
}

/** One connection that has had its line. */
function open(port, number) {
  const localAddress = `127.${1 + process.pid % 250}.0.${1 + Math.floor(number / PER_ADDRESS)}`;
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: "127.0.0.1", localAddress, noDelay: true });
    let reply = "";
    socket.on("error", reject);
    socket.on("data", (chunk) => {
      reply += chunk;
      if (reply === "Uryyb\n") resolve();
      else if (reply.length >= 6) reject(new Error(`the reply is ${JSON.stringify(reply)}`));
    });
    socket.on("close", () => reject(new Error("the server has closed a connection")));
    socket.write("Hello\n");
  });
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [port, count] = process.argv.slice(2).map(Number);
  let next = 0;
  const opener = async () => {
    while (next < count) await open(port, next++);
  };
  try {
    await Promise.all(Array.from({ length: AT_A_TIME }, opener));
    console.log("held");
  } catch (error) {
    console.error(`Cannot hold ${count} connections: ${error.message}`);
    process.exit(1);
  }
}
