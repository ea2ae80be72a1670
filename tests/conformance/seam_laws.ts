/**
 * The laws of the seam, numbered in core/runtime.ts, as tests for any runtime. If a capability is false, they test that the
 * runtime refuses the feature.
 */

import { describe } from "./suite.ts";
import { addressLaws } from "./address_laws.ts";
import { callbackLaws } from "./callback_laws.ts";
import { connectLaws } from "./connect_laws.ts";
import { endingLaws } from "./ending_laws.ts";
import { hostLaws } from "./host_laws.ts";
import { listenLaws } from "./listen_laws.ts";
import { resetLaws } from "./reset_laws.ts";
import type { Kind } from "./scene.ts";
import { startTlsLaws } from "./start_tls_laws.ts";
import { transferLaws } from "./transfer_laws.ts";
import { wordsLaws } from "./words_laws.ts";
import type { FullSubject } from "./subject.ts";

/**
 * Tests one runtime.
 *
 * @param name Its name in the report
 * @param makeSubject Gives the runtime, a new one for each test or always the same
 */
export function seamLaws(name: string, makeSubject: () => FullSubject): void {
  const { runtime, tls, missing } = makeSubject();
  const can = runtime.capabilities;
  const kinds: Kind[] = ["IPv4", "IPv6"];
  if (can.unix) kinds.push("unix");
  if (can.abstractUnix) kinds.push("abstract unix");
  const twoWays: Kind[] = kinds.filter((kind) => kind === "IPv4" || kind === "unix");
  // The laws hold over TLS too.
  if (can.tls && tls !== undefined) {
    kinds.push("TLS");
    twoWays.push("TLS");
  }
  describe(name, () => {
    for (const kind of kinds) {
      describe(kind, { skip: kind === "IPv6" && missing("::1") }, () => transferLaws(makeSubject, kind));
    }
    for (const kind of twoWays) {
      describe(kind, () => {
        endingLaws(makeSubject, kind);
        resetLaws(makeSubject, kind, can);
        callbackLaws(makeSubject, kind);
      });
    }
    describe("address", () => addressLaws(makeSubject, can));
    describe("connect", () => connectLaws(makeSubject, can));
    describe("startTls()", () => startTlsLaws(makeSubject));
    describe("listen", () => listenLaws(makeSubject, can, kinds));
    describe("runtime", () => hostLaws(makeSubject, can));
    describe("the messages of errors", () => wordsLaws(makeSubject, can));
  });
}
