// Objects with options and callbacks: which names are refused, and which name the error suggests.

import { describe, it } from "node:test";
import { assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { checkCallbacks, type Names, readOptions } from "../../../core/names.ts";

interface Options {
  hostname?: string | undefined;
  port?: number | undefined;
  timeoutMs?: number | undefined;
  maxConnections?: number;
  maxConnectionsPerAddress?: number;
}
const OPTIONS: Names<Options> = {
  hostname: true,
  port: true,
  timeoutMs: true,
  maxConnections: true,
  maxConnectionsPerAddress: true,
};

interface Callbacks {
  open?(): void;
  read?(): void;
  line?(): void;
  write?(): void;
  event?(): void;
}
const CALLBACKS: Names<Callbacks> = { open: true, read: true, line: true, write: true, event: true };

function read(given: unknown): Options {
  return readOptions("serve", given as Options, OPTIONS);
}

function check(given: unknown): Callbacks {
  return checkCallbacks("serve", given as Callbacks, CALLBACKS);
}

/** The message of the TypeError. */
function refused(act: () => unknown): string {
  return assertThrows(act, TypeError).message;
}

/** The suggestion for a wrong name of an option. */
function option(name: string): string {
  return refused(() => read({ [name]: 1 })).replace("Cannot serve: unknown option ", "");
}

function callback(name: string): string {
  return refused(() => check({ [name]() {} })).replace("Cannot serve: unknown callback ", "");
}

function revoked(): object {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
}

describe("options", () => {
  it("with an unknown name are refused, and the error suggests the nearest right one", () => {
    assertEquals(option("host"), "host: did you mean hostname?");
    assertEquals(option("address"), "address: did you mean hostname?");
    assertEquals(option("hostName"), "hostName: did you mean hostname?");
    assertEquals(option("prt"), "prt: did you mean port?");
    assertEquals(option("timeout"), "timeout: did you mean timeoutMs?");
    assertEquals(option("maxConn"), "maxConn: did you mean maxConnections?");
    assertEquals(option("maxConnectionPerAddress"), "maxConnectionPerAddress: did you mean maxConnectionsPerAddress?");
  });

  it("with a name that is near no other are refused with a list of the right names", () => {
    assertEquals(option("foo"), "foo: there are hostname, port, timeoutMs, maxConnections, maxConnectionsPerAddress");
    assertEquals(option("a\nb").split(":")[0], '"a\\nb"');
    assertEquals(option("x".repeat(10_000)).length < 200, true);
    for (const name of ["constructor", "toString", "hasOwnProperty"]) assertEquals(option(name).split(":")[0], name);
  });

  it("may have unknown names whose value is undefined", () => {
    assertEquals(read({ port: 1, host: undefined }), { port: 1 });
  });

  it("of a class, or with a prototype that has options, may have more names", () => {
    class Settings {
      port = 1;
      verbose = true;
    }
    assertEquals(read(new Settings()), { port: 1 });
    assertEquals(read(Object.create({ port: 2, verbose: true })), { port: 2 });
    assertEquals(read(Object.assign(Object.create(null), { port: 3 })), { port: 3 });
  });

  it("are read once, and undefined ones are left out", () => {
    let reads = 0;
    const given = {
      get port() {
        return ++reads;
      },
      hostname: undefined,
    };
    assertEquals(Object.entries(read(given)), [["port", 1]]);
    assertEquals(reads, 1);
  });

  it("that are not an object, or cannot be read, are refused with a message", () => {
    for (const given of [null, undefined, 1, "abc", [], () => {}, Symbol("s"), 1n]) {
      assertEquals(
        refused(() => read(given)).startsWith("Cannot serve: the options are not an object: received "),
        true,
      );
    }
    const cause = new Error("mine");
    const throwing = {
      get port() {
        throw cause;
      },
    };
    const error = assertThrows(() => read(throwing), TypeError);
    assertEquals(error.message, "Cannot serve: the options are not readable: a getter or a proxy has thrown");
    assertStrictEquals(error.cause, cause);
    assertEquals(refused(() => read(revoked())), error.message);
  });

  it("inside other options are named with their path", () => {
    const inner = (given: unknown) => readOptions("serve", given as Options, OPTIONS, "tls");
    assertEquals(
      refused(() => inner({ host: 1 })),
      "Cannot serve: unknown option tls.host: did you mean tls.hostname?",
    );
    assertEquals(refused(() => inner(null)), "Cannot serve: tls is not an object: received null");
  });
});

describe("callbacks", () => {
  it("with an unknown name are refused, and the error suggests the nearest right one", () => {
    assertEquals(callback("data"), "data: did you mean read?");
    assertEquals(callback("onData"), "onData: did you mean read?");
    assertEquals(callback("message"), "message: did you mean line or read?");
    assertEquals(callback("end"), "end: did you mean event?");
    assertEquals(callback("connection"), "connection: did you mean open?");
    assertEquals(callback("onopen"), "onopen: did you mean open?");
    assertEquals(callback("drain"), "drain: did you mean write?");
    assertEquals(callback("timeout"), "timeout: did you mean event?");
    assertEquals(callback("raed"), "raed: did you mean read?");
    assertEquals(callback("handle"), "handle: there are open, read, line, write, event");
  });

  it("may be missing, undefined or null, and have other values beside them", () => {
    for (const given of [{}, { read: undefined, write: null }, { read() {}, count: 0, log: [] }]) {
      assertStrictEquals(check(given), given);
    }
  });

  it("of a class may have methods of the class's own", () => {
    class Handler {
      #lines = 0;
      read() {
        this.handle();
      }
      handle() {
        this.#lines++;
      }
    }
    class Derived extends Handler {
      override handle() {}
    }
    class Static {
      static read() {}
      static help() {}
    }
    for (const given of [new Handler(), new Derived(), Static, Object.create({ read() {}, help() {} })]) {
      assertStrictEquals(check(given), given);
    }
  });

  it("of a class without any of the callbacks are refused", () => {
    class Handler {
      onData() {}
    }
    class Derived extends Handler {}
    class Static {
      static message() {}
    }
    assertEquals(refused(() => check(new Derived())), "Cannot serve: unknown callback onData: did you mean read?");
    assertEquals(refused(() => check(Static)), "Cannot serve: unknown callback message: did you mean line or read?");
  });

  it("that are not functions, or not in an object, are refused with a message", () => {
    assertEquals(refused(() => check({ read: 1 })), "Cannot serve: read is not a function: received 1");
    assertEquals(refused(() => check(() => {})), "Cannot serve: the callbacks are not an object: received a function");
    assertEquals(refused(() => check(null)), "Cannot serve: the callbacks are not an object: received null");
    assertEquals(
      refused(() => check(revoked())),
      "Cannot serve: the callbacks are not readable: a getter or a proxy has thrown",
    );
  });
});
