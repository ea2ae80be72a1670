/** A plain server for the files of `site/dist/`, with gzip. For the tests. */

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { gzipSync } from "node:zlib";
import { SITE } from "./links.mjs";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
  ".json": "application/json",
  ".txt": "text/plain; charset=utf-8",
  ".xml": "application/xml",
};

/**
 * Starts the server on a free port.
 *
 * @param {string} [base] The folder of the site on its host, as VitePress has it: `/`, or `/name/`
 */
export function serveSite(base = "/") {
  const server = createServer(async (request, response) => {
    const whole = normalize(decodeURIComponent(new URL(request.url ?? "/", "http://site").pathname));
    const path = whole.startsWith(base) ? whole.slice(base.length - 1) : "/outside";
    const name = path.endsWith("/") ? `${path}index.html` : path;
    const body = await readFile(join(SITE, "dist", name)).catch(() => undefined);
    if (body === undefined) {
      response.writeHead(404, { "content-type": "text/plain" }).end("not found");
      return;
    }
    response.writeHead(200, {
      "content-type": TYPES[extname(name)] ?? "application/octet-stream",
      "content-encoding": "gzip",
    }).end(gzipSync(body, { level: 6 }));
  });
  return new Promise((resolve) => {
    server.listen(
      0,
      "127.0.0.1",
      () => resolve({ server, origin: `http://127.0.0.1:${server.address().port}${base.slice(0, -1)}` }),
    );
  });
}
