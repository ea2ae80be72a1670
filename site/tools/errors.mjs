/**
 * The page of errors by code. It fails when the source has a code that the page lacks, or the other way round.
 */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ERRORS, INTERNAL } from "../data/errors.mjs";
import { ROOT } from "./links.mjs";

/** All codes that the source of the library has in a string. */
export function codesInSource() {
  const codes = new Map();
  for (const folder of ["core", "runtimes", "bridges"]) {
    for (const name of readdirSync(join(ROOT, folder), { recursive: true })) {
      if (!name.endsWith(".ts")) continue;
      const text = readFileSync(join(ROOT, folder, name), "utf8");
      for (
        const [, code] of text.matchAll(
          /"(EV_[A-Z_]+|ERR_TLS_[A-Z]+|SIM_[A-Z]+|EAI_[A-Z]+|E[A-Z]{3,})"/g,
        )
      ) {
        if (!codes.has(code)) codes.set(code, `${folder}/${name}`);
      }
    }
  }
  return codes;
}

export function errorsPage() {
  const told = new Set([
    ...ERRORS.flatMap(([, , codes]) => Object.keys(codes)),
    ...INTERNAL,
  ]);
  const source = codesInSource();
  const missing = [...source].filter(([code]) => !told.has(code)).map((
    [code, file],
  ) => `${code} (${file})`);
  if (missing.length > 0) {
    throw new Error(
      `site/data/errors.mjs does not explain ${missing.join(", ")}`,
    );
  }
  const gone = [...told].filter((code) => !source.has(code));
  if (gone.length > 0) {
    throw new Error(
      `site/data/errors.mjs explains codes that the source does not have: ${gone.join(", ")}`,
    );
  }
  const parts = ERRORS.map(([title, about, codes]) =>
    `## ${title}\n\n${about}\n\n` +
    Object.entries(codes).map(([code, [happened, todo]]) =>
      `### \`${code}\` {#${code.toLowerCase()}}\n\n**What happened.** ${happened}\n\n**What to do.** ${todo}\n`
    ).join("\n")
  );
  return `# Errors by code

Every failure at run time is an \`EventError\`. Compare its \`code\`: codes are the same on every runtime and stay, messages
may change. \`cause\` is the runtime's own error, if there is one.

\`\`\`ts
import { connect, EventError } from "trivent";

try {
  await connect({ hostname: "127.0.0.1", port: 1, timeoutMs: 1000 });
} catch (error) {
  if (!(error instanceof EventError)) throw error; // a mistake in this program
  console.log(error.code); // ECONNREFUSED
}
\`\`\`

An argument of the wrong type or out of range is a \`TypeError\` or a \`RangeError\`, at the call.

${parts.join("\n")}`;
}
