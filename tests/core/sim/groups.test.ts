// Datagrams to multicast groups and broadcasts, between simulated hosts.

import { describe, it } from "node:test";
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { type DatagramOptions, DatagramSocket, EAGAIN, EventError } from "../../../core/mod.ts";
import { type SimHost, type SimRuntime, simRuntime } from "../../../runtimes/sim.ts";

const PORT = 5353;

/** A network of three hosts, each with a socket on the port that has joined a group. */
async function members(
  family: "IPv4" | "IPv6",
): Promise<{ sim: SimRuntime; hosts: SimHost[]; sockets: DatagramSocket[] }> {
  const sim = simRuntime({ seed: 3 });
  const hosts = [sim, sim.host("b"), sim.host("c")];
  const sockets = await sim.run(Promise.all(hosts.map(async (runtime) => {
    const socket = await DatagramSocket.open(runtime, { hostname: ANY[family], port: PORT });
    await socket.join(GROUP[family]);
    return socket;
  })));
  return { sim, hosts, sockets };
}

const ANY = { IPv4: "0.0.0.0", IPv6: "::" };
const GROUP = { IPv4: "239.1.2.3", IPv6: "ff02::123" };

/** What each socket has received, by the sender's address. */
function received(sockets: readonly DatagramSocket[]): string[][] {
  return sockets.map((socket) => {
    const all: string[] = [];
    for (let datagram = socket.recvFrom(); datagram !== EAGAIN; datagram = socket.recvFrom()) {
      all.push(`${new TextDecoder().decode(datagram.data)} of ${datagram.address.hostname}`);
    }
    return all;
  });
}

describe("a multicast group on the simulator", () => {
  for (const family of ["IPv4", "IPv6"] as const) {
    const own = family === "IPv4" ? "10.0.0.1" : "fd00::1";
    const to = { hostname: GROUP[family], port: PORT };
    const from = async (sim: SimRuntime, options: DatagramOptions): Promise<DatagramSocket> =>
      await sim.run(DatagramSocket.open(sim, { hostname: ANY[family], ...options }));

    it(`reaches each socket that has joined it, on each host, and no socket that has left it: ${family}`, async () => {
      const { sim, sockets } = await members(family);
      const stranger = await sim.run(DatagramSocket.open(sim.host("d"), { hostname: ANY[family], port: PORT }));
      (await from(sim, {})).sendTo("hello", to);
      await sim.advance(10);
      assertEquals(received([...sockets, stranger]), [
        [`hello of ${own}`],
        [`hello of ${own}`],
        [`hello of ${own}`],
        [],
      ]);
      await sockets[1]?.leave(GROUP[family]);
      (await from(sim, {})).sendTo("again", to);
      await sim.advance(10);
      assertEquals(received(sockets).map((all) => all.length), [1, 0, 1]);
    });

    it(`stays on the host with a TTL of 0 or on the loopback, and does not come back without loopback: ${family}`, async () => {
      const { sim, sockets } = await members(family);
      const local = family === "IPv4" ? "127.0.0.1" : "lo";
      await sockets[0]?.join(GROUP[family], local);
      const ways: [DatagramOptions, number[]][] = [
        [{ multicastTtl: 0 }, [1, 0, 0]],
        [{ multicastTtl: 0, multicastLoopback: false }, [0, 0, 0]],
        [{ multicastLoopback: false }, [0, 1, 1]],
        [{ multicastInterface: local, multicastLoopback: false }, [1, 0, 0]],
        [{ multicastInterface: family === "IPv4" ? own : "eth0" }, [1, 1, 1]],
      ];
      for (const [options, counts] of ways) {
        (await from(sim, options)).sendTo("x", to);
        await sim.advance(10);
        assertEquals(received(sockets).map((all) => all.length), counts, JSON.stringify(options));
      }
    });
  }

  it("loses datagrams as the links do, for each host separately, and the same for the same seed", async () => {
    const run = async (): Promise<string[][]> => {
      const { sim, sockets } = await members("IPv4");
      sim.faults.datagramLost = 0.5;
      const sender = await sim.run(DatagramSocket.open(sim));
      for (let i = 0; i < 40; i++) sender.sendTo(String(i), { hostname: GROUP.IPv4, port: PORT });
      await sim.advance(10);
      return received(sockets);
    };
    const first = await run();
    assertEquals(new Set(first.map((all) => all.join())).size, 3);
    for (const all of first) assertEquals(all.length > 5 && all.length < 35, true);
    assertEquals(await run(), first);
  });

  it("is not reached over a partition or on a crashed host", async () => {
    const { sim, hosts, sockets } = await members("IPv4");
    sim.link(hosts[0] as SimHost, hosts[1] as SimHost).partition();
    hosts[2]?.crash();
    const sender = await sim.run(DatagramSocket.open(sim));
    sender.sendTo("x", { hostname: GROUP.IPv4, port: PORT });
    await sim.advance(10);
    assertEquals(received(sockets.slice(0, 2)).map((all) => all.length), [1, 0]);
  });
});

describe("a broadcast on the simulator", () => {
  it("reaches every host with a socket on all addresses, if the sender may broadcast", async () => {
    const { sim, sockets } = await members("IPv4");
    const sender = await sim.run(DatagramSocket.open(sim, { broadcast: true }));
    for (const hostname of ["255.255.255.255", "10.255.255.255"]) sender.sendTo(hostname, { hostname, port: PORT });
    sender.sendTo("own", { hostname: "127.255.255.255", port: PORT });
    await sim.advance(10);
    assertEquals(received(sockets).map((all) => all.length), [3, 2, 2]);
    const silent = await sim.run(DatagramSocket.open(sim));
    silent.sendTo("x", { hostname: "255.255.255.255", port: PORT });
    await sim.advance(10);
    const error = assertThrows(() => silent.recvFrom(), EventError) as EventError;
    assertEquals(error.code, "EACCES");
    assertEquals(received(sockets).map((all) => all.length), [0, 0, 0]);
  });
});

describe("an address that is shared on the simulator", () => {
  it("needs reuseAddress on every socket; each socket gets a datagram to a group, and one socket gets any other", async () => {
    const sim = simRuntime();
    const options = { port: PORT, reuseAddress: true };
    const [a, b] = [await sim.run(DatagramSocket.open(sim, options)), await sim.run(DatagramSocket.open(sim, options))];
    const alone = await assertRejects(
      () => sim.run(DatagramSocket.open(sim, { port: PORT })),
      EventError,
    ) as EventError;
    assertEquals(alone.code, "EADDRINUSE");
    const sender = await sim.run(DatagramSocket.open(sim));
    for (const socket of [a, b]) await socket.join(GROUP.IPv4);
    sender.sendTo("group", { hostname: GROUP.IPv4, port: PORT });
    sender.sendTo("one", { hostname: "127.0.0.1", port: PORT });
    await sim.advance(10);
    assertEquals(received([a, b]).map((all) => all.length).sort(), [1, 2]);
  });
});
