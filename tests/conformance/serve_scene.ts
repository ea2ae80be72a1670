/**
 * Shared by the tests of the laws of `serve()` and `connect()`: a server that records its
 * callbacks, and plain clients.
 */

import { assert, assertEquals } from "./assert.ts";
import {
  type Address,
  EventError,
  serve,
  type ServeCallbacks,
  type ServeOptions,
  type Server,
  type Socket,
  type SocketBufferEvent,
  type TlsConnectOptions,
} from "../../core/mod.ts";
import { type PollScene, pollScene, receive, text } from "./poll_scene.ts";
import type { Certificates, FullSubject } from "./subject.ts";

/** One test. */
export interface ServeScene {
  readonly scene: PollScene;
  /** The errors that were reported to the runtime. */
  readonly reported: unknown[];
  readonly tls: Certificates | undefined;
  /** A server of this test, closed at its end. */
  serve<Ctx = unknown>(options: ServeOptions, callbacks: ServeCallbacks<Ctx>): Promise<Served>;
  sleep(ms: number): Promise<void>;
  until(condition: () => boolean, what: () => string): Promise<void>;
}

/** A server, and the arguments of its callbacks. */
export interface Served {
  readonly server: Server;
  readonly opened: SocketBufferEvent[];
  /** The code of the reason of each `close`, in order; undefined without a reason. */
  readonly closed: (string | undefined)[];
  readonly reasons: (EventError | undefined)[];
  readonly errors: [error: unknown, bev: unknown][];
  /** A plain client. */
  client(): Socket;
}

/** Runs the body of one test, and then checks that it has left nothing open. */
export function serveScene(subject: FullSubject, body: (scene: ServeScene) => Promise<void>): Promise<void> {
  return pollScene(subject, async (scene) => {
    const { runtime } = scene;
    const reported: unknown[] = [];
    // A property of the object itself hides the method of its class.
    Object.defineProperty(runtime, "report", {
      value: (error: unknown) => void reported.push(error),
      configurable: true,
    });
    const servers: Served[] = [];
    try {
      await body({
        scene,
        reported,
        tls: subject.tls,
        serve: async (options, callbacks) => {
          const served = await start(scene, options, callbacks as ServeCallbacks);
          servers.push(served);
          return served;
        },
        sleep: (ms) => scene.sleep(ms),
        until: (condition, what) => scene.until(condition, what),
      });
    } finally {
      delete (runtime as { report?: unknown }).report;
      for (const { server } of servers) await server.close({ graceMs: 0 });
    }
    for (const { server, opened, closed } of servers) {
      assertEquals(server.connections, 0);
      if (closed.length !== opened.length) throw new Error(`${opened.length} opened, ${closed.length} closed`);
    }
  });
}

async function start(scene: PollScene, options: ServeOptions, callbacks: ServeCallbacks): Promise<Served> {
  const opened: SocketBufferEvent[] = [];
  const closed: (string | undefined)[] = [];
  const reasons: (EventError | undefined)[] = [];
  const errors: [unknown, unknown][] = [];
  // A callback that the test does not give is missing for the server too.
  const noted: ServeCallbacks = {
    ...callbacks,
    open(bev) {
      opened.push(bev);
      assertAddresses(bev);
      return callbacks.open?.(bev);
    },
    close(bev, reason) {
      closed.push(reason?.code);
      reasons.push(reason);
      assertAddresses(bev);
      return callbacks.close?.(bev, reason);
    },
  };
  if (callbacks.error !== undefined) {
    noted.error = (error, bev) => {
      errors.push([error, bev]);
      return callbacks.error?.(error, bev);
    };
  }
  const server = await serve({ runtime: scene.runtime, hostname: "127.0.0.1", port: 0, ...options }, noted);
  const { port } = server;
  return {
    server,
    opened,
    closed,
    reasons,
    errors,
    client: () => scene.keep(scene.base.connect({ port })),
  };
}

/** A connection has its addresses in every callback. */
function assertAddresses(bev: SocketBufferEvent): void {
  const inet = (address: Address | undefined): boolean => address !== undefined && "port" in address;
  assert(inet(bev.remoteAddress) && inet(bev.localAddress), "a connection has addresses");
}

/** All bytes until the end, as text; or the code of the failure. */
export async function receiveText(socket: Socket, most = 1_000_000): Promise<string> {
  try {
    return text(await receive(socket, most));
  } catch (error) {
    if (error instanceof EventError) return (error as EventError).code;
    throw error;
  }
}

/** Whether a peer was reset, or ended if the runtime has no reset. A peer that was about to send may get EPIPE first. */
export function isCut(answer: string, canReset: boolean): boolean {
  return ["ECONNRESET", "EPIPE"].includes(answer) || (!canReset && answer === "");
}

/** Options of a client of a server with the certificates. */
export function trust({ ca }: Certificates): TlsConnectOptions {
  return { ca, serverName: "localhost" };
}
