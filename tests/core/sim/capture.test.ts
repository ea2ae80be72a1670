// sim.capture(): this test reads the file block by block and packet by packet.
// tests/programs/capture.test.ts uses tshark.

import { describe, it } from "node:test";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { connect, EventError, serve, type SimOptions, type SimRuntime, simRuntime } from "../../../mod.ts";
import { counting } from "./ends.ts";

interface Packet {
  timeMs: number;
  on: string;
  from: string;
  to: string;
  protocol: number;
  seq: number;
  ack: number;
  flags: string;
  window: number;
  data: Uint8Array;
}

/** The sum of 16-bit words: 0xffff for data that contains its correct checksum. */
function onesSum(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const part of parts) {
    for (let i = 0; i < part.length; i += 2) sum += ((part[i] ?? 0) << 8) | (part[i + 1] ?? 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** Reads a file, and checks every length and every checksum. */
function packetsOf(file: Uint8Array): Packet[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const interfaces: string[] = [];
  const packets: Packet[] = [];
  for (let at = 0; at < file.length;) {
    const type = view.getUint32(at, true);
    const length = view.getUint32(at + 4, true);
    assertEquals([length % 4, view.getUint32(at + length - 4, true)], [0, length]);
    if (at === 0) assertEquals([type, view.getUint32(8, true)], [0x0a0d0d0a, 0x1a2b3c4d]);
    if (type === 1) {
      assertEquals(view.getUint16(at + 8, true), 101);
      const nameLength = view.getUint16(at + 18, true);
      interfaces.push(String.fromCharCode(...file.subarray(at + 20, at + 20 + nameLength)));
    } else if (type === 6) {
      const us = view.getUint32(at + 12, true) * 2 ** 32 + view.getUint32(at + 16, true);
      const size = view.getUint32(at + 20, true);
      assertEquals(view.getUint32(at + 24, true), size);
      const on = interfaces[view.getUint32(at + 8, true)];
      assert(on !== undefined);
      packets.push({ ...packetOf(file.slice(at + 28, at + 28 + size)), timeMs: us / 1000 - 1_735_689_600_000, on });
    } else assertEquals(at, 0);
    at += length;
  }
  return packets;
}

function packetOf(bytes: Uint8Array): Omit<Packet, "timeMs" | "on"> {
  const view = new DataView(bytes.buffer);
  const isV4 = bytes[0] === 0x45;
  const header = isV4 ? 20 : 40;
  const [from, to] = isV4 ? [bytes.slice(12, 16), bytes.slice(16, 20)] : [bytes.slice(8, 24), bytes.slice(24, 40)];
  const protocol = bytes[isV4 ? 9 : 6] as number;
  if (isV4) assertEquals([view.getUint16(2), onesSum(bytes.slice(0, 20))], [bytes.length, 0xffff]);
  else assertEquals([bytes[0], view.getUint16(4)], [0x60, bytes.length - 40]);
  const payload = bytes.slice(header);
  const pseudo = new Uint8Array([0, protocol, payload.length >> 8, payload.length & 255]);
  assertEquals(onesSum(from, to, pseudo, payload), 0xffff);
  const text = (address: Uint8Array, port: number): string =>
    isV4
      ? `${address.join(".")}:${view.getUint16(header + port)}`
      : `v6-${address.at(-1)}:${view.getUint16(header + port)}`;
  const places = { from: text(from, 0), to: text(to, 2), protocol };
  if (protocol === 17) {
    assertEquals(view.getUint16(header + 4), payload.length);
    return { ...places, seq: 0, ack: 0, flags: "", window: 0, data: payload.slice(8) };
  }
  assertEquals(protocol, 6);
  const bits = view.getUint8(header + 13);
  return {
    ...places,
    seq: view.getUint32(header + 4),
    ack: view.getUint32(header + 8),
    flags: ["F", "S", "R", "P", "A"].filter((_, bit) => (bits & (1 << bit)) !== 0).join(""),
    window: view.getUint16(header + 14),
    data: payload.slice((view.getUint8(header + 12) >> 4) * 4),
  };
}

/**
 * The bytes of the stream from one end, in the order of their sequence numbers, without
 * retransmissions.
 */
function streamOf(packets: readonly Packet[], from: string): Uint8Array {
  const syn = packets.find((packet) => packet.from === from && packet.flags.includes("S"));
  assert(syn !== undefined, from);
  const bytes: number[] = [];
  for (const { seq, data } of packets.filter((packet) => packet.from === from)) {
    const at = (seq - syn.seq - 1) >>> 0;
    data.forEach((byte, i) => void (bytes[at + i] = byte));
  }
  return new Uint8Array(bytes);
}

/**
 * Runs an echo server and a client that sends bytes and closes. Returns the bytes that the client
 * received.
 */
async function echo(options: SimOptions, bytes: Uint8Array, hostname = "server"): Promise<[SimRuntime, Uint8Array]> {
  const sim = simRuntime(options);
  const server = await sim.run(serve({ hostname: "::", port: 4000, runtime: sim.host("server") }, {
    read: (bev) => bev.writeBuffer(bev.input),
  }));
  const client = await sim.run(connect({ hostname, port: 4000, runtime: sim.host("client") }, {}));
  client.write(bytes);
  await sim.advance(500);
  const got = client.input.drain(client.input.length) as unknown;
  await sim.run(client.close());
  await sim.run(server.close());
  await sim.advance(50);
  return [sim, got as Uint8Array];
}

describe("sim.capture()", () => {
  it("has the handshake, the data both ways with their numbers, and the end", async () => {
    const [sim] = await echo({ capture: true }, new TextEncoder().encode("hello"));
    const packets = packetsOf(sim.capture());
    const [syn, synAck] = packets;
    const relative = packets.map(({ timeMs, on, from, seq, ack, flags, data }) => {
      const [mine, theirs] = on === "client" ? [syn, synAck] : [synAck, syn];
      assertEquals(from, on === "client" ? "10.0.0.3:32768" : "10.0.0.2:4000");
      const acknowledged = flags.includes("A") ? (ack - (theirs?.seq ?? 0)) >>> 0 : "-";
      return `${Math.round(timeMs * 1000) / 1000} ${on} ${flags} ${
        (seq - (mine?.seq ?? 0)) >>> 0
      } ${acknowledged} ${data.length}`;
    });
    assertEquals(relative, [
      "1 client S 0 - 0",
      "2 server SA 0 1 0",
      "3 client A 1 1 0",
      "3 client PA 1 1 5",
      "4 server A 1 6 0",
      "4 server PA 1 6 5",
      "5 client A 6 6 0",
      "503 client FA 6 6 0",
      "504 server A 6 7 0",
      "504 server FA 6 7 0",
      "505 client A 7 7 0",
    ]);
    assertEquals(packets.map(({ window }) => window).slice(0, 6), [65_535, 65_535, 32_768, 32_768, 32_765, 32_768]);
  });

  it("has the whole streams under every fault, over IPv4 and IPv6, and changes nothing", async () => {
    const faults = { jitterMs: 3, segmentCut: 0.3, bandwidth: 2_000_000 };
    for (
      const [hostname, places] of [["server", ["10.0.0.3:", "10.0.0.2:"]], ["fd00::2", ["v6-3:", "v6-2:"]]] as const
    ) {
      const sent = counting(60_000);
      const options = { seed: 5, faults };
      const [sim] = await echo({ ...options, capture: true }, sent, hostname);
      const [without] = await echo(options, sent, hostname);
      assertEquals(sim.hash, without.hash);
      const packets = packetsOf(sim.capture());
      for (const [place, port] of [[places[0], 32_768], [places[1], 4000]]) {
        assertEquals(streamOf(packets, `${place}${port}`), sent);
      }
      // No packet acknowledges bytes that were not sent, and times do not go back.
      const sentUpTo = new Map<string, number>();
      let last = 0;
      for (const { timeMs, from, to, seq, ack, flags, data } of packets) {
        assert(timeMs >= last);
        last = timeMs;
        const extra = flags.includes("S") || flags.includes("F") ? 1 : 0;
        sentUpTo.set(from, Math.max(sentUpTo.get(from) ?? -Infinity, (seq + data.length + extra) >>> 0));
        if (flags.includes("A")) assert(ack <= (sentUpTo.get(to) ?? -1), `${ack} of ${sentUpTo.get(to)}`);
      }
    }
  });

  it("has a second SYN after one was lost in a partition, a refusal, and a reset", async () => {
    const sim = simRuntime({ capture: true });
    const [server, client] = [sim.host("server"), sim.host("client")];
    const listening = await sim.run(serve({ hostname: "0.0.0.0", port: 4000, runtime: server }, {}));
    const link = sim.link(client, server);
    link.partition();
    const connecting = connect({ hostname: "10.0.0.2", port: 4000, runtime: client }, {});
    await sim.advance(10);
    link.heal();
    const bev = await sim.run(connecting);
    bev.write("bytes on their way");
    await sim.advance(0);
    bev.reset();
    await sim.run(connect({ hostname: "10.0.0.2", port: 9, runtime: client }, {}).catch(() => {}));
    await sim.run(listening.close());
    assertEquals(
      packetsOf(sim.capture()).map(({ timeMs, on, flags, data }) => `${timeMs} ${on} ${flags} ${data.length}`),
      [
        "0 client S 0",
        "10 client S 0",
        "11 server SA 0",
        "12 client A 0",
        "12 client PA 18",
        "12 client RA 0",
        "12 client S 0",
        "13 server RA 0",
      ],
    );
  });

  it("acknowledges held bytes when they arrive", async () => {
    const sim = simRuntime({ capture: true });
    const [server, client] = [sim.host("server"), sim.host("client")];
    await sim.run(
      serve({ hostname: "0.0.0.0", port: 4000, runtime: server }, {
        read: (bev) => void bev.input.drain(bev.input.length),
      }),
    );
    const bev = await sim.run(connect({ hostname: "10.0.0.2", port: 4000, runtime: client }, {}));
    await sim.advance(8);
    const link = sim.link(client, server, { oneWay: true });
    link.hold();
    bev.write("held");
    await sim.advance(90);
    link.release();
    await sim.advance(50);
    assertEquals(
      packetsOf(sim.capture()).slice(3).map(({ timeMs, on, flags, data }) => `${timeMs} ${on} ${flags} ${data.length}`),
      ["10 client PA 4", "101 server A 0"],
    );
  });

  it("has datagrams of both families, including lost ones", async () => {
    const sim = simRuntime({ capture: true, faults: { datagramLost: 1 } });
    const sink = { onMessage() {}, onWritable() {}, onError() {} };
    const socket = await sim.host("a").datagram?.({ hostname: "::", port: 5000 }, sink);
    socket?.send(new Uint8Array([1, 2, 3]), { hostname: "10.0.0.9", port: 53, family: "IPv4" });
    socket?.send(new Uint8Array([4]), { hostname: "fd00::9", port: 53, family: "IPv6" });
    await sim.advance(5);
    assertEquals(
      packetsOf(sim.capture()).map(({ from, to, protocol, data }) => `${from} ${to} ${protocol} ${data}`),
      ["10.0.0.2:5000 10.0.0.9:53 17 1,2,3", "v6-2:5000 v6-9:53 17 4"],
    );
  });

  it("keeps only the newest packets, up to its limit", async () => {
    const sent = counting(50_000);
    const [sim] = await echo({ capture: { maxBytes: 5000 }, faults: { bandwidth: 1e7 } }, sent);
    const file = sim.capture();
    assert(file.length < 6000, `${file.length} bytes`);
    const packets = packetsOf(file);
    assertEquals(packets.at(-2)?.flags, "FA");
    const [whole] = await echo({ capture: true, faults: { bandwidth: 1e7 } }, sent);
    assertEquals(packetsOf(whole.capture()).slice(-packets.length), packets);
  });

  it("takes an option, and gives a file without packets at first", () => {
    assertEquals(packetsOf(simRuntime({ capture: true }).capture()), []);
    const error = assertThrows(() => simRuntime().capture(), EventError, "Cannot give a capture: nothing was kept");
    assertEquals(error.code, "EV_UNSUPPORTED");
    for (const capture of [1, "all", { maxBytes: -1 }, { most: 1 }, null]) {
      const wrong = assertThrows(() => simRuntime({ capture } as SimOptions), Error);
      assert(/^Cannot make a simulator: /.test(wrong.message), wrong.message);
    }
  });
});
