// Checks every connection of a test: after each outermost call of one, by the host or by its owner, it must be whole and
// have changed its state as the table in core/socket/connection.ts allows. Import it for that effect.

import { checkConnection, Connection, type ConnectionState, stateOf } from "../../../core/socket/connection.ts";

type Method = (this: Connection, ...args: unknown[]) => unknown;

const states = new WeakMap<Connection, ConnectionState>();
const touched = new Set<Connection>();
let depth = 0;

/** How many checks there have been. */
export let checks = 0;

function checked(method: Method): Method {
  return function (...args) {
    if (!states.has(this)) states.set(this, stateOf(this));
    touched.add(this);
    depth++;
    try {
      return method.apply(this, args);
    } finally {
      depth--;
      if (depth === 0) checkAll();
    }
  };
}

function checkAll(): void {
  for (const connection of touched) {
    states.set(connection, checkConnection(connection, states.get(connection) as ConnectionState));
    checks++;
  }
  touched.clear();
}

const prototype = Connection.prototype as unknown as Record<string, Method>;
for (const name of Object.getOwnPropertyNames(prototype)) {
  const { value } = Object.getOwnPropertyDescriptor(prototype, name) as PropertyDescriptor;
  if (name !== "constructor" && typeof value === "function") prototype[name] = checked(value as Method);
}
