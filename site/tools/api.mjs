/**
 * The reference of the API, by TypeDoc, and the table of options and defaults from the same reading of the source.
 */

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { Application, ReflectionKind } from "typedoc";
import { PAGES, ROOT, SITE } from "./links.mjs";

/** The tables of the page on options: the interface, and its purpose. */
const OPTIONS = [
  [
    "ConnectionOptions",
    "Every connection",
    "`serve()`, `connect()`, `connectNow()` and `reconnect()` take these.",
  ],
  [
    "ServeOptions",
    "Servers",
    "`serve()` takes these, those of every connection, and those of listening.",
  ],
  ["ListenOptions", "Listening", "`serve()` and listeners take these."],
  [
    "ConnectOptions",
    "Connecting",
    "`connect()`, `connectNow()` and `reconnect()` take these.",
  ],
  ["ReconnectOptions", "Reconnecting", "`reconnect()` takes these besides."],
  ["BackoffOptions", "Delays between attempts", "`backoff` of `reconnect()`."],
  ["KeepAliveOptions", "Keep-alive", "`keepAlive` of every connection."],
  ["HeartbeatOptions", "Heartbeats", "`heartbeat()` takes these."],
  ["TlsOptions", "TLS", "`tls` of servers and clients."],
  ["TlsServeOptions", "TLS of servers", "`tls` of `serve()`, and `setTls()`."],
  ["TlsConnectOptions", "TLS of clients", "`tls` of `connect()`."],
  [
    "ProxyProtocolOptions",
    "The PROXY protocol",
    "`proxyProtocol` of `serve()`.",
  ],
  ["StopOptions", "Stopping on signals", "`stopOnSignals()` takes these."],
  ["PipeOptions", "Pipes", "`pipe()` takes these."],
  ["LineViewOptions", "Lines", "`bev.lines()` takes these."],
  ["FrameViewOptions", "Frames", "`bev.frames()` takes these."],
  ["LengthPrefixOptions", "Length prefixes", "`lengthPrefixed()` takes these."],
  [
    "CompressionFilterOptions",
    "Compression",
    "`compressionFilter()` takes these.",
  ],
  [
    "TokenBucketOptions",
    "Rate limits",
    "`setRateLimit()` and `RateLimitGroup` take these.",
  ],
  ["EventBaseOptions", "Event bases", "`new EventBase()` takes these."],
  ["SimOptions", "The simulator", "`simRuntime()` takes these."],
  [
    "SimFaults",
    "Faults of the simulator",
    "`sim.faults` and every link have these.",
  ],
  ["ExploreOptions", "Exploring", "`explore()` of `trivent/sim` takes these."],
  ["ToDuplexOptions", "Streams of Node", "`toDuplex()` of `trivent/duplex` takes these."],
  ["NatsTransportOptions", "NATS", "`natsTransport()` of `trivent/nats` takes these."],
];
/** The entry points whose exports the reference has, besides those of `trivent`. */
const ENTRIES = [
  ["runtimes/sim", "trivent/sim"],
  ["bridges/duplex", "trivent/duplex"],
  ["bridges/nats", "trivent/nats"],
];

/** @param {(page: string, text: string) => void} write */
export async function makeApi(write) {
  // One list of names, so that a reader need not know the entry point to find one.
  const entry = join(SITE, "build", "api.ts");
  const files = ["mod.ts", ...ENTRIES.map(([file]) => `${file}.ts`)];
  mkdirSync(dirname(entry), { recursive: true });
  writeFileSync(entry, files.map((file) => `export * from "../../${file}";\n`).join(""));
  const app = await Application.bootstrapWithPlugins({
    entryPoints: [entry],
    tsconfig: join(SITE, "tsconfig.json"),
    plugin: ["typedoc-plugin-markdown"],
    readme: "none",
    name: "API",
    out: join(PAGES, "reference", "api"),
    router: "member",
    entryFileName: "index",
    hidePageHeader: true,
    hideBreadcrumbs: true,
    disableSources: true,
    excludePrivate: true,
    excludeInternal: true,
    excludeExternals: true,
    useCodeBlocks: true,
    expandObjects: false,
    parametersFormat: "table",
    interfacePropertiesFormat: "list",
    sanitizeComments: true,
    useHTMLEncodedBrackets: true,
    indexFormat: "table",
    validation: {
      notExported: false,
      invalidLink: false,
      notDocumented: false,
    },
    logLevel: "Error",
    skipErrorChecking: true,
  });
  const project = await app.convert();
  if (project === undefined) throw new Error("TypeDoc cannot read the source");
  await app.generateOutputs(project);
  nameEntries(project);
  if (app.logger.hasErrors()) throw new Error("TypeDoc has found errors");
  write("reference/options.md", optionsPage(project));
}

/** Adds to each page the entry point of its name, unless it is the main one. */
function nameEntries(project) {
  const main = readFileSync(join(ROOT, "mod.ts"), "utf8");
  const [, fromSim = ""] = /\{([^}]*)\} from "\.\/runtimes\/sim\.ts"/.exec(main) ?? [];
  const inMain = new Set(fromSim.replaceAll(/\btype\b/g, "").split(",").map((name) => name.trim()));
  const entryOf = new Map();
  for (const reflection of project.children ?? []) {
    const file = project.getSymbolIdFromReflection(reflection)?.packagePath ?? "";
    const [, entry] = ENTRIES.find(([folder]) => file.startsWith(folder)) ?? [];
    if (entry !== undefined && !inMain.has(reflection.name)) entryOf.set(reflection.name, entry);
  }
  if (!["explore", "toDuplex", "natsTransport"].every((name) => entryOf.has(name))) {
    throw new Error("the reference lacks exports of the entry points");
  }
  const folder = join(PAGES, "reference", "api");
  for (const name of readdirSync(folder, { recursive: true })) {
    const entry = entryOf.get(/([^/\\]+)\.md$/.exec(name)?.[1]);
    if (entry === undefined) continue;
    const text = readFileSync(join(folder, name), "utf8");
    writeFileSync(
      join(folder, name),
      text.replace(/^# .*$/m, (heading) => `${heading}\n\nImport it from \`${entry}\`.`),
    );
  }
}

/** The tables of the page on options: those that are listed, then the others that are exported. */
function tablesOf(project) {
  const listed = new Set(OPTIONS.map(([name]) => name));
  const others = project.getReflectionsByKind(ReflectionKind.Interface)
    .filter(({ name, parent }) => parent === project && name.endsWith("Options") && !listed.has(name))
    .filter(({ children = [] }) => children.some((child) => child.inheritedFrom === undefined))
    .map(({ name, comment }) => [name, `\`${name}\``, words(comment?.summary ?? [])]);
  return [...OPTIONS, ...others];
}

function optionsPage(project) {
  const parts = tablesOf(project).flatMap(([name, title, use]) => {
    const found = project.getReflectionsByKind(ReflectionKind.Interface).find((
      reflection,
    ) => reflection.name === name);
    if (found === undefined) return [];
    const own = (found.children ?? []).filter((child) => child.inheritedFrom === undefined);
    const rows = own.map((child) => {
      const comment = child.comment ?? child.signatures?.[0]?.comment ??
        child.getSignature?.comment;
      const summary = words(comment?.summary ?? []);
      const value = comment?.blockTags?.find(({ tag }) => tag === "@default" || tag === "@defaultValue");
      const standard = value === undefined ? "" : words(value.content).replaceAll(/^`?\s*```ts|```$|[{}]|^\{|\}$/g, "")
        .trim();
      // Where there is no tag, a short sentence has it.
      const [sentence = "", told = ""] = standard === ""
        ? / ?By default ((?:[^.]|\.\d){1,30})\./.exec(summary) ?? []
        : [];
      const text = summary.replace(sentence, "").trim();
      const shown = standard === "null" ? "none" : standard === "" ? told : `\`${standard.replaceAll("`", "")}\``;
      return `| <span id="${name.toLowerCase()}-${child.name.toLowerCase()}">\`${child.name}\`</span> | ${shown} | ${text} |`;
    });
    return [
      `## ${title}\n\n${use} In the API: [\`${name}\`](./api/interfaces/${name}).\n\n` +
      `| option | default | meaning |\n| --- | --- | --- |\n${rows.join("\n")}\n`,
    ];
  });
  return `# Options and defaults

All options of the library, from its source. Times are in milliseconds and sizes in bytes. An option with a wrong name or
value is an error at the call, in words.

${parts.join("\n")}`;
}

/** The text of a comment as one line of Markdown. */
function words(parts) {
  return parts.map((part) => part.kind === "inline-tag" ? `\`${part.text.replaceAll("`", "")}\`` : part.text).join("")
    .replaceAll(/\s*\n\s*/g, " ").replaceAll("|", "\\|").replaceAll(
      /<(?=[A-Za-z])/g,
      "&lt;",
    ).trim();
}

export const apiFolder = relative(SITE, join(PAGES, "reference", "api"));
