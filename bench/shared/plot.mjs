/** Plots as SVG: curves over two logarithmic axes, and bars. */

const WIDTH = 760;
const HEIGHT = 440;
const LEFT = 60;
const RIGHT = 230;
const TOP = 40;
const BOTTOM = 50;
const COLOURS = ["#3c873a", "#7fbf7b", "#1f6feb", "#79b8ff", "#c2410c", "#fdba74", "#444444", "#999999"];

/**
 * Draws curves of microseconds over a number.
 *
 * @param {readonly { name: string, points: readonly { x: number, y: number }[] }[]} curves
 * @param {{ title: string, below: string }} texts
 * @returns {string} The SVG
 */
export function plot(curves, { title, below }) {
  const xs = curves.flatMap(({ points }) => points.map(({ x }) => x));
  const ys = curves.flatMap(({ points }) => points.map(({ y }) => y));
  const [x0, x1] = decades(xs);
  const [y0, y1] = decades(ys);
  const place = (value, low, high, from, to) => from + (Math.log10(value) - low) / (high - low) * (to - from);
  const x = (value) => place(value, x0, x1, LEFT, WIDTH - RIGHT).toFixed(1);
  const y = (value) => place(value, y0, y1, HEIGHT - BOTTOM, TOP).toFixed(1);
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`,
    `<text x="${LEFT}" y="22" font-size="14">${title}</text>`,
  ];
  for (let power = x0; power <= x1; power++) {
    const at = x(10 ** power);
    lines.push(
      `<line x1="${at}" y1="${TOP}" x2="${at}" y2="${HEIGHT - BOTTOM}" stroke="#ddd"/>`,
      `<text x="${at}" y="${HEIGHT - BOTTOM + 18}" text-anchor="middle">${(10 ** power).toLocaleString("en")}</text>`,
    );
  }
  for (let power = y0; power <= y1; power++) {
    const at = y(10 ** power);
    lines.push(
      `<line x1="${LEFT}" y1="${at}" x2="${WIDTH - RIGHT}" y2="${at}" stroke="#ddd"/>`,
      `<text x="${LEFT - 8}" y="${Number(at) + 4}" text-anchor="end">${10 ** power} µs</text>`,
    );
  }
  lines.push(`<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 12}" text-anchor="middle">${below}</text>`);
  curves.forEach(({ name, points }, i) => {
    const colour = COLOURS[i % COLOURS.length];
    const path = points.map((point) => `${x(point.x)},${y(point.y)}`).join(" ");
    lines.push(`<polyline points="${path}" fill="none" stroke="${colour}" stroke-width="2"/>`);
    for (const point of points) lines.push(`<circle cx="${x(point.x)}" cy="${y(point.y)}" r="3" fill="${colour}"/>`);
    const row = TOP + 10 + i * 20;
    lines.push(
      `<rect x="${WIDTH - RIGHT + 15}" y="${row - 9}" width="12" height="12" fill="${colour}"/>`,
      `<text x="${WIDTH - RIGHT + 33}" y="${row + 1}">${name}</text>`,
    );
  });
  return `${lines.join("\n")}\n</svg>\n`;
}

/**
 * Draws a bar for each value, from zero.
 *
 * @param {readonly { name: string, value: number, ours: boolean }[]} bars
 * @param {{ title: string }} texts
 * @returns {string} The SVG
 */
export function plotBars(bars, { title }) {
  const step = 24;
  const left = 170;
  const height = TOP + bars.length * step + 20;
  const scale = (WIDTH - left - 80) / Math.max(...bars.map(({ value }) => value));
  const rows = bars.flatMap(({ name, value, ours }, i) => {
    const y = TOP + i * step;
    const width = Math.max(1, value * scale);
    return [
      `<text x="${left - 8}" y="${y + 14}" text-anchor="end">${name}</text>`,
      `<rect x="${left}" y="${y + 2}" width="${width.toFixed(1)}" height="16" fill="${ours ? "#1f6feb" : "#bbb"}"/>`,
      `<text x="${(left + width + 6).toFixed(1)}" y="${y + 14}">${value.toFixed(value < 1 ? 3 : 2)}</text>`,
    ];
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${height}" fill="white"/>`,
    `<text x="12" y="22" font-size="14">${title}</text>`,
    ...rows,
    "</svg>\n",
  ].join("\n");
}

/**
 * Draws a row of dots for each workload, one for each runtime, on a logarithmic axis, and a mark where its goal is.
 *
 * @param {readonly { name: string, limit: number, values: readonly (number | undefined)[] }[]} rows
 * @param {{ title: string }} texts
 * @returns {string} The SVG
 */
export function plotRatios(rows, { title }) {
  const step = 18;
  const left = 330;
  const bottom = TOP + 20 + rows.length * step;
  const values = rows.flatMap((row) => [row.limit, ...row.values.filter((each) => each !== undefined)]);
  const [low, high] = [Math.min(0.5, ...values), Math.max(2, ...values)].map(Math.log2);
  const x = (value) => (left + (Math.log2(value) - low) / (high - low) * (WIDTH - left - 30)).toFixed(1);
  const colours = [COLOURS[0], COLOURS[2], COLOURS[4]];
  const lines = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${
      bottom + 30
    }" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${bottom + 30}" fill="white"/>`,
    `<text x="12" y="22" font-size="14">${title}</text>`,
  ];
  ["Node", "Deno", "Bun"].forEach((name, i) => {
    const at = WIDTH - 210 + i * 65;
    lines.push(`<circle cx="${at}" cy="18" r="5" fill="${colours[i]}"/>`, `<text x="${at + 9}" y="22">${name}</text>`);
  });
  for (let power = Math.ceil(low); power <= high; power++) {
    const at = x(2 ** power);
    lines.push(
      `<line x1="${at}" y1="${TOP}" x2="${at}" y2="${bottom}" stroke="${power === 0 ? "#888" : "#ddd"}"/>`,
      `<text x="${at}" y="${bottom + 18}" text-anchor="middle">${2 ** power}</text>`,
    );
  }
  rows.forEach(({ name, limit, values }, row) => {
    const y = TOP + 14 + row * step;
    const goal = x(limit);
    lines.push(
      `<text x="${left - 8}" y="${y + 4}" text-anchor="end">${name.replaceAll("`", "")}</text>`,
      `<line x1="${goal}" y1="${y - 7}" x2="${goal}" y2="${y + 7}" stroke="#000" stroke-width="2"/>`,
    );
    values.forEach((value, i) => {
      if (value === undefined) return;
      lines.push(`<circle cx="${x(value)}" cy="${y}" r="5" fill="${colours[i]}" fill-opacity="0.8"/>`);
    });
  });
  return `${lines.join("\n")}\n</svg>\n`;
}

/** The powers of ten around all values. */
function decades(values) {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.ceil(Math.log10(Math.max(...values)));
  return [low, Math.max(high, low + 1)];
}
