/**
 * The conformance laws: they test any {@linkcode Runtime} that is given to them, with `node:test`, on Node, Deno and Bun.
 *
 * Write a test file such as the example and run it with `node --test`, `deno test --allow-all` or `bun test`. The laws ask
 * for capabilities: where the runtime declares that it cannot do something, they test that it refuses.
 * `docs/adapters.md` says how to write an adapter, law by law.
 *
 * @example A test file for a runtime of your own
 * ```ts ignore
 * import { conformance } from "trivent/conformance";
 * import { myRuntime } from "my-runtime";
 *
 * const runtime = myRuntime();
 * conformance("my runtime", () => ({ runtime }));
 * ```
 *
 * @module
 */

import { clockLaws } from "./clock_laws.ts";
import { datagramLaws } from "./datagram_laws.ts";
import { deadlineLaws } from "./deadline_laws.ts";
import { heartbeatLaws } from "./heartbeat_laws.ts";
import { keepAliveLaws } from "./keep_alive_laws.ts";
import { layerLaws } from "./layer_laws.ts";
import { limitLaws } from "./limit_laws.ts";
import { loopLaws } from "./loop_laws.ts";
import { memoryLaws } from "./memory_laws.ts";
import { pollLaws } from "./poll_laws.ts";
import { processLaws } from "./process_laws.ts";
import { proxyProtocolLaws } from "./proxy_protocol_laws.ts";
import { racingLaws } from "./racing_laws.ts";
import { reconnectLaws } from "./reconnect_laws.ts";
import { seamLaws } from "./seam_laws.ts";
import { serveLaws } from "./serve_laws.ts";
import { socketFileLaws } from "./socket_file_laws.ts";
import { streamLaws } from "./stream_laws.ts";
import { systemLaws } from "./system_laws.ts";
import { tlsChoiceLaws } from "./tls_choice_laws.ts";
import { tlsLaws } from "./tls_laws.ts";
import { tlsNamesLaws } from "./tls_names_laws.ts";
import { tlsResetLaws } from "./tls_reset_laws.ts";
import { viaLaws } from "./via_laws.ts";
import { waitingLaws } from "./waiting_laws.ts";
import { complete, type FullSubject, removeTemporary, type Subject } from "./subject.ts";
import { after, collect, describe, type Law } from "./suite.ts";

export type { Certificates, Deviation, Stranger, Subject } from "./subject.ts";
export type { Law } from "./suite.ts";

/** A group of laws. */
export type Suite =
  | "clock"
  | "seam"
  | "system"
  | "processes"
  | "loop"
  | "deadlines"
  | "polling"
  | "datagrams"
  | "memory"
  | "names"
  | "files"
  | "layers"
  | "serving"
  | "limits"
  | "waiting"
  | "links"
  | "proxies"
  | "streams"
  | "tls"
  | "certificates";

type Define = (name: string, makeSubject: () => FullSubject) => void;

const LAWS: Readonly<Record<Suite, Define>> = {
  clock: (name, makeSubject) => describe(`${name}: clock`, () => clockLaws(makeSubject)),
  seam: seamLaws,
  system: systemLaws,
  processes: processLaws,
  loop: loopLaws,
  deadlines: deadlineLaws,
  polling: pollLaws,
  datagrams: datagramLaws,
  memory: memoryLaws,
  names: racingLaws,
  files: socketFileLaws,
  layers: layerLaws,
  serving: serveLaws,
  limits: limitLaws,
  waiting: waitingLaws,
  links: (name, makeSubject) => {
    keepAliveLaws(name, makeSubject);
    heartbeatLaws(name, makeSubject);
    reconnectLaws(name, makeSubject);
  },
  proxies: (name, makeSubject) => {
    proxyProtocolLaws(name, makeSubject);
    viaLaws(name, makeSubject);
  },
  streams: streamLaws,
  tls: (name, makeSubject) => {
    tlsLaws(name, makeSubject);
    tlsNamesLaws(name, makeSubject);
    tlsResetLaws(name, makeSubject);
  },
  certificates: tlsChoiceLaws,
};

/**
 * The groups of laws, the most basic first: `clock`, `seam`, `system` and `processes` test the runtime itself. The others test
 * it under the library.
 */
export const SUITES: readonly Suite[] = Object.keys(LAWS) as Suite[];

/**
 * Defines the laws as tests of `node:test`.
 *
 * @param name The name of the runtime in the report
 * @param makeSubject Gives the runtime and what it needs. It is called for each test; it may give the same one each time
 * @param suites Which groups of laws. All by default
 */
export function conformance(name: string, makeSubject: () => Subject, suites: readonly Suite[] = SUITES): void {
  define(name, makeSubject, suites);
  after(removeTemporary);
}

/**
 * Gives the laws as a list, for another test runner than `node:test`. Run them one after the other, in their order.
 *
 * @param name The name of the runtime in the report
 * @param makeSubject Gives the runtime and what it needs, as for {@linkcode conformance}
 * @param suites Which groups of laws. All by default
 * @returns The laws
 */
export function laws(name: string, makeSubject: () => Subject, suites: readonly Suite[] = SUITES): readonly Law[] {
  return collect(() => define(name, makeSubject, suites));
}

function define(name: string, makeSubject: () => Subject, suites: readonly Suite[]): void {
  for (const suite of suites) LAWS[suite](name, () => complete(makeSubject()));
}
