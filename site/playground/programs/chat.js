// A chat room. Press "Partition" while it runs: the messages wait. Press "Heal", and they come.
// "Crash" ends the server. "Restart" starts it again, and the clients come back by themselves.
import { reconnect, serve, sleep } from "trivent";

function startServer(host) {
  const members = new Set();
  return serve({ runtime: host, hostname: "0.0.0.0", port: 6667 }, {
    open: (bev) => void members.add(bev),
    line(_bev, line) {
      for (const member of members) member.write(`${new TextDecoder().decode(line)}\n`);
    },
    close: (bev) => void members.delete(bev),
  });
}

export default async function (sim) {
  const host = sim.host("server");
  let server = await sim.run(startServer(host));
  host.onRestart = async () => {
    server = await startServer(host);
  };

  const talk = async (name) => {
    const link = reconnect({ runtime: sim.host(name), hostname: "server", port: 6667, timeoutMs: 1000 }, {
      line: (_bev, line) => console.log(`${name} hears ${new TextDecoder().decode(line)}`),
    });
    for (let i = 1; i <= 30; i++) {
      const bev = await link.ready();
      bev.write(`<${name}> message ${i}\n`);
      await sleep(400, { base: bev.base });
    }
    await link.close();
  };
  await sim.run(Promise.all([talk("ann"), talk("bob"), talk("cy")]));
  await sim.run(server.close());
}
