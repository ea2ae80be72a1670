// Several machines with the same keys. Each sends the others the present value of a key, not the command. So a
// message about a key may come twice, or late, without harm.
import { errors } from "@nats-io/nats-core";
import { EvBuffer } from "trivent";
import { resp } from "./resp.mjs";

const CHANGES = "redis.changes";
const EVERYTHING = "redis.everything";
/** The number of messages that are sent before the broker must have accepted them. */
const BATCH = 500;
/** A machine that was away for longer than this may bring a deleted key back. */
const REMEMBER_MS = 24 * 3_600_000;

/** Keeps the keys of a store equal to those of the other machines. */
export class Replica {
  #store;
  #nats;
  #now;
  #name = crypto.randomUUID().slice(0, 8);
  /** Counts the changes that this machine knows: clocks of machines differ, and this number never goes back. */
  #count = 0;
  /**
   * The last change of a key: its machine, and its number in that count. Deleted keys stay here, so that no old
   * message restores them.
   */
  #stamps = new Map();

  constructor(store, nats, now) {
    this.#store = store;
    this.#nats = nats;
    this.#now = now;
  }

  /** Gets the keys of the others, and their changes from then on. */
  async start() {
    this.#nats.subscribe(CHANGES, { callback: (_error, message) => this.#hear(message.data) });
    this.#nats.subscribe(EVERYTHING, { callback: (_error, message) => void this.#tell(message.reply) });
    await this.#ask();
    void this.#watch();
  }

  /** Sends the effect of a command to the others. */
  changed([command = "", ...words]) {
    for (const key of /^DEL$/i.test(command) ? words : words.slice(0, 1)) {
      this.#stamps.set(key, { count: ++this.#count, name: this.#name });
      this.#nats.publish(CHANGES, this.#word(key));
    }
  }

  /** Forgets keys that were deleted long ago. Call it now and then. */
  forget() {
    for (const [key, stamp] of this.#stamps) {
      if (this.#store.read(key) !== undefined) stamp.goneAt = undefined;
      else if (this.#now() - (stamp.goneAt ??= this.#now()) > REMEMBER_MS) this.#stamps.delete(key);
    }
  }

  /** The message about a key: the key, its stamp, and its value, if there is one. */
  #word(key) {
    const { count, name } = this.#stamps.get(key);
    const entry = this.#store.read(key);
    const words = [key, String(count), name, ...(entry === undefined ? [] : [String(entry.ttlMs), entry.value])];
    const buffer = new EvBuffer();
    resp.encode(buffer, words);
    const bytes = new Uint8Array(buffer.length);
    buffer.remove(bytes);
    return bytes;
  }

  #hear(bytes) {
    const buffer = new EvBuffer();
    buffer.add(bytes);
    const [key, counted, name, ttlMs, value] = resp.decode(buffer);
    const count = Number(counted);
    const known = this.#stamps.get(key);
    this.#count = Math.max(this.#count, count);
    // Of two changes with the same number, the same one must win everywhere.
    if (known !== undefined && (known.count > count || (known.count === count && known.name >= name))) return;
    this.#stamps.set(key, { count, name });
    this.#store.put(key, value === undefined ? undefined : { value, ttlMs: Number(ttlMs) });
  }

  /** Sends all keys. */
  async #tell(subject) {
    let sent = 0;
    for (const key of this.#stamps.keys()) {
      this.#nats.publish(subject, this.#word(key));
      if (++sent % BATCH === 0) await this.#nats.flush();
    }
  }

  async #ask() {
    try {
      const options = { strategy: "stall", stall: 500, maxWait: 10_000 };
      for await (const message of await this.#nats.requestMany(EVERYTHING, "", options)) this.#hear(message.data);
    } catch (error) {
      if (!(error instanceof errors.NoRespondersError)) throw error; // this is the first machine
    }
  }

  /**
   * NATS keeps nothing for a machine without a connection. So it requests changes that it has missed, and sends its
   * own.
   */
  async #watch() {
    for await (const { type } of this.#nats.status()) {
      if (type !== "reconnect") continue;
      await this.#ask().catch(() => {}); // the broker is away again
      await this.#tell(CHANGES).catch(() => {});
    }
  }
}
