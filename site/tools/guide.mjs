/**
 * The guide, one page for each task. The text is that of `docs/guide.md`: this file only assigns
 * sections to pages.
 */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT, slug } from "./links.mjs";

/** The pages in the order of the sidebar: the path, the title, and the sections of the document. */
export const GUIDE = [
  ["servers-and-clients", "Write a server and a client", [
    "Servers and clients",
  ]],
  ["messages", "Read lines and messages", ["Lines and messages"]],
  ["memory", "Write without filling memory", ["Memory"]],
  ["time", "Set time limits", ["Time"]],
  ["limits", "Limit the clients", ["Limits on clients"]],
  ["failures", "Handle failures", ["When something fails"]],
  ["ending", "End a connection, stop a server", ["How a connection ends"]],
  ["reconnect", "Reconnect", ["Clients that come back"]],
  ["vanished-peers", "Find peers that have vanished", ["Peers that vanish"]],
  ["tls", "TLS and certificates", ["TLS"]],
  ["behind-a-proxy", "Behind HAProxy or a load balancer", [
    "Behind a proxy or load balancer",
  ]],
  ["many-cores", "Many cores, many machines", ["Many cores, many machines"]],
  ["through-a-proxy", "Connect through a SOCKS or HTTP proxy", [
    "Connecting through a proxy",
  ]],
  ["streams", "Node streams and web streams", ["Web streams"]],
  ["libraries", "Use it under http, ws, mqtt, pg, ssh2", [
    "Use it under http, ws, mqtt, pg and ssh2",
  ]],
  ["figures", "See what happens", ["Figures"]],
  ["what-costs-what", "What costs what", ["What costs what"]],
  ["simulator", "Test with the simulator", ["Tests with the simulator"]],
  ["broken-network", "Test under a broken network", [
    "Test your server under a broken network",
  ]],
  ["buffers", "Buffers and files", ["Buffers"]],
  ["filters", "Compress and convert", ["Filters"]],
  ["event-loop", "The loop and bufferevents of your own", [
    "The loop",
    "Bufferevents of your own",
  ]],
  ["datagrams", "Send datagrams to many", ["Datagrams to many"]],
  ["permissions", "Permissions", ["Permissions"]],
];

/** Reads the sections of the guide. A section that no page has gets a page of its own, so that nothing is lost. */
export function readGuide() {
  const text = readFileSync(join(ROOT, "docs", "guide.md"), "utf8");
  const [, ...parts] = text.split(/^## (?=\S)/m);
  const sections = new Map(parts.map((part) => {
    const end = part.indexOf("\n");
    return [part.slice(0, end).trim(), part.slice(end + 1).trim()];
  }));
  const pages = GUIDE.map(([path, title, names]) => ({
    path,
    title,
    names: names.filter((name) => sections.has(name)),
  }));
  const placed = new Set(pages.flatMap(({ names }) => names));
  for (const name of sections.keys()) {
    if (!placed.has(name)) {
      pages.push({ path: slug(name), title: name, names: [name] });
    }
  }
  const places = new Map();
  for (const { path, names } of pages) {
    for (const name of names) {
      places.set(
        slug(name),
        `/guide/${path}${names.length === 1 ? "" : `#${slug(name)}`}`,
      );
      for (
        const [, heading] of (sections.get(name) ?? "").matchAll(/^### (.*)$/gm)
      ) {
        places.set(slug(heading), `/guide/${path}#${slug(heading)}`);
      }
    }
  }
  return {
    pages: pages.filter(({ names }) => names.length > 0),
    pageOf: (anchor) => places.get(anchor.slice(1)) ?? "/guide/",
    textOf: ({ title, names }) => {
      const [name] = names;
      if (names.length === 1) {
        return `# ${title}\n\n${(sections.get(name) ?? "").replaceAll(/^### /gm, "## ")}\n`;
      }
      return `# ${title}\n\n${names.map((part) => `## ${part}\n\n${sections.get(part)}\n`).join("\n")}`;
    },
  };
}
