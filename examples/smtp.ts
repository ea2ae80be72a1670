/**
 * A mail server that strangers may reach: it receives mail and puts each into a file of a folder. `smtp PORT FOLDER
 * [--name NAME] [--domains A,B] [--cert FILE --key FILE] [--proxy ADDRESSES] [--size BYTES] [--max CONNECTIONS]
 * [--each CONNECTIONS] [--patience SECONDS] [--grace SECONDS]`. Try it with `swaks --server 127.0.0.1:2525 --to me@here.example`.
 *
 * `--proxy 10.0.0.0/8` is for a server behind HAProxy (`send-proxy-v2`): the header from these addresses has the
 * client's address. With a certificate it offers STARTTLS. At `kill` idle clients get 421, and mails in progress may
 * be finished.
 *
 * A mail is written to `FOLDER/tmp`, and moved to `FOLDER/new` when it is on the disk. Only then the client gets its 250.
 * The protocol is in `_smtp.ts`.
 */

import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { EventBase, stopOnSignals } from "trivent";
import { announce, main, named, port, refuse } from "./_common.ts";
import { type MailStore, serveMail } from "./_smtp.ts";

const USAGE = "smtp PORT FOLDER [--name NAME] [--domains A,B] [--cert FILE --key FILE] [--proxy ADDRESSES] " +
  "[--size BYTES] [--max CONNECTIONS] [--each CONNECTIONS] [--patience SECONDS] [--grace SECONDS]";
const MAX_RECIPIENTS = 100;
const MAX_ERRORS = 10;
/** How often a client may use up the time limit. */
const SESSION_PATIENCES = 12;

/** The arguments and their defaults. */
const DEFAULTS = {
  /** The name of the server. */
  "--name": "localhost",
  /** The domains whose mail it accepts; all by default. */
  "--domains": "",
  /** The certificate and the key for STARTTLS. */
  "--cert": "",
  "--key": "",
  /** The addresses of the proxies in front of the server. */
  "--proxy": "",
  /** The largest mail, in bytes. */
  "--size": 10 * 1024 * 1024,
  /** The largest number of clients, in all and from one address. */
  "--max": 1000,
  "--each": 20,
  /** The time limit in seconds for silence, for one line, and for reading an answer. */
  "--patience": 300,
  /** The seconds that mails in progress may take after `kill`. */
  "--grace": 10,
};

await main(USAGE, async ([where, folder, ...args]) => {
  if (where === undefined || folder === undefined) refuse("Cannot do without a port and a folder");
  const options = named(args, DEFAULTS);
  if ((options["--cert"] === "") !== (options["--key"] === "")) {
    refuse("Cannot speak TLS without both --cert and --key");
  }
  const patienceMs = options["--patience"] * 1000;
  const base = new EventBase();
  const mail = await serveMail(
    {
      base,
      hostname: "127.0.0.1",
      port: port(where, 0),
      proxyProtocol: options["--proxy"] === "" ? undefined : { trusted: options["--proxy"].split(",") },
      maxConnections: options["--max"],
      maxConnectionsPerAddress: options["--each"],
      whenFull: "reject",
      readTimeoutMs: patienceMs,
      messageTimeoutMs: patienceMs,
      writeTimeoutMs: patienceMs,
    },
    {
      name: options["--name"],
      domains: options["--domains"].toLowerCase().split(",").filter((domain) => domain !== ""),
      tls: options["--cert"] === ""
        ? undefined
        : { cert: await readFile(options["--cert"]), key: await readFile(options["--key"]) },
      maxBytes: options["--size"],
      maxRecipients: MAX_RECIPIENTS,
      maxErrors: MAX_ERRORS,
      sessionMs: SESSION_PATIENCES * patienceMs,
    },
    await openFolder(folder),
  );
  stopOnSignals(mail, { graceMs: options["--grace"] * 1000 });
  announce(mail.server.address);
  await base.dispatch();
});

/** A folder with one file for each mail. */
async function openFolder(path: string): Promise<MailStore> {
  const [drafts, mails] = [join(path, "tmp"), join(path, "new")];
  // No client got a 250 for drafts that an earlier run has left there.
  await rm(drafts, { recursive: true, force: true });
  for (const folder of [drafts, mails]) await mkdir(folder, { recursive: true, mode: 0o700 });
  return {
    async draft() {
      const id = `${Date.now()}.${crypto.randomUUID()}`;
      const file = join(drafts, id);
      const handle = await open(file, "wx", 0o600);
      return {
        id,
        write: (bytes) => handle.appendFile(bytes),
        async commit() {
          await handle.sync();
          await handle.close();
          await rename(file, join(mails, id));
          await syncFolder(mails);
        },
        async discard() {
          await handle.close();
          await rm(file, { force: true });
        },
      };
    },
  };
}

/** A file survives a loss of power only if its directory entry does. */
async function syncFolder(path: string): Promise<void> {
  // Windows does not open folders.
  if (globalThis.process.platform === "win32") return;
  const handle = await open(path);
  await handle.sync();
  await handle.close();
}
