/**
 * Fills `site/build/pages/` with all pages: those of `site/pages/`, and those that are made from
 * the repository.
 */

import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { makeApi } from "./api.mjs";
import { capabilitiesPage } from "./capabilities.mjs";
import { errorsPage } from "./errors.mjs";
import { readGuide } from "./guide.mjs";
import { guaranteesPage } from "./guarantees.mjs";
import { DOCUMENTS, escapeVue, PAGES, rewriteLinks, ROOT, SITE } from "./links.mjs";

/**
 * Makes the pages.
 *
 * @param {{ api?: boolean }} [options] Without `api` the pages of the API stay as they are: reading the source takes seconds
 */
export async function makePages({ api = true } = {}) {
  if (api) rmSync(PAGES, { recursive: true, force: true });
  const guide = readGuide();
  const write = (page, text) => {
    mkdirSync(dirname(join(PAGES, page)), { recursive: true });
    writeFileSync(join(PAGES, page), text);
  };
  if (api) await makeApi(write);
  cpSync(join(SITE, "pages"), PAGES, { recursive: true });
  for (const name of readdirSync(join(SITE, "pages"), { recursive: true })) {
    if (name.endsWith(".md")) {
      write(
        name,
        withPrograms(readFileSync(join(SITE, "pages", name), "utf8"), name),
      );
    }
  }
  for (const [file, page] of DOCUMENTS) {
    if (!existsSync(join(ROOT, file))) continue;
    write(
      page,
      fromDocument(readFileSync(join(ROOT, file), "utf8"), file, guide),
    );
  }
  for (const page of guide.pages) {
    write(
      `guide/${page.path}.md`,
      fromDocument(guide.textOf(page), "docs/guide.md", guide),
    );
  }
  write("reference/errors.md", errorsPage());
  write("reference/guarantees.md", guaranteesPage());
  write("reference/capabilities.md", await capabilitiesPage());
  cpSync(join(ROOT, "bench", "results"), join(PAGES, "public", "plots"), {
    recursive: true,
    filter: (path) => !/\.[a-z]+$/.test(path) || path.endsWith(".svg"),
  });
}

function fromDocument(text, file, guide) {
  return escapeVue(
    rewriteLinks(text.replaceAll(/^```ts ignore$/gm, "```ts"), file, guide),
  );
}

/** Puts programs of the repository into a page: a fence with `file=examples/…` and nothing in it. */
function withPrograms(text, page) {
  return text.replaceAll(
    /^```(\w+) file=(\S+)\n```$/gm,
    (_all, language, file) => {
      const path = join(ROOT, file);
      if (!existsSync(path)) {
        throw new Error(
          `site/pages/${page} shows ${file}, which is not there`,
        );
      }
      return `\`\`\`${language}\n${readFileSync(path, "utf8").trimEnd()}\n\`\`\``;
    },
  );
}
