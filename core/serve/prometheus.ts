/** The figures of servers in the text format of Prometheus. */

import { wrongType } from "../checks.ts";
import { loopOf } from "../api/event_base.ts";
import { TURN_BOUNDS } from "../loop/stats.ts";
import { formatAddress } from "../socket/address.ts";
import type { RejectReason } from "./admission.ts";
import { type Server, serverCoreOf } from "./server.ts";
import type { ServerCore } from "./server_core.ts";
import type { ServerStats } from "./figures.ts";

/** The present figures of one server. */
interface Subject {
  readonly label: string;
  readonly stats: ServerStats;
  readonly core: ServerCore;
}

/** One line: the suffix of the name, more labels, and the value. */
type Sample = readonly [suffix: string, labels: string, value: number];

/** One metric. */
interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram";
  samples(subject: Subject): readonly Sample[];
}

/** Present from the beginning, so that the first refusal is visible as an increase. */
const REASONS: readonly RejectReason[] = ["accept", "maxConnections", "maxConnectionsPerAddress", "proxyProtocol"];

const METRICS: readonly Metric[] = [
  {
    name: "trivent_connections_accepted_total",
    help: "Connections that were accepted.",
    type: "counter",
    samples: ({ stats }) => [["", "", stats.accepted]],
  },
  {
    name: "trivent_connections_open",
    help: "Connections that are open now.",
    type: "gauge",
    samples: ({ stats }) => [["", "", stats.open]],
  },
  {
    name: "trivent_connections_rejected_total",
    help: "Clients that were refused, by the reason.",
    type: "counter",
    samples: ({ stats }) => REASONS.map((reason) => ["", label("reason", reason), stats.rejected[reason] ?? 0]),
  },
  {
    name: "trivent_connections_ended_total",
    help: "Connections that have ended, by the code of the reason; OK without one.",
    type: "counter",
    samples: ({ stats }) =>
      Object.entries({ OK: 0, ...stats.ended }).map(([code, count]) => ["", label("code", code), count]),
  },
  {
    name: "trivent_bytes_read_total",
    help: "Bytes that all connections have read.",
    type: "counter",
    samples: ({ stats }) => [["", "", stats.bytesRead]],
  },
  {
    name: "trivent_bytes_written_total",
    help: "Bytes that all connections have written.",
    type: "counter",
    samples: ({ stats }) => [["", "", stats.bytesWritten]],
  },
  {
    name: "trivent_handshakes_failed_total",
    help: "Connections that have failed in their TLS handshake.",
    type: "counter",
    samples: ({ stats }) => [["", "", stats.handshakesFailed]],
  },
  {
    name: "trivent_turn_seconds",
    help: "How long the turns of the loop take that were timed.",
    type: "histogram",
    samples: turnSamples,
  },
];

function turnSamples({ core }: Subject): Sample[] {
  const { stats } = loopOf(core.listener.base);
  let count = 0;
  const buckets = stats.turnLengths().map((length, i): Sample => {
    const bound = TURN_BOUNDS[i] as number;
    // Buckets are cumulative in Prometheus.
    count += length;
    return ["_bucket", label("le", bound === Infinity ? "+Inf" : String(bound / 1000)), count];
  });
  return [...buckets, ["_sum", "", stats.turnSum / 1000], ["_count", "", count]];
}

function label(name: string, value: string): string {
  const escaped = value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
  return `${name}="${escaped}"`;
}

/**
 * Writes the figures of servers in the text format of Prometheus, version 0.0.4: the result of
 * `Server.stats()`, with the label `server` for the address. Serve it as
 * `text/plain; version=0.0.4`.
 *
 * | metric | type | labels |
 * | --- | --- | --- |
 * | `trivent_connections_accepted_total` | counter | |
 * | `trivent_connections_open` | gauge | |
 * | `trivent_connections_rejected_total` | counter | `reason` |
 * | `trivent_connections_ended_total` | counter | `code` |
 * | `trivent_bytes_read_total`, `trivent_bytes_written_total` | counter | |
 * | `trivent_handshakes_failed_total` | counter | |
 * | `trivent_turn_seconds` | histogram | `le` |
 *
 * @param servers The servers, each with its own address
 * @returns The text, with a line feed at its end; an empty one without servers
 * @throws {TypeError} When an argument is not a `Server`
 *
 * @example
 * ```ts
 * import { prometheus, serve } from "trivent";
 *
 * const server = await serve({ hostname: "127.0.0.1", port: 0 }, {});
 * console.log(prometheus(server).includes("trivent_connections_open{server=")); // true
 * await server.close();
 * ```
 */
export function prometheus(...servers: readonly Server[]): string {
  const subjects = servers.map((server): Subject => {
    const core = serverCoreOf(server);
    if (core === undefined) {
      throw wrongType("write figures", "not a Server of serve()", server);
    }
    return { label: label("server", formatAddress(core.listener.address)), stats: core.stats(), core };
  });
  if (subjects.length === 0) return "";
  return METRICS.map(({ name, help, type, samples }) => {
    const lines = subjects.flatMap((subject) =>
      samples(subject).map(([suffix, labels, value]) =>
        `${name}${suffix}{${subject.label}${labels === "" ? "" : `,${labels}`}} ${value}\n`
      )
    );
    return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
  }).join("");
}
