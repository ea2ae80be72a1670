// The keys and their values, and the commands that change them. The time comes from outside, so that a test can move it.

/** A store whose keys can expire. */
export class Store {
  #values = new Map();
  #now;

  constructor(now) {
    this.#now = now;
  }

  /** Answers a command: an array of texts. */
  answer(words) {
    if (!Array.isArray(words) || words.some((word) => typeof word !== "string")) {
      return { error: "ERR a command is an array of texts" };
    }
    const [command = "", key = "", value = ""] = words;
    switch (command.toUpperCase()) {
      case "PING":
        return words.length > 1 ? key : { ok: "PONG" };
      case "SET":
        if (words.length < 3) return { error: "ERR wrong number of arguments" };
        this.#values.set(key, { value, until: Infinity });
        return { ok: "OK" };
      case "GET":
        return this.#find(key)?.value ?? null;
      case "DEL":
        return words.slice(1).filter((name) => this.#find(name) !== undefined && this.#values.delete(name)).length;
      case "INCR": {
        const entry = this.#find(key) ?? { value: "0", until: Infinity };
        const next = Number(entry.value) + 1;
        if (!Number.isSafeInteger(next)) return { error: "ERR value is not an integer or out of range" };
        this.#values.set(key, { value: String(next), until: entry.until });
        return next;
      }
      case "EXPIRE": {
        const entry = this.#find(key);
        if (entry === undefined) return 0;
        entry.until = this.#now() + Number(value) * 1000;
        return 1;
      }
      case "TTL": {
        const entry = this.#find(key);
        if (entry === undefined) return -2;
        return entry.until === Infinity ? -1 : Math.ceil((entry.until - this.#now()) / 1000);
      }
      case "COMMAND":
      case "CONFIG":
        return [];
    }
    return { error: `ERR unknown command '${command.slice(0, 20).replace(/\W/g, "")}'` };
  }

  /** The value of a key, and its expiry; undefined if it has none. */
  read(key) {
    const entry = this.#find(key);
    return entry && { value: entry.value, ttlMs: entry.until - this.#now() };
  }

  /** Sets a key to the value from another machine, or deletes it. */
  put(key, entry) {
    if (entry === undefined) this.#values.delete(key);
    else this.#values.set(key, { value: entry.value, until: this.#now() + entry.ttlMs });
  }

  /** Drops expired keys. Reading drops them too: this is for keys that are not read. */
  sweep() {
    for (const key of this.#values.keys()) this.#find(key);
  }

  get size() {
    return this.#values.size;
  }

  #find(key) {
    const entry = this.#values.get(key);
    if (entry !== undefined && entry.until <= this.#now()) {
      this.#values.delete(key);
      return undefined;
    }
    return entry;
  }
}
