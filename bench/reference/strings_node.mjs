/**
 * ROT13 on `node:net` as people write it: text, a rest that grows by `+=`, `split("\n")`, a `write()` for each line, and
 * no look at what `write()` says. It is here to show what that costs, not as a rival.
 */

import { createServer } from "node:net";

const rot13 = (line) =>
  line.replace(/[a-z]/gi, (c) => String.fromCharCode(c.charCodeAt(0) + (c.toLowerCase() < "n" ? 13 : -13)));

const server = createServer((socket) => {
  let rest = "";
  socket.setNoDelay(true);
  socket.setEncoding("utf8");
  socket.on("data", (text) => {
    rest += text;
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) socket.write(`${rot13(line)}\n`);
  });
  socket.on("error", () => socket.destroy());
});
server.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => {
  console.log(`listening on 127.0.0.1:${server.address().port}`);
});
for (const name of ["SIGINT", "SIGTERM"]) process.on(name, () => process.exit(0));
