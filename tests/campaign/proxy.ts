// A proxy between clients and a server: SOCKS5 with or without a password, and CONNECT of HTTP. It couples the two
// connections by pipe().

import {
  BEV_EVENT_CONNECTED,
  BEV_OPT_CLOSE_ON_FREE,
  EVBUFFER_EOL_CRLF,
  pipe,
  serve,
  type Server,
  SocketBufferEvent,
} from "../../core/mod.ts";
import type { SimHost } from "../../runtimes/sim.ts";
import type { Dice } from "../tools/dice.mjs";
import { codeOf, keyOf, part, show, type World } from "./world.ts";

const PORT = 1080;
const USER = "user:pass%20word";

/** How far a client is. */
interface Client {
  readonly http: boolean;
  step: "greeting" | "password" | "request" | "over";
}

type Bev = SocketBufferEvent<Client | null>;

/** One proxy. */
export class Proxy {
  readonly host: SimHost;
  readonly #world: World;
  readonly #name: string;
  readonly #dice: Dice;
  #server: { server: Server<Client | null>; life: number } | null = null;

  constructor(world: World, number: number, seed: number) {
    this.#world = world;
    this.#name = `x${number}`;
    this.#dice = part(seed, 11);
    this.host = world.host(this.#name);
    world.middle.add(this.host);
    this.#listen();
  }

  /** The option `via` of a client. */
  url(dice: Dice): string {
    return dice.pick([
      `http://${this.#name}:${PORT}`,
      `http://${USER}@${this.host.addresses[0]}:${PORT}`,
      `socks5://${this.#name}:${PORT}`,
      `socks5://${USER}@${this.#name}:${PORT}`,
    ]);
  }

  #listen(): void {
    const world = this.#world;
    const { host } = this;
    const life = world.life(host);
    const serving = serve<Client | null>({ base: world.base(host), hostname: "0.0.0.0", port: PORT }, {
      open: (bev) => void (bev.context = null),
      read: (bev) => this.#read(bev),
      error: (error) => {
        if (!["EMFILE", "ENOMEM"].includes(codeOf(error))) world.blame(`error() of a proxy: ${show(error)}`);
      },
    });
    world.task(host, "serve() of a proxy", serving, (server) => {
      if (world.life(host) !== life) return;
      this.#server = { server, life };
    }, (error) => {
      if (codeOf(error) !== "EMFILE") world.blame(`serve() rejected: ${show(error)}`);
    });
  }

  #read(bev: Bev): void {
    const { input } = bev;
    for (;;) {
      const first = input.peek(1)[0]?.[0];
      if (first === undefined) return;
      const client = bev.context ??= { http: first !== 5, step: first === 5 ? "greeting" : "request" };
      if (client.step === "over") return this.#world.blame(`${this.#name}: a read callback while it pipes`);
      if (!(client.http ? this.#readHttp(bev, client) : this.#readSocks(bev, client))) return;
    }
  }

  /** @returns Whether there may be more to read */
  #readHttp(bev: Bev, client: Client): boolean {
    const { input } = bev;
    if (input.search("\r\n\r\n").pos < 0) return false;
    const line = String.fromCharCode(...input.readln(EVBUFFER_EOL_CRLF) ?? []);
    let rest = "";
    for (let next = ""; (next = String.fromCharCode(...input.readln(EVBUFFER_EOL_CRLF) ?? [])) !== "";) {
      rest += `${next}\n`;
    }
    const [, host = "", port = ""] = /^CONNECT ([^ ]+):(\d+) HTTP\/1\.1$/.exec(line) ?? [];
    if (host === "" || !/^host:/im.test(rest)) this.#world.blame(`${this.#name}: ${line}`);
    this.#connect(bev, client, host, Number(port));
    return false;
  }

  /** @returns Whether there may be more to read */
  #readSocks(bev: Bev, client: Client): boolean {
    const { input } = bev;
    const bytes = new Uint8Array(Math.min(input.length, 600));
    input.copyout(bytes);
    const at = (i: number): number => bytes[i] ?? NaN;
    let length: number;
    if (client.step === "greeting") length = 2 + at(1);
    else if (client.step === "password") length = 2 + at(1) + 1 + at(2 + at(1));
    else length = 4 + (at(3) === 1 ? 4 : at(3) === 4 ? 16 : 1 + at(4)) + 2;
    if (!(bytes.length >= length)) return false;
    input.drain(length);
    if (client.step === "greeting") {
      const asks = bytes.subarray(2, length).includes(2) && this.#dice.below(2) === 0;
      client.step = asks ? "password" : "request";
      bev.write(Uint8Array.of(5, asks ? 2 : 0));
    } else if (client.step === "password") {
      const user = String.fromCharCode(...bytes.subarray(2, 2 + at(1)));
      const password = String.fromCharCode(...bytes.subarray(3 + at(1), length));
      if (`${user} ${password}` !== "user pass word") this.#world.blame(`${this.#name}: ${user} and ${password}`);
      client.step = "request";
      bev.write(Uint8Array.of(1, 0));
    } else {
      const name = at(3) === 3
        ? String.fromCharCode(...bytes.subarray(5, length - 2))
        : [...bytes.subarray(4, length - 2)].join(".");
      this.#connect(bev, client, name, at(length - 2) * 256 + at(length - 1));
      return false;
    }
    return true;
  }

  #connect(bev: Bev, client: Client, hostname: string, port: number): void {
    const world = this.#world;
    const outer = keyOf(bev.remoteAddress);
    client.step = "over";
    const upstream = new SocketBufferEvent(world.base(this.host), null, BEV_OPT_CLOSE_ON_FREE);
    const { signal } = bev;
    const gone = (): void => upstream.free();
    signal.addEventListener("abort", gone);
    upstream.setCallbacks({
      event: (_bev, what, error) => {
        signal.removeEventListener("abort", gone);
        if (signal.aborted) return upstream.free();
        if ((what & BEV_EVENT_CONNECTED) === 0) {
          world.note(`${this.#name}: ${hostname}:${port} ${error?.code}`);
          bev.write(client.http ? "HTTP/1.1 502 Bad Gateway\r\n\r\n" : Uint8Array.of(5, 5, 0, 1, 0, 0, 0, 0, 0, 0));
          upstream.free();
          world.task(this.host, `${this.#name} close()`, bev.close({ timeoutMs: 5000 }));
          return;
        }
        world.alias(keyOf(upstream.localAddress), outer);
        bev.write(client.http ? "HTTP/1.1 200 OK\r\nx: y\r\n\r\n" : Uint8Array.of(5, 0, 0, 1, 0, 0, 0, 0, 0, 0));
        world.task(this.host, `${this.#name} pipe of ${outer}`, pipe(bev, upstream), undefined, (reason) => {
          world.note(`${this.#name} pipe of ${outer} failed: ${codeOf(reason)}`);
        });
      },
    });
    upstream.connect({ hostname, port, timeoutMs: 3000 });
  }

  onRestart(host: SimHost): void {
    if (host !== this.host) return;
    this.#server = null;
    this.#listen();
  }

  stop(): void {
    if (this.#server === null || this.#world.life(this.host) !== this.#server.life) return;
    this.#world.task(this.host, "close of a proxy", this.#server.server.close({ graceMs: 30_000 }));
    this.#server = null;
  }
}
