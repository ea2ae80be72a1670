/** The sliders and the speeds. */

import type { Slider } from "./protocol";

export const SLIDERS: readonly {
  name: Slider;
  part: string;
  title: string;
  most: number;
  step: number;
  show(value: number): string;
}[] = [
  { name: "latencyMs", part: "latency", title: "Latency", most: 500, step: 5, show: (ms) => `${ms} ms` },
  { name: "jitterMs", part: "jitter", title: "Jitter", most: 500, step: 5, show: (ms) => `up to ${ms} ms` },
  {
    name: "bandwidth",
    part: "bandwidth",
    title: "Bandwidth",
    most: 1000,
    step: 10,
    show: (kilobytes) => kilobytes === 0 ? "no limit" : `${kilobytes} kB/s`,
  },
  { name: "segmentCut", part: "cut", title: "Segments cut in two", most: 100, step: 5, show: (part) => `${part} %` },
];

/** The title, and virtual milliseconds in a second. */
export const SPEEDS: readonly [string, number][] = [
  ["1/20", 50],
  ["1/10", 100],
  ["1/5", 200],
  ["1", 1000],
  ["10", 10_000],
  ["fastest", 1_000_000],
];
