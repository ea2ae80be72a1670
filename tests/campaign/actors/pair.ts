// A pair of bufferevents, with layers on each end.

import {
  BEV_OPT_CLOSE_ON_FREE,
  BEV_OPT_DEFER_CALLBACKS,
  type BufferEvent,
  bufferEventPair,
  EV_READ,
} from "../../../core/mod.ts";
import { chooseFormat } from "../formats.ts";
import { chooseLayers, cover } from "../layers.ts";
import type { ActorPlan } from "../plan.ts";
import { chooseManner, Speaker } from "../speaker.ts";
import { type Actor, part, type World } from "../world.ts";

/** Some pairs on one host. */
export class Pairs implements Actor {
  readonly #speakers: Speaker[] = [];

  constructor(world: World, { seed, only, messages = Infinity }: ActorPlan, number: number) {
    const dice = part(seed, 0);
    const host = world.host(`p${number}`);
    for (let i = 1 + dice.below(3); i > 0; i--) {
      const format = chooseFormat(dice);
      const layers = chooseLayers(dice, 2);
      const defers = dice.below(2) === 0;
      const eofOnFree = dice.below(5) > 0;
      const atMs = dice.below(500);
      const manners = [chooseManner(dice, format), chooseManner(dice, format)];
      if (only?.includes(i) === false) continue;
      world.later(host, atMs, () => {
        const flags = BEV_OPT_CLOSE_ON_FREE | (defers ? BEV_OPT_DEFER_CALLBACKS : 0);
        const ends: readonly BufferEvent[] = bufferEventPair(world.base(host), flags, { eofOnFree });
        const speakers = ends.map((end, side) => {
          let manner = manners[side] as typeof manners[number];
          manner = { ...manner, messages: Math.min(manner.messages, messages) };
          // A filter does not tell a writer of a web stream more than it tells others.
          if (layers.length > 0 && manner.writing === "web") manner = { ...manner, writing: "script" };
          const speaker = new Speaker(
            world,
            host,
            `pair ${number}/${i}/${side}`,
            format,
            manner,
            seed + i * 31 + side,
            {
              owned: false,
              events: true,
              defers: true,
            },
          );
          world.note(`${speaker.half.name}: ${JSON.stringify({ ...manner, layers, format: format.kind, eofOnFree })}`);
          // It is not told that the other end is gone.
          if (!eofOnFree) speaker.half.middlebox = true;
          this.#speakers.push(speaker);
          end.setCallbacks(speaker.callbacks());
          speaker.attach(cover(end, layers, speaker));
          return speaker;
        });
        const [a, b] = speakers as [Speaker, Speaker];
        a.half.meet(b.half);
        for (const each of [a, b]) {
          void each.open();
          if (!each.over && each.half.deaf === null) each.bev.enable(EV_READ);
        }
      });
    }
  }

  calm(): void {
    for (const speaker of this.#speakers) speaker.calm();
  }

  stop(): void {
    for (const speaker of this.#speakers) if (!speaker.over) speaker.close(20_000);
  }

  checkStopped(): void {
    for (const speaker of this.#speakers) speaker.checkReferences();
  }
}
