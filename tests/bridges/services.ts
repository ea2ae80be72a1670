/**
 * Third-party servers, from Debian, each on its own port and in a folder that is removed at the
 * end.
 */

import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { connect as netConnect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { makeCertificates } from "../conformance/certificates.ts";
import { needs } from "../tools/needs.ts";
import { start } from "../tools/processes.mjs";
import { pause } from "./others.ts";

/** The time that a server may take to start: on a busy machine a database takes long. */
const START_MS = 90_000;

/** A running server. */
export interface Service {
  readonly port: number;
  /** The folder of its files. */
  readonly folder: string;
  stop(): Promise<void>;
}

/**
 * The system gives ports from 32,768 on to clients. A lower port is not used by others while a
 * service starts.
 */
const PORTS = [16_384, 32_767] as const;

/** A port that is free now. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = PORTS[0] + Math.floor(Math.random() * (PORTS[1] - PORTS[0]));
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.on("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise<void>((resolve) => server.close(() => resolve()));
    return port;
  }
}

/** A folder for one service. */
export function folderFor(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), `trivent-${name}-`));
  chmodSync(folder, 0o755);
  return folder;
}

/** Waits until a server listens on a port. */
async function listening(port: number, ms: number = START_MS): Promise<void> {
  const end = Date.now() + ms;
  for (;;) {
    const there = await new Promise<boolean>((resolve) => {
      const socket = netConnect({ port, host: "127.0.0.1" });
      socket.on("connect", () => resolve(true)).on(
        "error",
        () => resolve(false),
      );
      socket.on("connect", () => socket.destroy());
    });
    if (there) return;
    if (Date.now() > end) throw new Error(`nobody listens on ${port}`);
    await pause(20);
  }
}

/** Starts a program on a free port, and waits until it listens. */
async function serviceOf(
  folder: string,
  command: string,
  argsFor: (port: number) => readonly string[],
  ready: RegExp,
): Promise<Service> {
  let port = await freePort();
  const options = { cwd: folder, env: { ...process.env }, ready, timeoutMs: START_MS };
  let program = await start(command, argsFor(port), options).catch((error: Error) => error);
  // Another process may have taken the port since the check.
  for (let tries = 0; tries < 3 && program instanceof Error && /in use/i.test(program.message); tries++) {
    port = await freePort();
    program = await start(command, argsFor(port), options).catch((error: Error) => error);
  }
  if (program instanceof Error) throw program;
  const { stop } = program;
  await listening(port);
  return {
    port,
    folder,
    async stop() {
      await stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const isRoot = process.getuid?.() === 0;

/**
 * Some servers refuse to run as root. Returns the command that runs as the user that Debian has
 * made for the server.
 */
function asUser(
  user: string,
  command: string,
  args: readonly string[],
): [string, string[]] {
  return isRoot
    ? ["setpriv", [
      `--reuid=${user}`,
      `--regid=${user}`,
      "--init-groups",
      command,
      ...args,
    ]]
    : [command, [...args]];
}

function ownedBy(user: string, path: string): void {
  if (!isRoot) return;
  const id = (what: string): number => Number(execFileSync("id", [what, user], { encoding: "utf8" }));
  chownSync(path, id("-u"), id("-g"));
}

// ---- PostgreSQL

function postgresFolder(): string | undefined {
  const root = "/usr/lib/postgresql";
  if (!existsSync(root)) return undefined;
  return readdirSync(root).sort().map((version) => join(root, version, "bin"))
    .findLast((bin) => existsSync(join(bin, "initdb")));
}

/** Why tests with PostgreSQL are skipped. */
export const noPostgres: string | false = (process.env.TRIVENT_LACKS ?? "").split(",").includes("postgres") ||
    postgresFolder() === undefined
  ? "postgres is not installed"
  : false;

/** Starts PostgreSQL with TLS, user `postgres` with the password `secret`. */
export async function startPostgres(): Promise<
  Service & { ca: string | undefined }
> {
  const bin = postgresFolder()!;
  const folder = folderFor("postgres");
  const data = join(folder, "data");
  const secret = join(folder, "secret");
  mkdirSync(data, { mode: 0o700 });
  writeFileSync(secret, "secret\n");
  const made = makeCertificates(folder, "server");
  for (const path of [folder, data, secret]) ownedBy("postgres", path);
  const [initdb, initArgs] = asUser("postgres", join(bin, "initdb"), [
    ...[
      "-D",
      data,
      "-U",
      "postgres",
      "--auth=scram-sha-256",
      `--pwfile=${secret}`,
      "-N",
      "-E",
      "UTF8",
      "--locale=C",
    ],
  ]);
  execFileSync(initdb, initArgs, { cwd: folder, stdio: "pipe" });
  const settings = [
    "fsync=off",
    "listen_addresses=127.0.0.1",
    `unix_socket_directories=${folder}`,
  ];
  if (made !== undefined) {
    for (const name of ["server.pem", "server.key"]) {
      ownedBy("postgres", join(folder, name));
    }
    chmodSync(join(folder, "server.key"), 0o600);
    settings.push(
      "ssl=on",
      `ssl_cert_file=${join(folder, "server.pem")}`,
      `ssl_key_file=${join(folder, "server.key")}`,
    );
  }
  const given = ["-D", data, ...settings.flatMap((setting) => ["-c", setting])];
  const [command, args] = asUser("postgres", join(bin, "postgres"), given);
  const service = await serviceOf(
    folder,
    command,
    (port) => [...args, "-p", `${port}`],
    /ready to accept connections/,
  );
  return { ...service, ca: made?.ca };
}

// ---- MariaDB

/** Why tests with MariaDB are skipped. */
export const noMariadb: string | false = needs("mariadbd");

/** Starts MariaDB with TLS, user `test` with the password `secret`, and a database `test`. */
export async function startMariadb(): Promise<
  Service & { ca: string | undefined }
> {
  const folder = folderFor("mariadb");
  const data = join(folder, "data");
  mkdirSync(data);
  const made = makeCertificates(folder, "server");
  const user = isRoot ? ["--user=mysql"] : [];
  for (const path of [folder, data]) ownedBy("mysql", path);
  execFileSync("mariadb-install-db", [
    ...[
      "--no-defaults",
      `--datadir=${data}`,
      "--auth-root-authentication-method=normal",
      "--skip-test-db",
      ...user,
    ],
  ], { cwd: folder, stdio: "pipe" });
  const init = join(folder, "init.sql");
  writeFileSync(
    init,
    "CREATE DATABASE test;\nCREATE USER test@'%' IDENTIFIED BY 'secret';\nGRANT ALL ON test.* TO test@'%';\n",
  );
  const tls: string[] = [];
  if (made !== undefined) {
    for (const name of ["server.pem", "server.key"]) {
      ownedBy("mysql", join(folder, name));
    }
    tls.push(
      `--ssl-cert=${join(folder, "server.pem")}`,
      `--ssl-key=${join(folder, "server.key")}`,
    );
  }
  const service = await serviceOf(folder, "mariadbd", (port) => [
    ...[
      "--no-defaults",
      `--datadir=${data}`,
      `--port=${port}`,
      "--bind-address=127.0.0.1",
      ...user,
      ...tls,
    ],
    ...[
      `--socket=${join(folder, "s")}`,
      `--pid-file=${join(folder, "pid")}`,
      `--init-file=${init}`,
    ],
    ...[
      "--skip-name-resolve",
      "--max-allowed-packet=64M",
      "--innodb-buffer-pool-size=32M",
    ],
  ], /ready for connections/);
  return { ...service, ca: made?.ca };
}

// ---- Redis

/** Starts Redis, which requires the password `secret`. */
export async function startRedis(): Promise<Service> {
  return await serviceOf(
    folderFor("redis"),
    "redis-server",
    (port) => ["--port", `${port}`, "--bind", "127.0.0.1", "--save", "", "--requirepass", "secret"],
    /Ready to accept connections/,
  );
}
