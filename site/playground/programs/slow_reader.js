// A client that reads slowly. The server waits at a watermark, so its memory stays bounded.
import { connect, serve, sleep } from "trivent";

const TOTAL = 600_000;

export default async function (sim) {
  const limits = { writeHigh: 64 * 1024, writeLow: 16 * 1024 };
  const server = await sim.run(serve({ runtime: sim.host("server"), hostname: "0.0.0.0", port: 7, ...limits }, {
    async open(bev) {
      let most = 0;
      for (let sent = 0; sent < TOTAL; sent += 20_000) {
        const more = bev.write("x".repeat(20_000));
        most = Math.max(most, bev.output.length);
        if (more) continue;
        console.log(`the output has ${bev.output.length} bytes: the server waits`);
        await bev.drained();
        console.log(`it has drained to ${bev.output.length} bytes: the server goes on`);
      }
      console.log(`the output never had more than ${most} bytes`);
      await bev.close();
    },
  }));

  const client = await sim.run(
    connect({ runtime: sim.host("client"), hostname: "server", port: 7, readHigh: 16 * 1024 }),
  );
  let received = 0;
  const read = async () => {
    for await (const chunk of client) {
      received += chunk.length;
      await sleep(50, { base: client.base });
    }
  };
  await sim.run(read());
  await sim.run(server.close());
  if (received !== TOTAL) throw new Error(`${received} bytes have come, and ${TOTAL} were sent`);
  console.log(`all ${received} bytes have come`);
}
