/**
 * A connection of the seam over other streams: sockets of node:net, and streams with unusual
 * behaviour.
 */

import { once } from "node:events";
import { connect as netConnect, createServer, type Server, type Socket } from "node:net";
import { Duplex, PassThrough } from "node:stream";
import { after, before, describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { DuplexTransport } from "../../bridges/duplex/transport.ts";
import { EventError, type TransportSink } from "../../core/mod.ts";
import { over as ended, within } from "./others.ts";

/** Records its callbacks. */
class Ear implements TransportSink {
  readonly heard: string[] = [];
  error: EventError | undefined;
  /** Whether a method of the binding is running. */
  inside = false;
  #waiting: (() => void)[] = [];

  #hear(what: string): void {
    if (this.inside) this.heard.push("inside");
    this.heard.push(what);
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Waits until a callback has run. */
  async until(what: string): Promise<void> {
    while (!this.heard.includes(what)) {
      await within(`"${what}" behind ${this.heard}`, new Promise<void>((resolve) => this.#waiting.push(resolve)));
    }
  }

  onConnect(): void {
    this.#hear("connect");
  }
  onSecure(): void {}
  onData(chunk: Uint8Array): void {
    assertEquals(Object.getPrototypeOf(chunk), Uint8Array.prototype);
    this.#hear(new TextDecoder().decode(chunk));
  }
  onEnd(): void {
    this.#hear("end");
  }
  onWritable(): void {
    this.#hear("writable");
  }
  onClose(error?: EventError): void {
    this.error = error;
    this.#hear(error === undefined ? "close" : `close:${error.code}`);
  }
}

function over(stream: Duplex): { ear: Ear; transport: DuplexTransport } {
  const [ear, transport] = [
    new Ear(),
    new DuplexTransport({ peerName: "a stream" }),
  ];
  transport.adopt(stream);
  transport.attach(ear);
  return { ear, transport };
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("a transport over a socket of node:net", () => {
  let server: Server;
  let accepted: Promise<Socket>;
  let client: Socket;
  const opened: Socket[] = [];

  async function pair(): Promise<[Socket, Socket]> {
    accepted = new Promise((resolve) => server.once("connection", resolve));
    client = netConnect({
      port: (server.address() as { port: number }).port,
      host: "127.0.0.1",
    });
    await within("the connection", once(client, "connect"));
    const far = await within("the accepted connection", accepted);
    for (const socket of [client, far]) {
      opened.push(socket.on("error", () => {}));
    }
    return [client, far];
  }

  before(async () => {
    server = createServer({ allowHalfOpen: true });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  });
  after(() => {
    for (const socket of opened) socket.destroy();
    server.close();
  });

  it("carries bytes both ways, and each direction ends separately", async () => {
    const [near, far] = await pair();
    const { ear, transport } = over(near);
    assertEquals(transport.write(bytes("question")), 8);
    transport.shutdownWrite();
    let question = "";
    for await (const chunk of far.iterator({ destroyOnReturn: false })) {
      question += chunk;
    }
    far.end("answer");
    await ear.until("close");
    assertEquals([question, ear.heard, transport.write(bytes("late"))], [
      "question",
      ["answer", "end", "close"],
      0,
    ]);
  });

  it("accepts a bounded number of bytes, and reports once that there is space", async () => {
    const [near, far] = await pair();
    const { ear, transport } = over(near);
    let taken = 0;
    for (let n = 1; n > 0; taken += n) {
      n = transport.write(new Uint8Array(65_536));
    }
    assert(taken < 8 << 20, `${taken} bytes`);
    assertEquals(transport.write(bytes("x")), 0);
    let received = 0;
    far.on("data", (chunk: Uint8Array) => received += chunk.length);
    await ear.until("writable");
    transport.close();
    await ended(far);
    far.end();
    await ear.until("close");
    assertEquals([ear.heard, received], [["writable", "close"], taken]);
  });

  it("reports a reset by its code, after the data before it", async () => {
    const [near, far] = await pair();
    const { ear } = over(near);
    far.write("last words");
    await ear.until("last words");
    far.resetAndDestroy();
    await ear.until("close:ECONNRESET");
    assertEquals(ear.heard, ["last words", "close:ECONNRESET"]);
    assert(ear.error instanceof EventError);
    assertEquals(
      ear.error.message,
      "Cannot keep the connection with a stream: connection reset by the peer (ECONNRESET)",
    );
  });

  it("resets the peer", async () => {
    const [near, far] = await pair();
    const { ear, transport } = over(near);
    const reset = new Promise((resolve) => far.on("close", resolve));
    let code: string | undefined;
    far.on("error", (error: NodeJS.ErrnoException) => code = error.code);
    far.resume();
    transport.reset();
    assertEquals(ear.heard, []);
    await within("the reset", reset);
    await ear.until("close");
    assertEquals([code, ear.heard], ["ECONNRESET", ["close"]]);
  });
});

describe("a transport over a stream", () => {
  it("that emits its data inside write() causes no callback inside a method", async () => {
    const { ear, transport } = over(new PassThrough());
    ear.inside = true;
    transport.write(bytes("one"));
    transport.shutdownWrite();
    ear.inside = false;
    await ear.until("close");
    assertEquals(ear.heard, ["one", "end", "close"]);
  });

  it("with an encoding still delivers bytes", async () => {
    const stream = new PassThrough();
    stream.setEncoding("utf8");
    const { ear, transport } = over(stream);
    transport.write(bytes("grüße"));
    await ear.until("grüße");
    transport.reset();
    await ear.until("close");
  });

  it("of objects that are not bytes fails, and names the type", async () => {
    const stream = new Duplex({
      readableObjectMode: true,
      read() {},
      write: (_chunk, _encoding, done) => done(),
    });
    const { ear } = over(stream);
    stream.push({ not: "bytes" });
    await ear.until("close:EIO");
    assert(
      ear.error?.message.includes("not bytes: received a value of type object"),
      ear.error?.message,
    );
    assert(stream.destroyed);
  });

  it("that is or was destroyed without an error is a reset", async () => {
    for (const early of [true, false]) {
      const stream = new PassThrough();
      if (early) stream.destroy();
      const { ear } = over(stream);
      stream.destroy();
      await ear.until("close:ECONNRESET");
      assertEquals(ear.heard, ["close:ECONNRESET"]);
    }
  });

  it("that fails is reported with its code, once", async () => {
    for (
      const [code, expected] of [["ETIMEDOUT", "ETIMEDOUT"], [
        "ERR_STREAM_DESTROYED",
        "EPIPE",
      ], ["ERR_X", "EIO"]]
    ) {
      const stream = new PassThrough();
      const { ear } = over(stream);
      stream.destroy(Object.assign(new Error("it failed"), { code }));
      await ear.until(`close:${expected}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
      assertEquals(ear.heard, [`close:${expected}`]);
      assertEquals((ear.error?.cause as Error).message, "it failed");
    }
  });

  it("that ends itself by default when its peer has finished stays open for writing", async () => {
    const written: string[] = [];
    const stream = new Duplex({
      allowHalfOpen: false,
      read() {},
      write(chunk, _encoding, done) {
        written.push(String(chunk));
        done();
      },
    });
    const { ear, transport } = over(stream);
    stream.push(null);
    await ear.until("end");
    await new Promise((resolve) => setTimeout(resolve, 5));
    assertEquals(transport.write(bytes("answer")), 6);
    transport.close();
    await ear.until("close");
    assertEquals([written, ear.heard], [["answer"], ["end", "close"]]);
  });

  it("that emits no close ends when both directions have ended", async () => {
    const stream = new PassThrough({ emitClose: false, autoDestroy: false });
    const { ear, transport } = over(stream);
    transport.shutdownWrite();
    await ear.until("close");
    assertEquals(ear.heard, ["end", "close"]);
    assert(stream.destroyed);
  });

  it("keeps written memory separate from memory that it delivers", async () => {
    const given: Uint8Array[] = [];
    const transport = new DuplexTransport();
    transport.adopt(new PassThrough());
    transport.attach({
      onConnect() {},
      onSecure() {},
      onData: (chunk) => void given.push(chunk),
      onEnd() {},
      onWritable() {},
      onClose() {},
    });
    const own = bytes("mine");
    transport.write(own);
    while (given.length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    given[0]!.fill(0);
    assertEquals(new TextDecoder().decode(own), "mine");
    transport.reset();
  });
});
