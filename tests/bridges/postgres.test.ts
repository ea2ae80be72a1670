/** Drivers of PostgreSQL over Trivent: `pg` over `toDuplex()`, plain and with TLS. */

import { createServer } from "node:net";
import { after, before, describe, it } from "node:test";
import { assert, assertEquals } from "@std/assert";
import { toDuplex } from "../../bridges/duplex.ts";
import { connect, connectNow, detectRuntime, reconnect, type SocketBufferEvent } from "../../mod.ts";
import { dataOf, load, noPackages, nothingLeft, type Package, pause, sha, until, within } from "./others.ts";
import { freePort, noPostgres, type Service, startPostgres } from "./services.ts";

const host = detectRuntime();

describe(
  `PostgreSQL on ${host.name}`,
  { skip: noPackages || noPostgres },
  () => {
    let service: Service & { ca: string | undefined };
    let pg: Package;

    before(async () => {
      pg = await load("pg");
      service = await startPostgres();
    });
    after(async () => {
      await service?.stop();
      await nothingLeft();
    });

    /** A client of pg on a stream that is still connecting. */
    function clientOf(
      options: object = {},
      port: number = service.port,
    ): Package {
      return new pg.Client({
        stream: () => toDuplex(connectNow({ hostname: "127.0.0.1", port })),
        user: "postgres",
        password: "secret",
        database: "postgres",
        ...options,
      });
    }

    async function exercise(client: Package): Promise<void> {
      await client.connect();
      const blob = dataOf(5_000_000, 11);
      const { rows: [row] } = await client.query("SELECT $1::bytea AS blob", [
        blob,
      ]);
      assertEquals(sha(row.blob), sha(blob));
      const { rows } = await client.query(
        "SELECT n, md5(n::text) AS text FROM generate_series(1, 20000) AS n",
      );
      assertEquals([rows.length, rows[19_999].n], [20_000, 20_000]);
      const answers = await Promise.all(
        Array.from(
          { length: 100 },
          (_, i) => client.query("SELECT $1::int AS n", [i]),
        ),
      );
      assertEquals(
        answers.map(({ rows }: Package) => rows[0].n),
        Array.from({ length: 100 }, (_, i) => i),
      );
      await client.end();
    }

    it("answers pg over connectNow()", async () => {
      await exercise(clientOf());
      await nothingLeft();
    });

    it("answers pg with TLS, which pg starts itself", async () => {
      if (service.ca === undefined) return;
      await exercise(
        clientOf({ ssl: { ca: service.ca, servername: "localhost" } }),
      );
      await nothingLeft();
    });

    it("answers pg over connect() and reconnect(), whose connections are established already", async () => {
      const bev = await connect({ hostname: "127.0.0.1", port: service.port });
      await exercise(clientOf({ stream: () => toDuplex(bev) }));
      let made: ((bev: SocketBufferEvent) => void) | undefined;
      const first = new Promise<SocketBufferEvent>((resolve) => made = resolve);
      const link = reconnect({ hostname: "127.0.0.1", port: service.port }, {
        open: (bev) => made?.(bev),
      });
      const stream = toDuplex(await first);
      await exercise(clientOf({ stream: () => stream }));
      await link.close();
      await nothingLeft();
    });

    it("bounds memory while pg reads slowly: a cursor of rows", async () => {
      const client = clientOf();
      await client.connect();
      let bytes = 0;
      const query = client.query(
        new pg.Query(
          "SELECT repeat('x', 10000) AS text FROM generate_series(1, 3000)",
        ),
      );
      const stream = client.connection.stream;
      let rows = 0;
      let most = 0;
      query.on("row", () => {
        rows++;
        if (rows === 10) {
          stream.pause();
          const waiting = (): number => stream.bufferEvent.input.length + stream.readableLength;
          void until(() => waiting() > 0).then(() => pause(300)).then(() => {
            most = waiting();
            stream.resume();
          });
        }
        bytes += 10_000;
      });
      await within("all rows", new Promise((resolve, reject) => query.on("end", resolve).on("error", reject)));
      assertEquals([rows, bytes], [3000, 30_000_000]);
      assert(most > 0 && most < 1_000_000, `${most} bytes waited`);
      await client.end();
      await nothingLeft();
    });

    it("reports a wrong password, a missing server and one that leaves to pg once", async () => {
      const wrong = clientOf({ password: "wrong" });
      let errors = 0;
      wrong.on("error", () => errors++);
      const refusal = await wrong.connect().catch((error: Error) => error);
      assertEquals(refusal.code, "28P01");
      await wrong.end().catch(() => {});
      const nobody = clientOf({}, await freePort());
      nobody.on("error", () => errors++);
      assertEquals(
        (await nobody.connect().catch((error: Error) => error)).code,
        "ECONNREFUSED",
      );
      assertEquals(errors, 0);

      const server = createServer((socket) =>
        socket.on("error", () => {}).once(
          "data",
          () => socket.resetAndDestroy(),
        )
      );
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      const cut = clientOf({}, (server.address() as { port: number }).port);
      cut.on("error", () => errors++);
      const reason = await cut.connect().catch((error: Error) => error);
      assert(
        reason instanceof Error &&
          (reason as { code?: string }).code === "ECONNRESET",
        `${reason}`,
      );
      await pause(30);
      assert(errors <= 1, `${errors} errors`);
      await new Promise((resolve) => server.close(resolve));
      await nothingLeft();
    });
  },
);
