/**
 * `llms.txt`: the list of pages, and `llms-full.txt`: the pages themselves, for programs that read
 * text.
 */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PAGES, SITE } from "./links.mjs";

const BASE = process.env.SITE_BASE ?? "/";
/** The parts of the list, and the folders of each. */
const SECTIONS = [
  ["Start", ["start/"]],
  ["Tutorial", ["tutorial/"]],
  ["Guide", ["guide/"]],
  ["Cookbook", ["cookbook/"]],
  ["Coming from", ["coming-from/"]],
  ["Reference", ["reference/"]],
  ["Performance", ["performance/"]],
  ["Why", ["why/"]],
  ["More", [""]],
];

export function writeLlms() {
  const names = readdirSync(PAGES, { recursive: true }).filter((name) => name.endsWith(".md")).sort();
  const pages = names.map((name) => {
    const text = readFileSync(join(PAGES, name), "utf8").replace(
      /^---\n[\s\S]*?\n---\n/,
      "",
    );
    const title = /^# (.*)$/m.exec(text)?.[1] ?? name;
    return {
      url: `/${name.replace(/\.md$/, ".html")}`,
      name,
      text,
      title: title.replaceAll("`", ""),
    };
  });
  const inApi = ({ name }) => name.startsWith("reference/api/");
  const inDecisions = ({ name }) => name.startsWith("why/decisions/");
  const line = ({ title, url }) => `- [${title}](${BASE}${url.slice(1)})`;
  const own = pages.filter((page) => !inApi(page) && !inDecisions(page));
  const sections = SECTIONS.map(([title, folders]) => {
    const listed = folders.flatMap((folder) =>
      own.filter(({ name }) => folder === "" ? !name.includes("/") : name.startsWith(folder))
    );
    return `## ${title}\n\n${listed.map(line).join("\n")}\n`;
  });
  const head = `# Trivent

> A library for TCP servers and clients in JavaScript and TypeScript. One program runs on Node, Deno and Bun, and in a
> simulator with a virtual clock. It splits bytes into messages and limits the memory and the time of every connection.
`;
  writeFileSync(
    join(SITE, "dist", "llms.txt"),
    `${head}\n${sections.join("\n")}\n## API\n\n${pages.filter(inApi).map(line).join("\n")}\n` +
      `\n## Optional\n\n${pages.filter(inDecisions).map(line).join("\n")}\n`,
  );
  writeFileSync(
    join(SITE, "dist", "llms-full.txt"),
    `${head}\n${own.map(({ url, text }) => `<!-- ${url} -->\n${text.trim()}\n`).join("\n")}`,
  );
}
