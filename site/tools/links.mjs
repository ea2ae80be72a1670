/**
 * The page of each document of the repository, and the rewriting of its links.
 */

import { readdirSync } from "node:fs";
import { dirname, join, posix } from "node:path";

export const SITE = dirname(import.meta.dirname);
export const ROOT = dirname(SITE);
export const PAGES = join(SITE, "build", "pages");

/** The documents that become pages as they are: the file in the repository, and the page. */
export const DOCUMENTS = new Map([
  ["docs/install.md", "start/install.md"],
  ["docs/rules.md", "reference/rules.md"],
  ["docs/glossary.md", "reference/glossary.md"],
  ["docs/matrix.md", "reference/versions.md"],
  ["docs/adapters.md", "reference/adapters.md"],
  ["docs/migrating-from-node.md", "coming-from/node.md"],
  ["docs/migrating-from-libevent.md", "coming-from/libevent.md"],
  ["docs/performance.md", "performance/index.md"],
  ["docs/counts.md", "performance/counts.md"],
  ["docs/scaling.md", "performance/scaling.md"],
  ["docs/campaign.md", "performance/campaign.md"],
  ["docs/architecture.md", "why/architecture.md"],
  ["examples/README.md", "examples.md"],
  ["CHANGELOG.md", "changelog.md"],
  ["CONTRIBUTING.md", "contributing.md"],
  ["SECURITY.md", "security.md"],
]);
for (const name of readdirSync(join(ROOT, "docs", "decisions"))) {
  DOCUMENTS.set(
    `docs/decisions/${name}`,
    `why/decisions/${name === "README.md" ? "index.md" : name}`,
  );
}

/** The page of a link's target, as a path from the root of the site; undefined if the site does not have it. */
function pageOf(target, anchor, guide) {
  if (target === "docs/guide.md") return guide.pageOf(anchor);
  if (target === "docs/guarantees.md") return "/reference/guarantees";
  if (target === "README.md") return "/";
  const page = DOCUMENTS.get(target);
  return page === undefined ? undefined : `/${page.replace(/(^|\/)index\.md$/, "$1").replace(/\.md$/, "")}${anchor}`;
}

/**
 * Rewrites the links of a document. A link to a document leads to its page. A link to source code becomes the name of the
 * file: the site does not know where the repository is published.
 *
 * @param {string} text The document
 * @param {string} file Its path in the repository
 * @param {{ pageOf(anchor: string): string }} guide The pages of the sections of the guide
 */
export function rewriteLinks(text, file, guide) {
  const change = (label, target) => {
    if (/^(https?:|mailto:)/.test(target)) return undefined;
    const [path = "", hash] = target.split("#");
    const anchor = hash === undefined ? "" : `#${hash}`;
    if (path === "" && file !== "docs/guide.md") return undefined;
    const full = path === "" ? file : posix.normalize(posix.join(posix.dirname(file), path));
    const page = pageOf(full, anchor, guide);
    if (page !== undefined) return `[${label}](${page})`;
    return /`/.test(label) || label === full ? label : `${label} (\`${full}\`)`;
  };
  return outsideCode(text, (part) =>
    part
      .replace(/!\[([^\]]*)\]\(([^)\s]+\.svg)\)/g, (_all, label, target) =>
        `![${label}](/plots/${posix.basename(target)})`)
      .replace(
        /(?<!!)\[((?:`[^`]*`|[^\]`])*)\]\(([^)\s]+)\)/g,
        (all, label, target) =>
          change(label, target) ?? all,
      ));
}

/** Applies a function to text outside of fences. */
export function outsideCode(text, fn) {
  return text.split(/(^```[^\n]*\n[\s\S]*?^```$)/m).map((part, i) => i % 2 === 0 ? fn(part) : part).join("");
}

/** Escapes text that Vue would treat as a tag or an expression, so that it is shown unchanged. */
export function escapeVue(text) {
  return outsideCode(
    text,
    (part) =>
      part.split(/(`+[^`]*`+)/).map((piece, i) =>
        i % 2 === 1 ? piece : piece.replace(/<(?=[A-Za-z/])/g, "&lt;").replace(
          /\{\{/g,
          "&#123;&#123;",
        )
      ).join(""),
  );
}

/** The anchor of a heading, as VitePress makes it. */
export function slug(heading) {
  return heading.replaceAll("`", "").trim().toLowerCase().replace(
    /[^\p{L}\p{N}]+/gu,
    "-",
  ).replace(/^-|-$/g, "");
}
