/** Laws 11 and 18: names, signals and files. */

import { it } from "./suite.ts";
import { assert, assertArrayIncludes, assertEquals, assertGreater, assertRejects, assertThrows } from "./assert.ts";
import { type Capabilities, EventError } from "../../core/mod.ts";
import { assertSameBytes, scene } from "./scene.ts";
import type { FullSubject } from "./subject.ts";

export function hostLaws(makeSubject: () => FullSubject, can: Readonly<Capabilities>): void {
  it("resolves localhost, and returns a numeric address unchanged", () =>
    scene(makeSubject(), async (scene) => {
      const found = await scene.runtime.resolve("localhost");
      assertGreater(found.length, 0);
      for (const { hostname, family } of found) assertEquals(hostname, family === "IPv4" ? "127.0.0.1" : "::1");
      assertEquals(await scene.runtime.resolve("192.0.2.7"), [{ hostname: "192.0.2.7", port: 0, family: "IPv4" }]);
      assertEquals(await scene.runtime.resolve("2001:db8::7"), [{ hostname: "2001:db8::7", port: 0, family: "IPv6" }]);
    }));

  it("fails with ENOTFOUND for an unknown name, or with EAI_AGAIN without a name server", () =>
    scene(makeSubject(), async (scene) => {
      // RFC 2606: there is no such name.
      const error = await assertRejects(() => scene.runtime.resolve("no-such-host.invalid"), EventError);
      assertArrayIncludes(["ENOTFOUND", "EAI_AGAIN"], [error.code]);
      assert(error.message.includes("no-such-host.invalid"), error.message);
    }));

  it("stops resolving when it is aborted, with the reason as the cause", () =>
    scene(makeSubject(), async (scene) => {
      const reason = new Error("no longer needed");
      const aborted = AbortSignal.abort(reason);
      const early = await assertRejects(() => scene.runtime.resolve("example.invalid", aborted), EventError);
      assertEquals([early.code, early.cause], ["ECANCELED", reason]);
      const controller = new AbortController();
      const looking = scene.runtime.resolve("example.invalid", controller.signal);
      controller.abort(reason);
      const late = await assertRejects(() => looking, EventError);
      assertEquals([late.code, late.cause], ["ECANCELED", reason]);
    }));

  it(
    "calls every handler of a signal until it is removed",
    { skip: !can.signals && "capabilities.signals is false" },
    () =>
      scene(makeSubject(), async (scene) => {
        const { runtime, subject } = scene;
        const heard: string[] = [];
        const same = (): void => void heard.push("same");
        const off = [runtime.onSignal("SIGUSR2", same), runtime.onSignal("SIGUSR2", same)];
        const offHup = runtime.onSignal("SIGHUP", () => heard.push("hup"));
        subject.raise("SIGUSR2");
        assertEquals(heard, []);
        await scene.until(() => heard.length === 2, "two handlers called");
        off[0]!();
        off[0]!();
        subject.raise("SIGUSR2");
        await scene.until(() => heard.length === 3, "one handler called");
        subject.raise("SIGHUP");
        await scene.until(() => heard.length === 4, "the other signal's handler called");
        off[1]!();
        offHup();
        assertEquals(heard, ["same", "same", "same", "hup"]);
      }),
  );

  it("gives random numbers, 0 or more and less than 1, different each time", () =>
    scene(makeSubject(), (scene) => {
      const numbers = Array.from({ length: 100 }, () => scene.runtime.random());
      for (const number of numbers) assert(number >= 0 && number < 1, String(number));
      assertEquals(new Set(numbers).size, numbers.length);
      return Promise.resolve();
    }));

  it("refuses signals that cannot be caught", () =>
    scene(makeSubject(), async (scene) => {
      for (const name of ["SIGKILL", "SIGSTOP", "SIGNONSENSE", "message"]) {
        const error = assertThrows(() => scene.runtime.onSignal(name, () => {}), EventError);
        assertEquals(error.code, "EV_UNSUPPORTED");
      }
      await scene.settle();
    }));

  it(
    "reads a file, or a part of it",
    { skip: !can.files && "capabilities.files is false" },
    () =>
      scene(makeSubject(), async (scene) => {
        const { path, bytes } = scene.subject.file;
        const read = scene.runtime.readFile!.bind(scene.runtime);
        const all = await read(path, 0, undefined);
        assertEquals(Object.getPrototypeOf(all), Uint8Array.prototype);
        assertSameBytes(all, bytes, "the whole file");
        assertSameBytes(await read(path, 10, 20), bytes.subarray(10, 30), "a part");
        assertSameBytes(await read(path, bytes.length - 5, 1000), bytes.subarray(-5), "the last bytes");
        assertEquals((await read(path, bytes.length + 5, 10)).length, 0);
        const error = await assertRejects(() => read(`${path}.missing`, 0, undefined), EventError);
        assertEquals(error.code, "ENOENT");
      }),
  );
}
