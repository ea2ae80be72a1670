/** The messages between the page and its worker. */

import type { FaultPlan } from "../../runtimes/sim.ts";

/** The settings before the run. */
export interface Settings {
  seed: number;
  latencyMs: number;
  jitterMs: number;
  /** Kilobytes a second; 0 for no limit. */
  bandwidth: number;
  /** Per cent of the segments. */
  segmentCut: number;
}

/** The names of the sliders. */
export type Slider = "latencyMs" | "jitterMs" | "bandwidth" | "segmentCut";

/** An action of the reader at a moment of virtual time. */
export interface Action {
  at: number;
  what: "partition" | "heal" | "crash" | "restart" | Slider;
  /** A host, or a value. */
  value: string;
}

/** A line of the list of events. */
export interface Happening {
  at: number;
  kind: string;
  text: string;
}

/** A packet on its way. */
export interface Flight {
  id: number;
  from: string;
  to: string;
  sent: number;
  arrives: number;
  bytes: number;
  /** Its content, shortened; empty for packets without any. */
  text: string;
}

/** A host, as the page draws it. */
export interface HostState {
  name: string;
  down: boolean;
  listens: boolean;
}

/** A line between two hosts. */
export interface LinkState {
  a: string;
  b: string;
  connections: number;
  cut: boolean;
}

/** A message of the page. */
export type Command =
  | { type: "run"; source: string; settings: Settings; actions: Action[]; plan: FaultPlan | null; speed: number }
  | { type: "speed"; speed: number }
  | { type: "pause" | "resume" | "step" | "pcap" }
  | { type: "action"; action: Omit<Action, "at"> }
  | { type: "explore"; source: string; settings: Settings; runs: number };

/** A message of the worker. */
export type News =
  | { type: "ready" }
  | {
    type: "tick";
    now: number;
    happenings: Happening[];
    flights: Flight[];
    hosts: HostState[];
    links: LinkState[];
    hash: string;
  }
  | { type: "action"; action: Action }
  | { type: "ended"; error: string | null }
  | { type: "pcap"; bytes: Uint8Array }
  | { type: "exploring"; runs: number; shrinking: number }
  | { type: "explored"; runs: number; seed: number; error: string; plan: FaultPlan | null };
