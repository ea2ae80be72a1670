/**
 * The echo over TLS that the benchmark measures; the arguments after the port are the files of
 * certificate and key.
 */

import { readFileSync } from "node:fs";
import process from "node:process";
import { serve } from "../mod.ts";

const [port = "0", cert = "", key = ""] = process.argv.slice(2);
const tls = { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
const server = await serve({ hostname: "127.0.0.1", port: Number(port), tls }, {
  read: (bev) => void bev.writeBuffer(bev.input),
});
const { address } = server;
if ("port" in address) console.log(`listening on ${address.hostname}:${address.port}`);
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => process.exit(0));
