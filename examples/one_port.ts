/**
 * TLS and plain text on one port: `one_port PORT --cert FILE --key FILE [--proxy ADDRESSES]`. It answers each line
 * with the way in which it came. Try it with `nc 127.0.0.1 PORT` and
 * `openssl s_client -connect 127.0.0.1:PORT -quiet`.
 *
 * The first byte decides: TLS begins with 22, and no text does. With `--proxy 127.0.0.1` a proxy at this address
 * sends the client's address before it (the PROXY protocol).
 */

import { readFile } from "node:fs/promises";
import { EventBase, EventError, serve, type SocketBufferEvent, stopOnSignals } from "trivent";
import { announce, main, named, port, refuse } from "./_common.ts";

/** The first byte of a TLS handshake. */
const HANDSHAKE = 22;
/** The time that a client may be silent. */
const IDLE_MS = 60_000;

const DEFAULTS = { "--cert": "", "--key": "", "--proxy": "" };

await main("one_port PORT --cert FILE --key FILE [--proxy ADDRESSES]", async ([where, ...args]) => {
  const options = named(args, DEFAULTS);
  if (where === undefined || options["--cert"] === "" || options["--key"] === "") {
    refuse("Cannot do without a port, --cert and --key");
  }
  // The bytes that were already read are the beginning of the handshake.
  const tls = { cert: await readFile(options["--cert"]), key: await readFile(options["--key"]), unread: true };
  const base = new EventBase();
  const server = await serve({
    base,
    hostname: "127.0.0.1",
    port: port(where, 0),
    proxyProtocol: options["--proxy"] === "" ? undefined : { trusted: options["--proxy"].split(",") },
    readTimeoutMs: IDLE_MS,
  }, {
    read(bev) {
      // After the handshake it is called again, with text.
      const isHandshake = bev.tls === undefined && bev.input.pullup(1)?.[0] === HANDSHAKE;
      return isHandshake ? bev.startTls(tls) : answer(bev);
    },
    error: (error) => console.error(error instanceof EventError ? error.message : error),
  });
  stopOnSignals(server, { graceMs: 1000 });
  announce(server.address);
  await base.dispatch();
});

/** Serves a client after its address and kind are known. */
async function answer(bev: SocketBufferEvent): Promise<void> {
  const { remoteAddress, tls } = bev;
  const from = remoteAddress !== undefined && "hostname" in remoteAddress ? remoteAddress.hostname : "somewhere";
  for await (const line of bev.lines({ text: true, maxBytes: 1000 })) {
    if (!bev.write(`${tls?.protocol ?? "plain"} from ${from}: ${line}\n`)) await bev.drained();
  }
}
