/** Tables of text, for the terminal and for Markdown. */

/** @param {readonly (readonly string[])[]} rows The first is the head. @param {number} [left] How many columns begin at the left */
export function layOut(rows, left = rows[0].length) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  const line = (row) =>
    row.map((cell, i) => i < left ? cell.padEnd(widths[i]) : cell.padStart(widths[i])).join("  ").trimEnd();
  return [line(rows[0]), widths.map((width) => "-".repeat(width)).join("  "), ...rows.slice(1).map(line)].join("\n");
}

/** As `deno fmt` lays it out. @param {readonly (readonly string[])[]} rows */
export function markdown(rows) {
  const cells = rows.map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = cells[0].map((_, i) => Math.max(3, ...cells.map((row) => width(row[i]))));
  const line = (row) => `| ${row.map((cell, i) => cell + " ".repeat(widths[i] - width(cell))).join(" | ")} |`;
  return [line(cells[0]), `| ${widths.map((each) => "-".repeat(each)).join(" | ")} |`, ...cells.slice(1).map(line)]
    .join("\n");
}

/** In columns of a terminal: the coloured circles take two. */
function width(text) {
  return [...text].reduce((sum, letter) => sum + (letter.codePointAt(0) > 0xffff ? 2 : 1), 0);
}
