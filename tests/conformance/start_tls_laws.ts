/** Law 16: a connection changes to TLS, also with bytes of the handshake that were read before. */

import { assertEquals } from "./assert.ts";
import { assertSameBytes, type Hooks, noise, type Pair, type Scene, scene } from "./scene.ts";
import type { FullSubject } from "./subject.ts";
import { it } from "./suite.ts";

/** Both ends use TLS: bytes go both ways, and each direction ends separately. */
async function assertSecure({ client, server }: Pair): Promise<void> {
  await Promise.all([client.secure, server.secure]);
  assertEquals([typeof client.binding!.tls?.protocol, client.binding!.tls?.authorized], ["string", true]);
  const [clear, up, down] = [[client, server].map(({ bytes }) => bytes), noise(300_000, 80), noise(300_000, 81)];
  // The server writes from its adapter's memory, if it has such memory. The runtime may hold that while it encrypts.
  await Promise.all([client.send(up), server.sendGathered(down)]);
  client.shutdown();
  await server.ended;
  server.shutdown();
  await client.ended;
  assertSameBytes(server.received.subarray(clear[1]), up, "from the client");
  assertSameBytes(client.received.subarray(clear[0]), down, "from the server");
  assertEquals(await Promise.all([client.closed, server.closed]), [undefined, undefined]);
}

export function startTlsLaws(makeSubject: () => FullSubject): void {
  const { tls, runtime: { capabilities: can } } = makeSubject();
  const { ca = "", cert = "", key = "" } = tls ?? {};
  const both = tls === undefined
    ? "there are no certificates"
    : can.startTlsClient && can.startTlsServer
    ? false
    : "capabilities.startTlsClient or startTlsServer is false";
  const trust = { ca, serverName: "localhost" };
  const pair = (scene: Scene, client: Hooks, server: Hooks): Promise<Pair> => scene.pair("IPv4", { client, server });

  it(
    "changes a connection to TLS, from inside onData, after bytes without TLS",
    { skip: both },
    () =>
      scene(makeSubject(), async (scene) => {
        let started = 0;
        const ends = await pair(scene, {
          connect: (peer) => void peer.write("please\n"),
          data: (peer) => {
            if (started++ === 1) peer.binding!.startTls!("client", trust);
          },
        }, {
          data: (peer) => {
            if (started++ > 0) return;
            peer.write("yes\n");
            peer.binding!.startTls!("server", { cert, key });
          },
        });
        await assertSecure(ends);
      }),
  );

  it("changes a connection to TLS with bytes of the handshake that were read before", {
    skip: both || (!can.startTlsUnread && "capabilities.startTlsUnread is false"),
  }, () =>
    scene(makeSubject(), async (scene) => {
      let started = false;
      const ends = await pair(scene, { connect: (peer) => peer.binding!.startTls!("client", trust) }, {
        data: (peer, chunk) => {
          if (started) return;
          started = true;
          peer.binding!.startTls!("server", { cert, key }, chunk);
        },
      });
      await assertSecure(ends);
    }));
}
