// A ROT13 server and a client. Watch the lines travel, then change the code and run it again.
import { connect, serve } from "trivent";

const rot13 = (byte) => {
  const letter = byte & 0xdf;
  return letter < 65 || letter > 90 ? byte : letter < 78 ? byte + 13 : byte - 13;
};

export default async function (sim) {
  const server = await sim.run(serve({ runtime: sim.host("server"), hostname: "0.0.0.0", port: 7 }, {
    line(bev, line) {
      bev.write(line.map(rot13));
      bev.write("\n");
    },
  }));

  const client = await sim.run(connect({ runtime: sim.host("client"), hostname: "server", port: 7 }));
  const answers = client.lines({ text: true });
  for (const question of ["Hello", "Trivent", "Uryyb", "the end"]) {
    client.write(`${question}\n`);
    const { value } = await sim.run(answers.next());
    console.log(`${question} becomes ${value}`);
  }
  await sim.run(client.close());
  await sim.run(server.close());
}
