// Chapter 5: TLS. node|deno|bun 5_tls.mjs PORT CERT KEY, then redis-cli --tls --cacert CERT -p PORT
import { readFileSync, watchFile } from "node:fs";
import process from "node:process";
import { startServer } from "./server.mjs";

const [, , port = "6400", certFile = "cert.pem", keyFile = "key.pem"] = process.argv;
const read = () => ({ cert: readFileSync(certFile, "utf8"), key: readFileSync(keyFile, "utf8") });

const { server } = await startServer({ hostname: "127.0.0.1", port: Number(port), tls: read() });
// A new certificate applies to new connections. No connection fails.
function change() {
  try {
    server.setTls(read());
    console.log("the certificate has changed");
  } catch (error) {
    console.error(String(error)); // the two files do not match yet: the change of the second one calls this again
  }
}
for (const file of [certFile, keyFile]) watchFile(file, { interval: 1000 }, change);
console.log(`listening on 127.0.0.1:${server.port}`);
