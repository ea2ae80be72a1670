/** A plot with two logarithmic axes, as SVG. */

const WIDTH = 760;
const HEIGHT = 440;
const LEFT = 60;
const RIGHT = 230;
const TOP = 40;
const BOTTOM = 50;
const COLOURS = ["#3c873a", "#7fbf7b", "#1f6feb", "#79b8ff", "#c2410c", "#fdba74", "#444444", "#999999"];

/**
 * Draws curves of the time of an event over the number of idle connections.
 *
 * @param {readonly { name: string, points: readonly { x: number, y: number }[] }[]} curves
 * @returns {string} The SVG
 */
export function plot(curves) {
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
    `<text x="${LEFT}" y="22" font-size="14">Time of one event among N idle connections</text>`,
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
  lines.push(`<text x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 12}" text-anchor="middle">idle connections</text>`);
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

/** The powers of ten around all values. */
function decades(values) {
  const low = Math.floor(Math.log10(Math.min(...values)));
  const high = Math.ceil(Math.log10(Math.max(...values)));
  return [low, Math.max(high, low + 1)];
}
