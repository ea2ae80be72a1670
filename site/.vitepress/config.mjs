import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig } from "vitepress";
import { readGuide } from "../tools/guide.mjs";
import { PAGES } from "../tools/links.mjs";

/** The address of the site. The sitemap needs full addresses. */
const URL = process.env.SITE_URL ?? "https://trivent.example";
const BASE = process.env.SITE_BASE ?? "/";

const titleOf = (page) =>
  /^# (.*)$/m.exec(readFileSync(join(PAGES, page), "utf8"))?.[1]?.replaceAll(
    "`",
    "",
  ) ?? page;
/** The pages of a folder, in the order of their file names. */
const pagesOf = (folder) =>
  readdirSync(join(PAGES, folder)).filter((name) => name.endsWith(".md") && name !== "index.md").sort()
    .map((name) => ({
      text: titleOf(`${folder}/${name}`),
      link: `/${folder}/${name.slice(0, -3)}`,
    }));
/** An entry of the sidebar, if the page is there. */
const page = (text, link) => existsSync(join(PAGES, `${link.replace(/\/$/, "/index")}.md`)) ? [{ text, link }] : [];

const LEARN = [
  {
    text: "Start",
    items: [
      ...page("On Node", "/start/node"),
      ...page("On Deno", "/start/deno"),
      ...page("On Bun", "/start/bun"),
      ...page("Install from npm or JSR", "/start/install"),
      ...page("Playground", "/playground"),
    ],
  },
  {
    text: "Tutorial: a small Redis",
    items: existsSync(join(PAGES, "tutorial"))
      ? [
        { text: "What you will build", link: "/tutorial/" },
        ...pagesOf("tutorial"),
      ]
      : [],
  },
  {
    text: "Guide",
    items: [
      { text: "All tasks", link: "/guide/" },
      ...readGuide().pages.map(({ path, title }) => ({ text: title, link: `/guide/${path}` })),
    ],
  },
  {
    text: "Cookbook",
    items: existsSync(join(PAGES, "cookbook"))
      ? [
        { text: "All recipes", link: "/cookbook/" },
        ...pagesOf("cookbook"),
      ]
      : [],
  },
  {
    text: "Coming from",
    items: [
      ...page("node:net, Bun and Deno", "/coming-from/node"),
      ...page("libevent", "/coming-from/libevent"),
      ...page("Netty", "/coming-from/netty"),
      ...page("Feature table", "/coming-from/features"),
    ],
  },
];
const REFERENCE = [
  {
    text: "Reference",
    items: [
      ...page("Errors by code", "/reference/errors"),
      ...page("Options and defaults", "/reference/options"),
      ...page("What is guaranteed where", "/reference/guarantees"),
      ...page("Capabilities", "/reference/capabilities"),
      ...page("Supported versions", "/reference/versions"),
      ...page("Rules", "/reference/rules"),
      ...page("Glossary", "/reference/glossary"),
      ...page("Write an adapter", "/reference/adapters"),
      ...page("Examples", "/examples"),
      ...page("Changelog", "/changelog"),
    ],
  },
  {
    text: "API",
    items: [
      { text: "Overview", link: "/reference/api/" },
      ...["functions", "classes"]
        .filter((kind) => existsSync(join(PAGES, "reference/api", kind)))
        .map((kind) => ({
          text: kind.replace("-", " ").replace(
            /^./,
            (letter) => letter.toUpperCase(),
          ),
          items: readdirSync(join(PAGES, "reference/api", kind)).filter((
            name,
          ) => name.endsWith(".md")).sort()
            .map((name) => ({
              text: name.slice(0, -3),
              link: `/reference/api/${kind}/${name.slice(0, -3)}`,
            })),
        })),
    ],
  },
];
const WHY = [
  {
    text: "Why",
    items: [
      ...page("The design in pictures", "/why/"),
      ...page("How it is tested", "/why/tests"),
      ...page("Architecture", "/why/architecture"),
      ...page("Decisions", "/why/decisions/"),
      ...page("Contributing", "/contributing"),
      ...page("Security", "/security"),
    ],
  },
  {
    text: "Performance",
    items: [
      ...page("Performance", "/performance/"),
      ...page("Scaling", "/performance/scaling"),
      ...page("Campaign", "/performance/campaign"),
      ...page("Counts", "/performance/counts"),
    ],
  },
];

export default defineConfig({
  title: "Trivent",
  description: "TCP servers and clients in TypeScript: one program for Node, Deno, Bun and a simulated network.",
  lang: "en",
  base: BASE,
  srcDir: "build/pages",
  outDir: "dist",
  cacheDir: "build/cache",
  cleanUrls: false,
  metaChunk: true,
  ignoreDeadLinks: false,
  sitemap: { hostname: URL + BASE },
  head: [["link", {
    rel: "icon",
    href: `${BASE}icon.svg`,
    type: "image/svg+xml",
  }]],
  router: { prefetchLinks: false },
  markdown: {
    theme: {
      light: "github-light-high-contrast",
      dark: "github-dark-high-contrast",
    },
    languages: ["ts", "js", "sh", "json"],
    // A block that is indented has no highlighting, and scrolls on a phone: the keyboard must reach it.
    config(md) {
      md.renderer.rules.code_block = (tokens, i) =>
        `<pre tabindex="0"><code>${md.utils.escapeHtml(tokens[i].content)}</code></pre>\n`;
    },
  },
  vite: {
    build: { chunkSizeWarningLimit: 3000 },
    worker: { format: "es" },
    server: { fs: { allow: [".."] } },
  },
  themeConfig: {
    logo: "/icon.svg",
    nav: [
      { text: "Start", link: "/start/node", activeMatch: "/start/" },
      ...page("Tutorial", "/tutorial/"),
      { text: "Guide", link: "/guide/", activeMatch: "/guide/" },
      ...page("Cookbook", "/cookbook/"),
      ...page("Playground", "/playground"),
      {
        text: "Reference",
        link: "/reference/errors",
        activeMatch: "/reference/",
      },
      { text: "Performance", link: "/performance/", activeMatch: "/performance/" },
      { text: "Why", link: "/why/", activeMatch: "/why/" },
    ],
    sidebar: {
      "/reference/": REFERENCE,
      "/examples": REFERENCE,
      "/changelog": REFERENCE,
      "/why/": WHY,
      "/performance/": WHY,
      "/contributing": WHY,
      "/security": WHY,
      "/": LEARN.filter(({ items }) => items.length > 0),
    },
    outline: { level: [2, 3] },
    externalLinkIcon: true,
    notFound: { linkLabel: "Take me home" },
    search: {
      provider: "local",
      options: {
        detailedView: false,
        miniSearch: {
          options: {
            // A C name is one word, and its parts are words too.
            tokenize: (text) => {
              const words = text.split(/[^\p{L}\p{N}_]+/u).filter((word) => word !== "");
              return words.concat(
                words.filter((word) => word.includes("_")).flatMap((word) => word.split("_")),
              );
            },
          },
          searchOptions: {
            combineWith: "AND",
            fuzzy: 0.1,
            prefix: true,
            boost: { title: 4, text: 2, titles: 1 },
            tokenize: (text) => text.split(/[^\p{L}\p{N}_]+/u).filter((word) => word !== ""),
          },
        },
      },
    },
  },
});
