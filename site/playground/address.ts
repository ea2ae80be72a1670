/** The address of a run: the seed and the sliders in the query, the program behind `#`. */

import type { FaultPlan } from "../../runtimes/sim.ts";
import type { Action, Settings } from "./protocol";

/** The content of an address. */
export interface Run {
  program: string;
  source: string | null;
  settings: Settings;
  actions: Action[];
  /** The faults that exploring has found. */
  plan: FaultPlan | null;
}

export const DEFAULTS: Settings = {
  seed: 1,
  latencyMs: 50,
  jitterMs: 0,
  bandwidth: 0,
  segmentCut: 0,
};
const SHORT = { latency: "latencyMs", jitter: "jitterMs", bandwidth: "bandwidth", cut: "segmentCut" } as const;
const WHAT = new Set(["partition", "heal", "crash", "restart", ...Object.values(SHORT)]);

/** Reads the address. What cannot be decoded is ignored. */
export function readAddress(query: string, hash: string): Run {
  const params = new URLSearchParams(query);
  const number = (name: string, standard: number): number => {
    const value = Number(params.get(name) ?? NaN);
    return Number.isFinite(value) && value >= 0 ? value : standard;
  };
  const settings: Settings = { ...DEFAULTS, seed: Math.floor(number("seed", DEFAULTS.seed)) };
  for (const [short, name] of Object.entries(SHORT)) settings[name] = number(short, DEFAULTS[name]);
  const actions: Action[] = [];
  for (const part of (params.get("actions") ?? "").split(",")) {
    const [at, what, value = ""] = part.split(":");
    if (WHAT.has(what ?? "") && Number.isFinite(Number(at))) {
      actions.push({ at: Number(at), what: what as Action["what"], value });
    }
  }
  return {
    program: params.get("program") ?? "",
    source: decode(hash.replace(/^#/, "")),
    settings,
    actions,
    plan: readPlan(params.get("plan") ?? ""),
  };
}

/** Writes the address of a run: the query and the hash. */
export function writeAddress({ program, source, settings, actions, plan }: Run): string {
  const params = new URLSearchParams({ seed: String(settings.seed) });
  if (program !== "") params.set("program", program);
  for (const [short, name] of Object.entries(SHORT)) {
    if (settings[name] !== DEFAULTS[name]) params.set(short, String(settings[name]));
  }
  if (plan !== null) params.set("plan", encode(JSON.stringify(plan)));
  if (actions.length > 0) params.set("actions", actions.map(({ at, what, value }) => `${at}:${what}:${value}`).join());
  return `?${params}${source === null ? "" : `#${encode(source)}`}`;
}

function encode(text: string): string {
  const bytes = new TextEncoder().encode(text);
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function decode(text: string): string | null {
  if (text === "") return null;
  try {
    const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    const source = new TextDecoder("utf-8", { fatal: true }).decode(
      Uint8Array.from(binary, (letter) => letter.charCodeAt(0)),
    );
    return source.includes("\u0000") ? null : source;
  } catch {
    return null;
  }
}

/** Reads a plan. The simulator checks its content. */
function readPlan(text: string): FaultPlan | null {
  try {
    const plan: unknown = JSON.parse(decode(text) ?? "null");
    return typeof plan === "object" ? plan as FaultPlan | null : null;
  } catch {
    return null;
  }
}
