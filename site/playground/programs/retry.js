// A shop sends payments, and sends them again when the connection is lost. There is a bug in it that needs bad luck.
// Press "Explore": the page tries seeds with broken networks until the sum is wrong.
import { reconnect, serve, sleep } from "trivent";

export default async function (sim) {
  let booked = 0;
  const server = await sim.run(serve({ runtime: sim.host("bank"), hostname: "0.0.0.0", port: 7 }, {
    line(bev, line) {
      const [id, amount] = new TextDecoder().decode(line).split(" ");
      // The bug: a payment that comes again is booked again. The cure: keep the ids in a Set, and book each once.
      booked += Number(amount);
      bev.write(`${id}\n`);
    },
  }));

  const outbox = new Map(); // what the bank has not confirmed
  const link = reconnect({ runtime: sim.host("shop"), hostname: "bank", port: 7, timeoutMs: 2000 }, {
    open(bev) {
      for (const payment of outbox.values()) bev.write(payment);
    },
    line: (_bev, line) => void outbox.delete(new TextDecoder().decode(line)),
    lost: (error, delayMs) => console.log(`${error?.code ?? "the end"}: again in ${Math.round(delayMs)} ms`),
  });
  const { base } = await sim.run(link.ready());
  for (let id = 1; id <= 5; id++) {
    outbox.set(`${id}`, `${id} 100\n`);
    link.connection?.write(`${id} 100\n`);
    await sim.run(sleep(150, { base }));
  }
  while (outbox.size > 0) await sim.run(sleep(50, { base }));
  await sim.run(link.close());
  await sim.run(server.close());
  console.log(`the shop has paid 500 cents, and the bank has booked ${booked}`);
  if (booked !== 500) throw new Error(`the bank has booked ${booked} cents, and the shop has paid 500`);
}
