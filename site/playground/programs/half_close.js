// The client finishes its direction after the last question. It still gets every answer.
import { connect, serve, sleep } from "trivent";

export default async function (sim) {
  const server = await sim.run(serve({ runtime: sim.host("server"), hostname: "0.0.0.0", port: 7 }, {
    async line(bev, line) {
      await sleep(200, { base: bev.base }); // a database, for example
      bev.write(`${new TextDecoder().decode(line)} has ${line.length} letters\n`);
    },
  }));

  const client = await sim.run(connect({ runtime: sim.host("client"), hostname: "server", port: 7 }));
  client.write("one\nthree\neleven\n");
  client.shutdown();
  console.log("the client has no more questions");
  const read = async () => {
    let answers = 0;
    for await (const answer of client.lines({ text: true })) {
      answers++;
      console.log(`the client hears: ${answer}`);
    }
    return answers;
  };
  const answers = await sim.run(read());
  await sim.run(server.close());
  if (answers !== 3) throw new Error(`3 questions were answered ${answers} times`);
}
