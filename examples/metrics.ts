/**
 * A server whose figures a monitoring system can read: `metrics [PORT] [METRICS-PORT]`. The first port is an echo
 * server. On the second one `curl http://127.0.0.1:9881/metrics` gets the figures of both, in the text format of
 * Prometheus.
 *
 * The figures show how the server is used, so strangers must not reach the second port.
 */

import { EventBase, EventError, prometheus, serve, type Server, stopOnSignals } from "trivent";
import { announce, main, port, refuse } from "./_common.ts";
import { serveMetrics } from "./_metrics.ts";

await main("metrics [PORT] [METRICS-PORT]", async ([echoPort = "9880", metricsPort = "9881", ...more]) => {
  if (more.length > 0) refuse(`Cannot take ${2 + more.length} arguments`);
  const base = new EventBase();
  const error = (error: unknown): void => console.error(error instanceof EventError ? error.message : error);
  const hostname = "127.0.0.1";

  const echo = await serve({ base, hostname, port: port(echoPort, 0), idleTimeoutMs: 300_000 }, {
    read: (bev) => bev.writeBuffer(bev.input),
    error,
  });

  const metrics: Server = await serveMetrics(base, port(metricsPort, 0), () => prometheus(echo, metrics));

  stopOnSignals({ base, close: (options) => Promise.all([echo.close(options), metrics.close(options)]) }, {
    graceMs: 1000,
  });
  announce(echo.address);
  console.log(`metrics on ${hostname}:${metrics.port}`);
  await base.dispatch();
});
