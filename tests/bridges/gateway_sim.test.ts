// Three gateways, nats-core and a broker on a network with faults, in virtual time.

import { describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { Gateway, type GatewayOptions } from "../../examples/_gateway.ts";
import scenario from "../../examples/sim/gateway.ts";
import { connect, EV_READ, sleep, type SocketBufferEvent } from "../../mod.ts";
import { explore, simRuntime } from "../../runtimes/sim.ts";

const RUNS = 25;
/** The gateway's limit for a room. */
const MAX_MEMBERS = 1000;

interface Member {
  bev: SocketBufferEvent;
  lines: string[];
  error: unknown;
  isClosed: boolean;
}

/** A broker without other gateways: it accepts everything and sends nothing. */
const NOBODY_ELSE = {
  subscribe: () => ({ unsubscribe: () => {} }),
  publish: () => {},
  // deno-lint-ignore require-yield
  status: async function* () {
    await new Promise(() => {});
  },
  isClosed: () => true,
} as unknown as GatewayOptions["nats"];

/** Runs `body` with a single gateway, in virtual time. */
async function withGateway(
  body: (open: () => Promise<Member>, until: (holds: () => boolean) => Promise<void>) => Promise<void>,
): Promise<void> {
  const sim = simRuntime({ seed: 1 });
  const listen = { hostname: "gateway", port: 9881 };
  const run = async (): Promise<void> => {
    const gateway = await Gateway.open({ runtime: sim.host("gateway"), nats: NOBODY_ELSE, name: "one", listen });
    const open = async (): Promise<Member> => {
      const member = { lines: [] as string[], error: undefined as unknown, isClosed: false };
      const bev = await connect({ runtime: sim, ...listen }, {
        line: (_bev, line) => void member.lines.push(new TextDecoder().decode(line)),
        error: (error) => void (member.error = error),
        close: () => void (member.isClosed = true),
      });
      return Object.assign(member, { bev });
    };
    await body(open, async (holds) => {
      for (const end = sim.now() + 10_000; !holds(); await sleep(10, { base: gateway.base })) {
        assert(sim.now() < end, "not within 10 s");
      }
    });
    await gateway.close({ graceMs: 0 });
  };
  await sim.run(run());
}

describe("the gateway on a network with faults", () => {
  it(`repeats no line and blocks no room in ${RUNS} runs`, async () => {
    const { error, faults, runs } = await explore(scenario, { runs: RUNS });
    assertEquals({ error, faults, runs }, {
      error: undefined,
      faults: [],
      runs: RUNS,
    });
  });

  it("gives the same run each time", async () => {
    const hashes: string[] = [];
    for (let i = 0; i < 2; i++) {
      const sim = simRuntime({
        seed: 7,
        faults: { segmentCut: 0.2, jitterMs: 10, connectionReset: 0.005 },
      });
      await sim.run(scenario(sim));
      hashes.push(String(sim.hash));
    }
    assertEquals(hashes[0], hashes[1]);
  });
});

describe("a gateway", () => {
  it("accepts a limited number of members in a room", async () => {
    await withGateway(async (open, until) => {
      const members: Member[] = [];
      for (let i = 0; i < MAX_MEMBERS; i++) members.push(await open());
      const join = async ({ bev, lines }: Member, answer: string): Promise<void> => {
        bev.write("JOIN hall\n");
        await until(() => lines.includes(answer));
      };
      const first = members[0] as Member;
      for (const { bev } of members) bev.write("JOIN hall\n");
      await until(() => members.every(({ lines }) => lines.includes("* you are in hall")));
      const late = await open();
      await join(late, "* hall is full");
      late.bev.write("SAY hall hello\n");
      await until(() => late.lines.includes("* you are not in hall"));
      first.bev.write("LEAVE hall\n");
      await until(() => first.lines.includes("* you have left hall"));
      await join(late, "* you are in hall");
      await join(first, "* hall is full");
    });
  });

  it("sends a client that reads too slowly a message, after all its lines", async () => {
    await withGateway(async (open, until) => {
      const [slow, speaker] = [await open(), await open()];
      for (const [i, { bev, lines }] of [slow, speaker].entries()) {
        bev.write(`NICK ${["slow", "speaker"][i]}\nJOIN hall\n`);
        await until(() => lines.includes("* you are in hall"));
      }
      slow.bev.disable(EV_READ);
      const text = "x".repeat(900);
      let said = 0;
      const isGone = (): boolean => speaker.lines.includes("* hall slow is gone");
      for (; !isGone() && said < 5000;) {
        for (let i = 0; i < 100; i++) speaker.bev.write(`SAY hall ${said++} ${text}\n`);
        await speaker.bev.drained();
      }
      await until(isGone);
      slow.bev.enable(EV_READ);
      await until(() => slow.isClosed);
      assertEquals([slow.error, slow.lines.at(-1)], [undefined, "* you read too slowly"]);
      const heard = slow.lines.filter((line) => line.startsWith("hall speaker"));
      assert(heard.length > 1000 && heard.length < said, `${heard.length} of ${said}`);
      heard.forEach((line, i) => assertEquals(line, `hall speaker ${i} ${text}`));
    });
  });
});
