/** The steps before a client becomes a connection of a server: its PROXY header, the limits, its TLS. */

import { EvBuffer } from "../buffer/evbuffer.ts";
import { loopOf } from "../api/event_base.ts";
import type { Address } from "../runtime.ts";
import type { Connection } from "../socket/connection.ts";
import { Handshake } from "../socket/handshake.ts";
import type { TlsListenOptions } from "../tls.ts";
import { addressKey } from "./admission.ts";
import { type Look, lookForHeader, lookForName, Preface, type Verdict } from "./preface.ts";
import type { ProxyPolicy } from "./proxy_policy.ts";
import type { ServerCore } from "./server_core.ts";

/** The address by which the connections of a client are counted; null for none. */
export function keyOf(connection: Connection): string | null {
  const { remote } = connection;
  return remote === undefined ? null : addressKey(remote);
}

/** Admits the clients of a server. */
export class Reception {
  private readonly server: ServerCore;
  private readonly policy: ProxyPolicy | null;
  private readonly open: (connection: Connection) => void;
  private readonly lookForHeader: Look | null;
  private readonly lookForName: Look;

  /**
   * @param server The server
   * @param policy The rules for PROXY headers; null for none
   * @param open Opens a connection, which may be in its handshake
   * @param failed Gets an error of the program's choice of a certificate
   */
  constructor(
    server: ServerCore,
    policy: ProxyPolicy | null,
    open: (connection: Connection) => void,
    failed: (error: unknown) => void,
  ) {
    this.server = server;
    this.policy = policy;
    this.open = open;
    this.lookForHeader = policy === null ? null : lookForHeader(policy);
    this.lookForName = lookForName((connection, name) => {
      const options = server.tls?.choose(name);
      if (options !== undefined) secure(connection, options);
    }, failed);
  }

  /** A client has connected. */
  receive(connection: Connection, from: Address): void {
    const { admission } = this.server;
    if (!admission.hasRoom(connection, from)) return;
    if (this.policy === null || this.lookForHeader === null) {
      if (admission.admits(connection, from)) {
        admission.entered();
        this.secure(connection, from);
      }
      return;
    }
    admission.entered();
    this.await(connection, from, null, this.policy.timeoutMs, this.lookForHeader, (verdict) => {
      const address = connection.remote ?? from;
      if (verdict === "served" && admission.admits(connection, address)) return this.secure(connection, address);
      if (verdict === "refused") admission.refuse(connection, from, "proxyProtocol");
      else connection.close();
      admission.left(null);
    });
  }

  /** A client is admitted: begins TLS, if the server has it. */
  private secure(connection: Connection, address: Address): void {
    const { admission, tls } = this.server;
    const key = addressKey(address);
    admission.known(key);
    if (tls === null) return this.open(connection);
    if (!tls.needsName) {
      secure(connection, tls.choose(null));
      return this.open(connection);
    }
    this.await(connection, address, key, tls.timeoutMs, this.lookForName, (verdict) => {
      if (verdict === "served") return this.open(connection);
      this.server.figures.failHandshake();
      connection.reset();
      admission.left(key);
    });
  }

  private await(
    connection: Connection,
    from: Address,
    key: string | null,
    timeoutMs: number,
    look: Look,
    settled: (verdict: Verdict) => void,
  ): void {
    const { listener, prefaces } = this.server;
    const preface: Preface = new Preface(loopOf(listener.base), connection, from, timeoutMs, look, (verdict) => {
      prefaces.delete(preface);
      settled(verdict);
    });
    prefaces.set(preface, key);
  }
}

/** Begins the handshake. Bytes that were received belong to it, since the client sends first. */
function secure(connection: Connection, options: TlsListenOptions): void {
  const { startTlsUnread } = connection.runtime.capabilities;
  connection.startTls(new Handshake(connection, "server", options, startTlsUnread), new EvBuffer());
}
