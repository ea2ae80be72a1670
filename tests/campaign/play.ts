// Plays one program. Its actors act while faults happen. Then the faults end, and everything must reach its end.

import { simRuntime } from "../../runtimes/sim.ts";
import { checks, found, setChecking } from "../core/socket/checked.ts";
import { Datagrams } from "./actors/datagrams.ts";
import { Listening } from "./actors/listener.ts";
import { Pairs } from "./actors/pair.ts";
import { Relay } from "./actors/relay.ts";
import { Service } from "./actors/service.ts";
import { Waiting } from "./actors/waiting.ts";
import { ACTIVE_MS, type ActorPlan, type Plan } from "./plan.ts";
import { Troubles } from "./troubles.ts";
import { type Actor, World } from "./world.ts";

const ACTORS: Record<string, (new (world: World, plan: ActorPlan, number: number) => Actor) | undefined> = {
  service: Service,
  pair: Pairs,
  listener: Listening,
  relay: Relay,
  datagrams: Datagrams,
  waiting: Waiting,
};

/** The kinds of actors that there are. */
export const ALL_KINDS: readonly ActorPlan["kind"][] = Object.keys(ACTORS) as ActorPlan["kind"][];

/** How long everything may take to reach its end after the last fault, in virtual milliseconds. */
const CALM_MS = 70_000;
const STOP_MS = 65_000;

/** In which programs the tables of states are checked after each call; it doubles the time that a program takes. */
const TABLES_EVERY = 4;
/**
 * After how many such programs without a check in a row something is wrong. A bundle may have a second copy of the classes:
 * the checks would then watch what no program uses. A single program may have no connection, as when its hosts crash at once.
 */
const MOST_UNCHECKED = 20;
let unchecked = 0;

/** The result of a program. */
export interface Outcome {
  /** The fault that was found, or null. */
  error: Error | null;
  /** The hash of the run. */
  hash: string;
  /** The log. */
  log: readonly string[];
}

/**
 * Plays a program.
 *
 * @param plan The program
 * @param logs Whether the log is kept
 */
export async function play(plan: Plan, logs: boolean = false): Promise<Outcome> {
  const { rates } = plan;
  const sim = simRuntime({
    seed: plan.seed,
    latencyMs: rates.latencyMs,
    tcpTimeoutMs: 20_000,
    // A message in pieces of a few bytes takes many.
    maxSteps: 2_000_000,
    faults: {
      jitterMs: rates.jitterMs,
      bandwidth: rates.bandwidth ?? Infinity,
      segmentCut: rates.segmentCut,
      connectionReset: rates.connectionReset,
      connectRefused: rates.connectRefused,
      connectLost: rates.connectLost,
      datagramLost: rates.datagramLost,
      datagramDoubled: rates.datagramDoubled,
      datagramReordered: rates.datagramReordered,
      datagramCorrupted: rates.datagramCorrupted,
    },
  });
  const world = new World(sim, plan, logs);
  let error: Error | null = null;
  found.length = 0;
  const before = checks;
  const checking = plan.seed % TABLES_EVERY === 0;
  setChecking(checking);
  try {
    await act(world);
  } catch (thrown) {
    error = thrown instanceof Error ? thrown : new Error(String(thrown));
  }
  // A broken state is the cause of what comes after it.
  if (found.length > 0) error = found[0] as Error;
  if (checking && world.halves.length > 0) {
    unchecked = checks === before ? unchecked + 1 : 0;
    if (unchecked === MOST_UNCHECKED) error ??= new Error(`no table of states was checked in ${unchecked} programs`);
  }
  return { error, hash: sim.hash, log: world.log ?? [] };
}

async function act(world: World): Promise<void> {
  const { sim, plan } = world;
  const troubles = new Troubles(world);
  plan.actors.forEach((actor, number) => {
    const Class = ACTORS[actor.kind];
    if (Class !== undefined) world.actors.push(new Class(world, actor, number));
  });
  const queue = [...plan.troubles];
  for (;;) {
    const at = Math.min(queue[0]?.at ?? ACTIVE_MS, troubles.next, ACTIVE_MS);
    await sim.advance(Math.max(0, at - sim.now()));
    world.verify();
    troubles.repair(sim.now());
    while (queue[0] !== undefined && queue[0].at <= sim.now()) troubles.cause(queue.shift()!);
    if (sim.now() >= ACTIVE_MS) break;
  }
  world.note("calm");
  world.isCalm = true;
  troubles.end();
  for (const actor of world.actors) actor.calm?.();
  // Once more: what was suspended may just have brought something in.
  await sim.advance(3000);
  for (const actor of world.actors) actor.calm?.();
  await sim.advance(CALM_MS);
  world.checkBytes(true);
  for (const speaker of world.speakers) speaker.checkDrained();
  for (const actor of world.actors) actor.check?.();
  world.verify();
  world.note("stop");
  world.isStopping = true;
  for (const actor of world.actors) actor.stop?.();
  await sim.advance(STOP_MS);
  world.checkBytes(false);
  for (const actor of world.actors) actor.checkStopped?.();
  await world.end();
}
