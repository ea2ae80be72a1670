/** Law 16: TLS with peers that we did not write. */

import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "./suite.ts";
import { assert, assertArrayIncludes, assertEquals, assertRejects, assertThrows } from "./assert.ts";
import {
  BEV_OPT_CLOSE_ON_FREE,
  type ConnectOptions,
  ConnListener,
  EV_READ,
  EV_WRITE,
  EVBUFFER_EOL_CRLF,
  EVBUFFER_EOL_LF,
  type EventBase,
  EventError,
  EVLOOP_NO_EXIT_ON_EMPTY,
  type InetAddress,
  LEV_OPT_CLOSE_ON_FREE,
  type ListenerCallback,
  type Server,
  SocketBufferEvent,
  type StartTlsOptions,
  type TlsInfo,
  type TlsListenOptions,
} from "../../core/mod.ts";
import { makeCertificates } from "./certificates.ts";
import { End, noTls, opensslServer, plainClient, plainServer, Program, until } from "./tls_peers.ts";
import { on } from "./on.ts";
import { type FullSubject, temporaryFolder } from "./subject.ts";

/** Tests one runtime. */
export function tlsLaws(name: string, makeSubject: () => FullSubject): void {
  const { runtime: host, missing, ownNetwork } = makeSubject();
  const { serve, newBase } = on(host);
  const skip = ownNetwork ? "openssl cannot reach it" : noTls(host) || missing("openssl");
  const directory = skip === false ? temporaryFolder("tls") : "";
  const file = (name: string): string => join(directory, name);

  const made = skip !== false ? undefined : makeCertificates(directory);
  const { ca, cert, key } = made ?? { ca: "", cert: "", key: "" };
  const tls: TlsListenOptions = { cert, key };
  /** The certificate in DER, according to openssl. */
  const der = (name: string): string => {
    execFileSync("openssl", ["x509", "-in", file(`${name}.pem`), "-outform", "der", "-out", file(`${name}.der`)]);
    return readFileSync(file(`${name}.der`)).toString("hex");
  };
  const hex = (bytes: Uint8Array | undefined): string | undefined =>
    bytes === undefined ? undefined : [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");

  /**
   * A listener whose bufferevents answer in capitals, and an end for each of them in turn. As in
   * libevent, they exist before their handshake.
   */
  async function capitals(
    options: Partial<TlsListenOptions> = {},
  ): Promise<{ server: { close(): Promise<void> }; port: number; ends: End[] }> {
    const ends: End[] = [];
    const all: SocketBufferEvent<End>[] = [];
    const base = newBase();
    const take: ListenerCallback = (_listener, socket) => {
      const bev = new SocketBufferEvent<End>(base, socket, BEV_OPT_CLOSE_ON_FREE);
      bev.context = new End();
      ends.push(bev.context);
      all.push(bev);
      bev.setCallbacks({
        read: (bev) => {
          bev.write(bev.input.toString().toUpperCase());
          bev.context.callbacks.read?.(bev as SocketBufferEvent);
        },
        event: (bev, what, error) => {
          bev.context.callbacks.event?.(bev as SocketBufferEvent, what, error);
          if (error !== undefined) bev.free();
          else if (bev.context.events.includes("eof")) void bev.close();
        },
      });
      bev.enable(EV_READ | EV_WRITE);
      // Written before the end of the handshake, and sent after it.
      bev.write("welcome\n");
    };
    const address = { hostname: "127.0.0.1", port: 0, tls: { ...tls, ...options } };
    const listener = await ConnListener.bind(base, take, LEV_OPT_CLOSE_ON_FREE, -1, address);
    const done = base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    const close = async (): Promise<void> => {
      await Promise.all(all.map((bev) => bev.close()));
      await listener.close();
      base.loopBreak();
      await done;
      base.free();
    };
    return { server: { close }, port: (listener.address as InetAddress).port, ends };
  }

  const sClient = (port: number, ...args: string[]): Program =>
    new Program("openssl", ["s_client", "-connect", `127.0.0.1:${port}`, "-quiet", "-no_ign_eof", ...args]);

  /** A base that dispatches while a function runs. */
  async function onBase(body: (base: EventBase) => Promise<void>): Promise<void> {
    const base = newBase();
    const done = base.loop(EVLOOP_NO_EXIT_ON_EMPTY);
    try {
      await body(base);
    } finally {
      base.loopBreak();
      await done;
      base.free();
    }
  }

  /** Connects, and returns the bufferevent with a record of its events. */
  function client(base: EventBase, options: ConnectOptions): { bev: SocketBufferEvent; end: End } {
    const end = new End();
    const bev = new SocketBufferEvent(base, null, BEV_OPT_CLOSE_ON_FREE);
    bev.setCallbacks(end.callbacks);
    bev.enable(EV_READ | EV_WRITE);
    bev.connect({ hostname: "127.0.0.1", ...options });
    return { bev, end };
  }

  async function assertNothingOpen(): Promise<void> {
    await until(() => host.openHandles === 0, () => `${host.openHandles} handles are open`);
  }

  describe(`a TLS server on ${name}`, { skip }, () => {
    it("serves openssl, which verifies it, and reports the connection after the handshake", async () => {
      const { server, port, ends } = await capitals({ alpnProtocols: ["shout/2", "shout/1"] });
      const peer = sClient(port, "-CAfile", file("test-ca.pem"), "-verify_return_error", "-alpn", "shout/1", "-msg");
      peer.write("hello\n");
      await peer.prints("HELLO");
      assert(peer.output.includes("welcome"), peer.output);
      assertEquals(ends[0]?.events, ["connected"]);
      assertEquals(ends[0]?.bev?.tls, {
        protocol: "TLSv1.3",
        alpnProtocol: "shout/1",
        peerCertificate: undefined,
        authorized: false,
      });
      assertEquals(ends[0]?.bev?.socket?.tls?.protocol, "TLSv1.3");
      const closed = ends[0]!.bev!.close();
      await peer.prints("close_notify");
      await peer.over();
      assertEquals(await closed, true);
      await server.close();
      await assertNothingOpen();
    });

    it("delivers with close() to a client that has finished long ago", async () => {
      const end = new End();
      const server = await serve({ hostname: "127.0.0.1", port: 0, tls }, {
        open: (bev) => void bev.write("welcome\n"),
        event: (bev, what, error) => end.callbacks.event?.(bev, what, error),
      });
      const peer = sClient((server.address as InetAddress).port, "-CAfile", file("test-ca.pem"));
      await peer.prints("welcome");
      peer.end();
      await peer.over();
      await end.heard("eof");
      assertEquals(await end.bev?.close(), true);
      await server.close();
      await assertNothingOpen();
    });

    it("supports TLS 1.2 too", async () => {
      const { server, port, ends } = await capitals();
      const peer = sClient(port, "-CAfile", file("test-ca.pem"), "-verify_return_error", "-tls1_2");
      peer.write("hello\n");
      await peer.prints("HELLO");
      assertEquals(ends[0]?.bev?.tls?.protocol, "TLSv1.2");
      peer.end();
      await ends[0]!.heard("eof");
      assertEquals(ends[0]?.events, ["connected", "eof"]);
      await peer.over();
      await server.close();
      await assertNothingOpen();
    });

    it("serves curl", async () => {
      const server = await serve({ hostname: "127.0.0.1", port: 0, tls: { ...tls, alpnProtocols: ["http/1.1"] } }, {
        read: (bev) => {
          if (!bev.input.toString().includes("\r\n\r\n")) return;
          const body = "x".repeat(300_000);
          bev.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`);
          void bev.close();
        },
      });
      const { port } = server.address as InetAddress;
      const curl = new Program("curl", ["-sS", "--cacert", file("test-ca.pem"), `https://localhost:${port}/`]);
      assertEquals(await curl.over(), 0, curl.output.slice(0, 500));
      assertEquals(curl.output.length, 300_000);
      await server.close();
      await assertNothingOpen();
    });

    it("requests a certificate, and reports its subject", async () => {
      const { server, port, ends } = await capitals({ requestCert: true, ca });
      const [certificate, itsKey] = ["-cert", "-key"].map((flag, i) => [flag, file(i === 0 ? "test.pem" : "test.key")]);
      for (let i = 0; i < 2; i++) {
        const peer = sClient(port, ...certificate!, ...itsKey!);
        peer.write("hello\n");
        await peer.prints("HELLO");
        assertEquals(ends[i]?.bev?.tls?.authorized, true);
        assertEquals(hex(ends[i]?.bev?.tls?.peerCertificate), der("test"));
        peer.end();
        await peer.over();
      }
      await server.close();
      await assertNothingOpen();
    });

    it("refuses a client without a certificate, or with one of another authority, with ERR_TLS_CERT", async () => {
      makeCertificates(directory, "other");
      const { server, port, ends } = await capitals({ requestCert: true, ca });
      const peers = [sClient(port), sClient(port, "-cert", file("other.pem"), "-key", file("other.key"))];
      for (const peer of peers) await peer.over();
      for (const end of ends) {
        await end.heard("ERR_TLS_CERT");
        assertEquals(end.events, ["ERR_TLS_CERT"]);
        assertEquals(end.bev?.tls, undefined);
      }
      assertEquals(ends.length, 2);
      await server.close();
      await assertNothingOpen();
    });

    it("accepts such a client with rejectUnauthorized false, and reports it", async () => {
      makeCertificates(directory, "other");
      const { server, port, ends } = await capitals({ requestCert: true, ca, rejectUnauthorized: false });
      const peers = [sClient(port), sClient(port, "-cert", file("other.pem"), "-key", file("other.key"))];
      for (const peer of peers) {
        peer.write("hello\n");
        await peer.prints("HELLO");
      }
      assertEquals(ends.map(({ bev }) => bev?.tls?.authorized), [false, false]);
      assertEquals(ends.map(({ bev }) => hex(bev?.tls?.peerCertificate)).sort(), [der("other"), undefined].sort());
      for (const peer of peers) {
        peer.end();
        await peer.over();
      }
      await server.close();
      await assertNothingOpen();
    });

    it("limits the time of a client's handshake, and does not delay others", async () => {
      const { server, port, ends } = await capitals({ handshakeTimeoutMs: 3000 });
      const silent = [await plainClient(port), await plainClient(port)];
      const peer = sClient(port);
      peer.write("hello\n");
      await peer.prints("HELLO");
      await until(() => ends.length === 3, () => `${ends.length} connections`);
      for (const end of ends.slice(0, 2)) await end.heard("ETIMEDOUT");
      assertEquals(ends[2]?.events, ["connected"]);
      for (const socket of silent) socket.destroy();
      peer.end();
      await peer.over();
      await server.close();
      await assertNothingOpen();
    });

    it("reports ERR_TLS_HANDSHAKE for a client without TLS, or one that leaves in the middle", async () => {
      const { server, port, ends } = await capitals();
      const talker = await plainClient(port);
      talker.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
      const silent = await plainClient(port);
      silent.end();
      const rude = await plainClient(port);
      rude.write(new Uint8Array([22, 3, 1, 1, 0, 1]));
      await until(() => ends.length === 3, () => `${ends.length} connections`);
      rude.resetAndDestroy();
      for (const end of ends) await end.heard("ERR_TLS_HANDSHAKE");
      assertEquals(ends.map(({ events }) => events), ends.map(() => ["ERR_TLS_HANDSHAKE"]));
      for (const { error } of ends) {
        assert(error?.cause !== undefined && error.message.startsWith("Cannot "), error?.message);
      }
      for (const socket of [talker, silent]) socket.destroy();
      const peer = sClient(port);
      peer.write("hello\n");
      await peer.prints("HELLO");
      await peer.kill();
      await server.close();
      await assertNothingOpen();
    });

    it("fails to listen with ERR_TLS_OPTIONS if the certificate is not valid, and leaves nothing open", async () => {
      makeCertificates(directory, "other");
      const wrong: TlsListenOptions[] = [
        { cert: "nothing", key },
        { cert, key: "nothing" },
        { cert, key: readFileSync(file("other.key")) },
      ];
      for (const options of wrong) {
        const error = await assertRejects(
          () => serve({ hostname: "127.0.0.1", port: 0, tls: options }, {}),
          EventError,
        ) as EventError;
        assertEquals(error.code, "ERR_TLS_OPTIONS", error.message);
      }
      await assertRejects(() => serve({ port: 0, tls: { cert } as TlsListenOptions }, {}), TypeError);
      await assertRejects(() => serve({ port: 0, tls: { ...tls, handshakeTimeoutMs: 0 } }, {}), RangeError);
      await assertRejects(() => serve({ port: 0, tls: { ...tls, alpnProtocols: [""] } }, {}), RangeError);
      await assertNothingOpen();
    });

    it("accepts certificates as bytes, and serves on a unix socket", {
      skip: !host.capabilities.unix && "capabilities.unix is false",
    }, async () => {
      const path = file("socket");
      const ends: End[] = [];
      const server = await serve({
        path,
        tls: { cert: readFileSync(file("test.pem")), key: readFileSync(file("test.key")) },
      }, {
        read: (bev) => bev.writeBuffer(bev.input),
        open: (bev) => {
          ends.push(new End());
          void bev;
        },
      });
      const peer = new Program("openssl", ["s_client", "-unix", path, "-quiet", "-no_ign_eof"]);
      peer.write("hello\n");
      await until(() => peer.output.includes("hello\n"), () => peer.output);
      peer.end();
      await peer.over();
      assertEquals(ends.length, 1);
      await server.close();
      await assertNothingOpen();
    });
  });

  describe(`a TLS client on ${name}`, { skip }, () => {
    it("talks to openssl, whose certificate it verifies by name and by address", () =>
      onBase(async (base) => {
        const { program, port } = await opensslServer([
          ...["-cert", file("test.pem"), "-key", file("test.key"), "-rev", "-alpn", "twist"],
        ]);
        for (const [hostname, serverName] of [["localhost"], ["127.0.0.1"], [undefined, "localhost"]]) {
          const { bev, end } = client(base, {
            hostname,
            port,
            tls: { ca: [ca], alpnProtocols: ["twist"], serverName },
          });
          bev.write("desserts\n");
          await end.said("stressed");
          assertEquals(end.events, ["connected"]);
          const { peerCertificate, ...rest } = bev.tls as TlsInfo;
          assertEquals(rest, { protocol: "TLSv1.3", alpnProtocol: "twist", authorized: true });
          assertEquals(hex(peerCertificate), der("test"));
          assertEquals(await bev.close(), true);
        }
        await program.kill();
        await assertNothingOpen();
      }));

    it("refuses with ERR_TLS_CERT an unknown authority, another name, and a certificate that has expired", () =>
      onBase(async (base) => {
        makeCertificates(directory, "expired", -1);
        const good = await opensslServer(["-cert", file("test.pem"), "-key", file("test.key"), "-rev"]);
        const bad = await opensslServer(["-cert", file("expired.pem"), "-key", file("expired.key"), "-rev"]);
        const cases: [number, StartTlsOptions][] = [
          [good.port, { serverName: "localhost" }],
          [good.port, { ca, serverName: "example.org" }],
          [good.port, { ca, serverName: "127.0.0.2" }],
          [bad.port, { ca: readFileSync(file("expired-ca.pem")), serverName: "localhost" }],
        ];
        // The variable that switches this off for a whole process has no effect.
        process.env.NODE_TLS_REJECT_UNAUTHORIZED = "0";
        for (const [port, tls] of cases) {
          const { bev, end } = client(base, { port, tls });
          await end.heard("ERR_TLS_CERT");
          assertEquals(end.events, ["ERR_TLS_CERT"]);
          assert(end.error?.cause !== undefined);
          assertEquals(bev.tls, undefined);
          bev.free();
        }
        delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
        for (const [port, tls] of cases) {
          const { bev, end } = client(base, { port, tls: { ...tls, rejectUnauthorized: false } });
          bev.write("desserts\n");
          await end.said("stressed");
          assertEquals(bev.tls?.authorized, false);
          await bev.close();
        }
        await good.program.kill();
        await bad.program.kill();
        await assertNothingOpen();
      }));

    it("presents its own certificate", () =>
      onBase(async (base) => {
        const { program, port } = await opensslServer([
          ...["-cert", file("test.pem"), "-key", file("test.key"), "-CAfile", file("test-ca.pem")],
          ...["-Verify", "1", "-verify_return_error", "-rev"],
        ]);
        const { bev, end } = client(base, { port, tls: { ca, cert, key } });
        bev.write("desserts\n");
        await end.said("stressed");
        await bev.close();
        // Without a certificate, a TLS 1.3 client has finished before the server checks: it gets
        // the error later.
        const other = client(base, { port, tls: { ca } });
        await until(() => other.end.events.some((event) => event !== "connected"), () => String(other.end.events));
        assertArrayIncludes(["ERR_TLS_PROTOCOL", "ERR_TLS_HANDSHAKE", "ECONNRESET", "eof"], [other.end.events.at(-1)]);
        other.bev.free();
        await program.kill();
        await assertNothingOpen();
      }));

    it("reports ERR_TLS_HANDSHAKE for a server without TLS or one that leaves, and ETIMEDOUT for a silent one", () =>
      onBase(async (base) => {
        const answers: Record<string, (socket: { write(text: string): unknown; end(): unknown }) => void> = {
          ERR_TLS_HANDSHAKE: (socket) => void socket.write("220 mail.example.org ESMTP\r\n"),
          ETIMEDOUT: () => {},
        };
        for (
          const [code, answer] of [...Object.entries(answers), ["ERR_TLS_HANDSHAKE", (s: { end(): void }) => s.end()]]
        ) {
          const server = await plainServer(answer as (typeof answers)[string]);
          // Short only if the time should pass: a busy machine may not run us for a second.
          const handshakeTimeoutMs = code === "ETIMEDOUT" ? 300 : 20_000;
          const { bev, end } = client(base, { port: server.port, tls: { ca, handshakeTimeoutMs } });
          await end.heard(code as string);
          assertEquals(end.events, [code as string]);
          bev.free();
          await server.close();
        }
        await assertNothingOpen();
      }));

    it("can be cancelled during the handshake, by close(), free() and a signal", () =>
      onBase(async (base) => {
        const server = await plainServer(() => {});
        const cases: ((bev: SocketBufferEvent, cancel: AbortController) => unknown)[] = [
          (bev) => bev.close(),
          (bev) => bev.free(),
          (_, cancel) => cancel.abort(),
        ];
        for (const give of cases) {
          const cancel = new AbortController();
          const { bev, end } = client(base, { port: server.port, tls: { ca }, signal: cancel.signal });
          await new Promise((resolve) => setTimeout(resolve, 50));
          await give(bev, cancel);
          await until(() => host.openHandles === 0, () => `${host.openHandles} handles`);
          if (cancel.signal.aborted) await end.heard("ECANCELED");
          bev.free();
        }
        await server.close();
      }));

    it("reports ERR_TLS_OPTIONS for a certificate or an authority that is not valid", () =>
      onBase(async (base) => {
        const { program, port } = await opensslServer(["-cert", file("test.pem"), "-key", file("test.key"), "-rev"]);
        const wrong: StartTlsOptions[] = [
          { ca, cert: "nothing", key: "nothing" },
          { ca: "nothing" },
          { ca: "" },
          { ca: [ca, "-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n"] },
        ];
        for (const tls of wrong) {
          const { bev, end } = client(base, { port, tls });
          await end.heard("ERR_TLS_OPTIONS");
          assertEquals(end.error?.message.match(/Cannot/g)?.length, 1, end.error?.message);
          bev.free();
        }
        assertThrows(() => client(base, { port, tls: { ca, cert } }), TypeError);
        await program.kill();
        await assertNothingOpen();
      }));

    it("distinguishes a truncated stream from an ended one, if it can", () =>
      onBase(async (base) => {
        const { program, port } = await opensslServer(["-cert", file("test.pem"), "-key", file("test.key"), "-rev"]);
        let cut = (): void => {};
        const proxy = await plainServer((socket) => {
          void plainClient(port).then((behind) => {
            socket.pipe(behind);
            behind.on("data", (chunk) => void socket.write(chunk));
            cut = (): void => void socket.end();
          });
        });
        for (
          const [to, end, heard] of [
            [proxy.port, (): void => cut(), host.capabilities.tlsTruncation ? "ERR_TLS_TRUNCATED" : "eof"],
            // The command that makes openssl close the connection.
            [port, (bev: SocketBufferEvent) => void bev.write("CLOSE\n"), "eof"],
          ] as const
        ) {
          const one = client(base, { port: to, tls: { ca } });
          one.bev.write("desserts\n");
          await one.end.said("stressed");
          end(one.bev);
          await one.end.heard(heard);
          assertEquals(one.end.events, ["connected", heard]);
          one.bev.free();
        }
        await proxy.close();
        await program.kill();
        await assertNothingOpen();
      }));
  });

  describe(`startTls() on ${name}`, { skip }, () => {
    /** The part of a mail server that `openssl s_client -starttls smtp` needs. */
    async function mail(ends: End[], startTls: (bev: SocketBufferEvent) => void): Promise<Server> {
      return await serve<End>({ hostname: "127.0.0.1", port: 0 }, {
        open: (bev) => {
          bev.context = new End();
          ends.push(bev.context);
          bev.write("220 localhost\r\n");
        },
        read: (bev) => {
          const line = bev.input.readln(EVBUFFER_EOL_CRLF);
          if (line === null) return;
          const text = new TextDecoder().decode(line);
          bev.context.text += `${text}\n`;
          if (/^EHLO/.test(text)) bev.write("250-localhost\r\n250 STARTTLS\r\n");
          else if (text === "STARTTLS") {
            bev.write("220 go ahead\r\n");
            startTls(bev as SocketBufferEvent);
          } else bev.write(`you said ${text}\r\n`);
        },
        event: (bev, what, error) => {
          bev.context.callbacks.event?.(bev as SocketBufferEvent, what, error);
          if (error !== undefined || bev.context.events.includes("eof")) bev.free();
        },
      });
    }

    it("serves openssl s_client -starttls", {
      skip: !host.capabilities.startTlsServer && "capabilities.startTlsServer is false",
    }, async () => {
      const ends: End[] = [];
      const server = await mail(ends, (bev) => bev.startTls(tls));
      const { port } = server.address as InetAddress;
      const peer = sClient(port, "-starttls", "smtp", "-CAfile", file("test-ca.pem"), "-verify_return_error");
      peer.write("NOOP\n");
      await peer.prints("you said NOOP");
      assertEquals(ends[0]?.events, ["connected"]);
      assertEquals(ends[0]?.bev?.tls?.protocol, "TLSv1.3");
      peer.end();
      await peer.over();
      await server.close();
      await assertNothingOpen();
    });

    it(
      "changes a client's connection, before an openssl server",
      { skip: !host.capabilities.startTlsClient && "capabilities.startTlsClient is false" },
      () =>
        onBase(async (base) => {
          const { program, port } = await opensslServer(["-cert", file("test.pem"), "-key", file("test.key"), "-rev"]);
          // A proxy speaks the part without TLS.
          const proxy = await plainServer((socket) => {
            socket.once("data", (chunk) => {
              if (String(chunk) !== "STARTTLS\n") return void socket.destroy();
              void plainClient(port).then((behind) => {
                socket.write("GO\n");
                socket.pipe(behind).pipe(socket);
              });
            });
          });
          const end = new End();
          const { bev } = client(base, { port: proxy.port });
          bev.setCallbacks({
            read: (bev) => {
              if (end.text !== "") return end.callbacks.read?.(bev as SocketBufferEvent);
              const line = bev.input.readln(EVBUFFER_EOL_LF);
              if (line === null) return;
              end.text = "GO ";
              (bev as SocketBufferEvent).startTls({ ca, serverName: "localhost" });
              bev.write("desserts\n");
            },
            event: (bev, what, error) => {
              if (end.text !== "") end.callbacks.event?.(bev as SocketBufferEvent, what, error);
            },
          });
          bev.write("STARTTLS\n");
          await end.said("stressed");
          assertEquals(end.events, ["connected"]);
          assertEquals(hex(bev.tls?.peerCertificate), der("test"));
          assertThrows(() => bev.startTls({ ca }), EventError);
          await bev.close();
          await proxy.close();
          await program.kill();
          await assertNothingOpen();
        }),
    );

    it("refuses while bytes that arrived without TLS have not been read", async () => {
      const ends: End[] = [];
      const refusals: string[] = [];
      const server = await mail(ends, (bev) => {
        const error = assertThrows(() => bev.startTls(tls), EventError) as EventError;
        refusals.push(error.code);
        bev.free();
      });
      const evil = await plainClient((server.address as InetAddress).port);
      evil.write("STARTTLS\r\nMAIL FROM:<somebody@example.org>\r\n");
      await until(() => refusals.length > 0, () => "no refusal");
      assertEquals(refusals, ["ERR_TLS_PLAINTEXT"]);
      assertEquals(ends[0]?.text, "STARTTLS\n");
      evil.destroy();
      await server.close();
      await assertNothingOpen();
    });

    it("treats bytes without TLS after the call as a failed handshake", async () => {
      const ends: End[] = [];
      const server = await mail(ends, (bev) => bev.startTls(tls));
      const evil = await plainClient((server.address as InetAddress).port);
      evil.write("STARTTLS\r\n");
      await until(() => ends[0]?.text === "STARTTLS\n", () => "no STARTTLS");
      evil.write("MAIL FROM:<somebody@example.org>\r\n");
      await ends[0]!.heard("ERR_TLS_HANDSHAKE");
      assertEquals(ends[0]?.text, "STARTTLS\n");
      evil.destroy();
      await server.close();
      await assertNothingOpen();
    });

    it("carries megabytes each way after the change, and ends cleanly", () =>
      onBase(async (base) => {
        const total = 4 << 20;
        const counts = [0, 0];
        let connected = 0;
        const both = (i: number) => ({
          read: (bev: { input: { length: number; drain(n: number): void } }): void => {
            counts[i]! += bev.input.length;
            bev.input.drain(bev.input.length);
          },
          event: (_: unknown, what: number, error?: EventError): void => {
            if (error !== undefined) counts[i] = NaN;
            else if ((what & 0x80) !== 0) connected++;
          },
        });
        const servers: SocketBufferEvent[] = [];
        const server = await serve({ base, hostname: "127.0.0.1", port: 0 }, {
          ...both(0),
          open: (bev) => {
            servers.push(bev as SocketBufferEvent);
          },
        });
        const { bev } = client(base, { port: (server.address as InetAddress).port });
        bev.setCallbacks(both(1));
        await until(() => servers.length === 1, () => "no connection");
        servers[0]!.startTls(tls);
        bev.startTls({ ca, serverName: "localhost" });
        const chunk = new Uint8Array(total).fill(7);
        bev.write(chunk);
        servers[0]!.write(chunk);
        await until(() => counts[0] === total && counts[1] === total, () => String(counts));
        assert(connected >= 2);
        const closed = await Promise.all([bev.close(), servers[0]!.close()]);
        assertEquals(closed, [true, true]);
        await server.close();
        await assertNothingOpen();
      }));
  });
}
