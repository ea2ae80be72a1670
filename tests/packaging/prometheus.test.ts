// The text of prometheus(), read by an independent parser.

import { describe, it } from "node:test";
import { assertEquals } from "@std/assert";
import { connect, prometheus, serve, simRuntime } from "../../mod.ts";

/** The parser's result for one metric. The parser has no types. */
interface Family {
  readonly name: string;
  readonly type: string;
  readonly metrics: readonly {
    readonly labels?: Readonly<Record<string, string>>;
    readonly value?: string;
    readonly buckets?: Readonly<Record<string, string>>;
  }[];
}

const PARSER: string = "parse-prometheus-text-format";

describe("the text of prometheus()", () => {
  it("is read by a parser from npm, with all values", async () => {
    const { default: parse } = await import(PARSER) as {
      default: (text: string) => Family[];
    };
    const sim = simRuntime();
    const server = await sim.run(
      serve({ runtime: sim, hostname: "127.0.0.1", port: 7 }, {
        read: (bev) => bev.output.addBuffer(bev.input),
      }),
    );
    const other = await sim.run(
      serve({ runtime: sim, path: '/tmp/a "strange" name' }, {}),
    );
    const client = await sim.run(
      connect({ runtime: sim, port: 7 }, { read() {} }),
    );
    client.write("hello");
    await sim.advance(20);
    client.reset();
    await sim.advance(20);
    const families = new Map(
      parse(prometheus(server, other)).map((family) => [family.name, family]),
    );
    const valueOf = (
      name: string,
      labels: Readonly<Record<string, string>>,
    ): string | undefined =>
      families.get(name)?.metrics.find((each) =>
        Object.entries(labels).every(([label, value]) => each.labels?.[label] === value)
      )?.value;
    const here = { server: "127.0.0.1:7" };
    assertEquals(valueOf("trivent_connections_accepted_total", here), "1");
    assertEquals(valueOf("trivent_connections_open", here), "0");
    assertEquals(valueOf("trivent_bytes_read_total", here), "5");
    assertEquals(valueOf("trivent_bytes_written_total", here), "5");
    assertEquals(
      valueOf("trivent_connections_ended_total", {
        ...here,
        code: "ECONNRESET",
      }),
      "1",
    );
    assertEquals(
      valueOf("trivent_connections_rejected_total", {
        ...here,
        reason: "accept",
      }),
      "0",
    );
    assertEquals(
      valueOf("trivent_handshakes_failed_total", {
        server: 'unix:/tmp/a "strange" name',
      }),
      "0",
    );
    const turns = families.get("trivent_turn_seconds");
    assertEquals([
      turns?.type,
      Object.keys(turns?.metrics[0]?.buckets ?? {}).length,
    ], ["HISTOGRAM", 14]);
    assertEquals(families.size, 8);
    await sim.run(Promise.all([server.close(), other.close()]));
  });
});
