// sim.capture() in Wireshark: tshark opens the file, accepts every checksum, has no complaint, and
// follows the streams. tests/core/sim/capture.test.ts tests the content of the file.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { connect, serve, type SimRuntime, simRuntime } from "../../mod.ts";
import { needs } from "../tools/needs.ts";
import { run } from "../tools/processes.mjs";

const CHECKS = ["ip.check_checksum", "tcp.check_checksum", "udp.check_checksum"].flatMap((
  name,
) => ["-o", `${name}:TRUE`]);

let folder = "";
before(() => {
  folder = mkdtempSync(join(tmpdir(), "trivent-capture-"));
});
after(() => rmSync(folder, { recursive: true, force: true }));

/** The output of tshark for the packets of a simulated network. It must not report a problem. */
async function tshark(sim: SimRuntime, args: readonly string[]): Promise<string> {
  const file = join(folder, "sim.pcapng");
  writeFileSync(file, sim.capture());
  const { code, output } = await run("tshark", ["-r", file, ...CHECKS, ...args], { timeoutMs: 180_000 });
  assertEquals(code, 0, output);
  assert(!/appears to|cut short|malformed/i.test(output), output);
  return output.replaceAll(/^Running as user.*\n/gm, "");
}

/** Clients of an echo server over IPv4 and IPv6, some at a time. */
async function talk(sim: SimRuntime): Promise<void> {
  const server = await sim.run(serve({ hostname: "::", port: 4000, runtime: sim.host("server") }, {
    read: (bev) => bev.writeBuffer(bev.input),
  }));
  for (const [i, hostname] of ["server", "fd00::2", "server"].entries()) {
    const client = await sim.run(connect({ hostname, port: 4000, runtime: sim.host("client") }, {}));
    for (let line = 0; line < 20; line++) {
      client.write(`line ${line} of client ${i}\n`);
      await sim.advance(3);
    }
    await sim.advance(100);
    await sim.run(client.close());
  }
  const sink = { onMessage() {}, onWritable() {}, onError() {} };
  const socket = await sim.host("client").datagram?.({ port: 5001 }, sink);
  socket?.send(new TextEncoder().encode("datagram"), { hostname: "10.0.0.2", port: 5000, family: "IPv4" });
  await sim.run(server.close());
  await sim.advance(100);
}

describe("tshark", { skip: needs("tshark") }, () => {
  it("opens a capture without a complaint, and accepts every checksum", async () => {
    const sim = simRuntime({ seed: 3, capture: true, faults: { jitterMs: 2, segmentCut: 0.2 } });
    await talk(sim);
    // The levels of Wireshark's expert information: 2 is a note about something unusual, 4 a
    // warning, 8 an error.
    const experts = await tshark(sim, ["-q", "-z", "expert"]);
    assert(!/^(Errors|Warns)/m.test(experts), experts);
    const notes = /^Notes.*\n=+\n.*\n([^]*?)\n\n/m.exec(experts)?.[1] ?? "";
    for (const note of notes.split("\n")) assert(/connection closing/.test(note), experts);
    const bad = "ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0";
    assertEquals(await tshark(sim, ["-Y", bad]), "");
    const good = await tshark(sim, [
      "-Y",
      "tcp.checksum.status == 1 || udp.checksum.status == 1",
      "-T",
      "fields",
      "-e",
      "frame.number",
    ]);
    const all = await tshark(sim, ["-T", "fields", "-e", "frame.number"]);
    assertEquals(good, all);
    assert(all.split("\n").length > 200);
  });

  it("follows the streams, with the bytes that the programs sent", async () => {
    const sim = simRuntime({ seed: 4, capture: true, faults: { jitterMs: 2, segmentCut: 0.2 } });
    await talk(sim);
    for (const [i, address] of ["10.0.0.3", "[fd00::3]", "10.0.0.3"].entries()) {
      const output = await tshark(sim, ["-q", "-z", `follow,tcp,raw,${i}`]);
      assertMatch(output, /Node 0: .*:(3\d{4})\nNode 1: .*:4000/);
      assert(output.includes(`Node 0: ${address}`), output);
      const lines = output.split("\n").filter((line) => /^\t?[0-9a-f]+$/.test(line));
      const text = (own: boolean): string =>
        lines.filter((line) => line.startsWith("\t") !== own)
          .map((line) => Buffer.from(line.trim(), "hex").toString()).join("");
      const sent = Array.from({ length: 20 }, (_, line) => `line ${line} of client ${i}\n`).join("");
      assertEquals([text(true), text(false)], [sent, sent]);
    }
  });

  it("recognises resets, refusals and retransmissions", async () => {
    const sim = simRuntime({ capture: true });
    const server = await sim.run(serve({ hostname: "0.0.0.0", port: 4000, runtime: sim.host("server") }, {}));
    const client = sim.host("client");
    const link = sim.link("server", "client");
    link.partition();
    const connecting = connect({ hostname: "server", port: 4000, runtime: client }, {});
    await sim.advance(100);
    link.heal();
    const bev = await sim.run(connecting);
    bev.write("hello");
    await sim.advance(50);
    bev.reset();
    await sim.run(connect({ hostname: "server", port: 9, runtime: client }, {}).catch(() => {}));
    await sim.run(server.close());
    const experts = await tshark(sim, ["-q", "-z", "expert"]);
    assert(!/^Errors/m.test(experts), experts);
    assertMatch(experts, / 2 +Sequence +TCP +Connection reset \(RST\)/);
    assertMatch(
      experts,
      / 1 +Sequence +TCP +(This frame is a \(suspected\) retransmission|A new tcp session|.*etransmission)/i,
    );
    assertEquals(
      (await tshark(sim, ["-Y", "tcp.flags.reset == 1", "-T", "fields", "-e", "tcp.srcport"])).trim().split("\n"),
      [
        "32768",
        "9",
      ],
    );
  });

  it("shows each host as an interface, and virtual time", async () => {
    const sim = simRuntime({ capture: true });
    await talk(sim);
    const fields = ["-T", "fields", "-e", "frame.interface_name", "-e", "frame.time_epoch"];
    const [first = ""] = (await tshark(sim, fields)).split("\n");
    // The client looked the name up for 1 ms.
    assertMatch(first, /^client\t1735689600\.00[12]/);
  });
});
