// The server with /metrics, with curl as the client and an independent parser.

import { describe, it } from "node:test";
import { assert, assertEquals, assertMatch } from "@std/assert";
import { needs } from "../tools/needs.ts";
import { RUNTIMES } from "../tools/runtimes.mjs";
import { Client, eventually, feed, startServer } from "./workshop.ts";

const PARSER: string = "parse-prometheus-text-format";
interface Family {
  readonly name: string;
  readonly metrics: readonly { readonly labels?: Readonly<Record<string, string>>; readonly value?: string }[];
}

for (const runtime of RUNTIMES) {
  describe(`metrics on ${runtime}`, { skip: needs("curl") }, () => {
    it("gives curl the figures of the server, and no other page", async () => {
      const { default: parse } = await import(PARSER) as { default: (text: string) => Family[] };
      const server = await startServer(runtime, "metrics", ["0"]);
      await eventually("the second port", () => /^metrics on /m.test(server.printed()));
      const [, port = ""] = /^metrics on 127\.0\.0\.1:(\d+)\n/.exec(server.printed()) ?? [];
      const ask = async (...args: string[]): Promise<string> => {
        const { code, stdout } = await feed("curl", ["-sS", "-i", "--max-time", "20", ...args]);
        assertEquals(code, 0);
        return stdout.toString();
      };

      const client = await Client.open(server.port);
      await client.send("x".repeat(70_000));
      await client.untilReceived(70_000);
      const [head = "", text = ""] = (await ask(`http://127.0.0.1:${port}/metrics`)).split("\r\n\r\n");
      assertMatch(head, /^HTTP\/1\.1 200 OK\r\nContent-Type: text\/plain; version=0\.0\.4/);
      const families = new Map(parse(text).map((family) => [family.name, family.metrics]));
      const valueOf = (name: string, port: number | string): string | undefined =>
        families.get(name)?.find(({ labels }) => labels?.server === `127.0.0.1:${port}`)?.value;
      assertEquals(valueOf("trivent_bytes_read_total", server.port), "70000");
      assertEquals(valueOf("trivent_bytes_written_total", server.port), "70000");
      assertEquals(valueOf("trivent_connections_open", server.port), "1");
      assertEquals(valueOf("trivent_connections_accepted_total", port), "1");
      assertEquals(families.size, 8);

      for (const other of ["/", "/metrics/../etc", "/metricsx"]) {
        assertMatch(await ask("--path-as-is", `http://127.0.0.1:${port}${other}`), /^HTTP\/1\.1 404/);
      }
      assertMatch(await ask("-X", "POST", "-d", "x=1", `http://127.0.0.1:${port}/metrics`), /^HTTP\/1\.1 404/);
      const endless = await Client.open(Number(port));
      await endless.send("x".repeat(100_000));
      await endless.until("the end", () => endless.ended || endless.closed);
      assert(endless.received === 0);
      client.end();
      await client.untilEnd();
      assertEquals(await server.stop(), null);
    });
  });
}
