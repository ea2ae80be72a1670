// JetStream over natsTransport(): the lines of docs/scaling.md, on the real broker, which is killed meanwhile.

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { natsTransport } from "../../bridges/nats.ts";
import { defaultRuntime } from "../../mod.ts";
import { needs } from "../tools/needs.ts";
import { start } from "../tools/processes.mjs";
import { ROOT } from "../tools/runtimes.mjs";
import { load, noPackages, nothingLeft, type Package, until, within } from "./others.ts";
import { freePort } from "./services.ts";

const runtime = defaultRuntime();

/** The code blocks of the page for a sender and a reader, as functions. */
function linesOfThePage(): Record<string, (...args: unknown[]) => Promise<void>> {
  const page = readFileSync(join(ROOT, "docs", "scaling.md"), "utf8");
  const section = page.slice(page.indexOf("### More than at most once"));
  const blocks = [...section.matchAll(/^```ts.*\n([^]*?)^```$/gm)].slice(0, 3).map(([, code]) => code!);
  assertEquals(blocks.length, 3);
  const AsyncFunction = (async () => {}).constructor as new (...args: string[]) => () => Promise<void>;
  const [connect, send, read] = blocks.map((code) => code.replace(/^import .*\n/gm, ""));
  return {
    connect: new AsyncFunction("use", "url", `const { ${USED} } = use;\n${connect}\nuse.nats = nats;`),
    send: new AsyncFunction("use", "line", "id", `const { ${USED}, nats } = use;\n${send}`),
    read: new AsyncFunction("use", "client", "deliver", `const { ${USED}, nats } = use;\n${read}`),
  };
}

const USED = "NatsConnectionImpl, setTransportFactory, natsTransport, jetstream, jetstreamManager, AckPolicy";

describe(`JetStream over natsTransport() on ${runtime.name}`, { skip: noPackages || needs("nats-server") }, () => {
  const folder = mkdtempSync(join(tmpdir(), "trivent-jetstream-"));
  let broker: { stop(signal?: string): Promise<string | null> };
  let port = 0;

  async function startBroker(): Promise<void> {
    broker = await start("nats-server", ["-a", "127.0.0.1", "-p", String(port), "-js", "-sd", folder], {
      ready: /Server is ready/,
    });
  }

  before(async () => {
    port = await freePort();
    await startBroker();
  });
  after(async () => {
    await broker?.stop("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  });

  it("loses no acknowledged message when the broker is killed, and stores a repeated message once", async () => {
    const [{ NatsConnectionImpl, setTransportFactory }, { AckPolicy, jetstream, jetstreamManager }] = await Promise.all(
      [load("@nats-io/nats-core/internal"), load("@nats-io/jetstream")],
    );
    const use: Package = {
      NatsConnectionImpl,
      setTransportFactory,
      natsTransport,
      jetstream,
      jetstreamManager,
      AckPolicy,
    };
    const page = linesOfThePage();
    await page.connect!(use, `127.0.0.1:${port}`);
    const names: string[] = [];
    for (let i = 0; i < 50; i++) {
      await page.send!(use, `line ${i}`, `sender-${i}`);
      names.push(`line ${i}`);
    }
    // The sender has got no answer, and sends it again.
    await page.send!(use, "line 49", "sender-49");

    let isAnswered = false;
    await broker.stop("SIGKILL");
    const waiting = page.send!(use, "line 50", "sender-50").then(() => isAnswered = true);
    await startBroker();
    await within("the answer of the new broker", waiting);
    assert(isAnswered);
    names.push("line 50");

    // A reader that ends before it has acknowledged gets the message again.
    const seen: string[] = [];
    const broken = await page.read!(use, "c2", (text: string) => {
      seen.push(text);
      if (seen.length === 10) throw new Error("the reader ends");
    }).catch((error: Error) => error.message);
    assertEquals([broken, seen.length], ["the reader ends", 10]);
    const all: string[] = seen.slice(0, 9);
    const reading = page.read!(use, "c2", (text: string) => void all.push(text)).catch(() => {});
    await until(() => all.length >= names.length);
    assertEquals(all, names);
    await use.nats.close();
    await within("the end of the reader", reading);
    await nothingLeft();
  });
});
