/** The address that a monitoring system reads: `/metrics`, with the part of HTTP that it needs. */

import { type EventBase, EventError, serve, type Server } from "trivent";

const CLOSE = "Connection: close\r\n\r\n";

/** Serves the figures. Only the first line of a request matters; its headers are skipped. */
export function serveMetrics(
  base: EventBase,
  port: number,
  figures: () => string | Promise<string>,
): Promise<Server<string>> {
  return serve<string>(
    { base, hostname: "127.0.0.1", port, maxConnections: 10, maxLine: 8_000, idleTimeoutMs: 5_000 },
    {
      async line(bev, line) {
        bev.context ??= new TextDecoder().decode(line);
        if (line.length > 0) return;
        if (/^GET \/metrics(\?\S*)? HTTP\/1\.[01]$/.test(bev.context)) {
          const text = await figures();
          bev.write(`HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n${CLOSE}`);
          bev.write(text);
        } else bev.write(`HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n${CLOSE}`);
        void bev.close();
      },
      error: (error) => console.error(error instanceof EventError ? error.message : error),
    },
  );
}
