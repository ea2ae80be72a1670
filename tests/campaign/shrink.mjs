/** Plays a plan, and makes a plan that fails as small as it can be. */

/** What nobody has handled, in this thread. */
const unhandled = [];
process.on("unhandledRejection", (error) => unhandled.push(error));

/**
 * Plays a plan; a rejection that nobody handles is a failure, too.
 *
 * @param {{ play: Function }} campaign The bundle
 * @param {object} plan
 * @param {boolean} [logs]
 * @returns {Promise<{ error: Error | null, log: readonly string[], hash: string }>}
 */
export async function playAlone({ play }, plan, logs = false) {
  unhandled.length = 0;
  const outcome = await play(plan, logs);
  // Node tells of them when the microtasks are through.
  await new Promise((resolve) => setImmediate(resolve));
  const [first] = unhandled;
  if (outcome.error !== null || first === undefined) return outcome;
  return { ...outcome, error: new Error(`a rejection that nobody handles: ${first?.stack ?? first}`) };
}

/** Failures with the same text, numbers aside, count as the same. */
function kindOf(message) {
  return message.split(";")[0].replace(/[\d.]+/g, "N").replace(/^\S+ N\/N\S*/, "X").slice(0, 80);
}

/**
 * Makes a plan smaller as long as it fails in the same way.
 *
 * @param {{ play: Function, CALM: object }} campaign The bundle
 * @param {object} plan
 * @param {string} message How it fails
 * @param {number} [most] How many runs that may take
 * @returns {Promise<object>}
 */
export async function shrink(campaign, plan, message, most = 400) {
  const kind = kindOf(message);
  let runs = 0;
  const fails = async (candidate) => {
    if (runs++ >= most) return false;
    const { error } = await playAlone(campaign, candidate);
    return error !== null && kindOf(error.message) === kind;
  };
  let best = plan;
  for (let again = true; again && runs < most;) {
    again = false;
    for (const candidate of smaller(best, campaign.CALM)) {
      if (!await fails(candidate)) continue;
      best = candidate;
      again = true;
      break;
    }
  }
  return best;
}

/** Plans with something less, the largest steps first. */
function* smaller(plan, calm) {
  const without = (list, i) => list.filter((_, j) => j !== i);
  const { actors, troubles, rates } = plan;
  for (let i = 0; actors.length > 1 && i < actors.length; i++) yield { ...plan, actors: without(actors, i) };
  if (troubles.length > 1) yield { ...plan, troubles: [] };
  for (let i = 0; i < troubles.length; i++) yield { ...plan, troubles: without(troubles, i) };
  for (const [i, actor] of actors.entries()) {
    // Parts of an actor: which of its clients are there.
    const parts = actor.only ?? [0, 1, 2, 3];
    for (let j = 0; parts.length > 1 && j < parts.length; j++) {
      yield { ...plan, actors: actors.with(i, { ...actor, only: without(parts, j) }) };
    }
    for (const messages of [0, 1, 2, 5, 10]) {
      if (messages >= (actor.messages ?? Infinity)) break;
      yield { ...plan, actors: actors.with(i, { ...actor, messages }) };
    }
  }
  for (const name of Object.keys(rates)) {
    if (JSON.stringify(rates[name]) === JSON.stringify(calm[name])) continue;
    yield { ...plan, rates: { ...rates, [name]: calm[name] } };
  }
}
