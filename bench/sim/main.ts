/**
 * The work of the simulator's benchmark: `<file> echo advance|advanceSync <seconds>` and `<file> connections <count>`. It
 * writes a line of JSON. It is bundled with the present library, and with that of an earlier commit
 * for comparison, so it uses only functions of the earlier one.
 */

import { connect, serve, type SimRuntime, simRuntime } from "trivent";

declare const process: { readonly argv: readonly string[]; cpuUsage(): { user: number; system: number } };

const CLIENTS = 100;
const [work = "echo", how = "advance"] = process.argv.slice(2);
const amount = Number(process.argv[4] ?? 1);

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Only callbacks, without the core: 64 bytes go back and forth on each of 100 connections. */
async function echo(): Promise<object> {
  const sim = simRuntime({ seed: 1 });
  const line = new Uint8Array(64).fill(97);
  let events = 0;
  const silent = { onConnect() {}, onSecure() {}, onEnd() {}, onWritable() {}, onClose() {} };
  await sim.listen({ port: 80 }, {
    onAccept: (binding) => ({
      ...silent,
      onData(chunk) {
        events++;
        binding.write(chunk);
      },
    }),
    onError(error) {
      throw error;
    },
  });
  for (let i = 0; i < CLIENTS; i++) {
    const binding = sim.connect({ port: 80 }, {
      ...silent,
      onConnect: () => void binding.write(line),
      onData(chunk) {
        events++;
        binding.write(chunk);
      },
    });
  }
  const move = how === "advanceSync"
    ? (ms: number): void => sim.advanceSync(ms)
    : (ms: number): Promise<void> => sim.advance(ms);
  await move(500);
  const begun = cpuSeconds();
  events = 0;
  let now = begun;
  for (; now - begun < amount; now = cpuSeconds()) await move(50);
  return { work, how, eventsPerSecond: Math.round(events / (now - begun)) };
}

/** Connections of `serve()` and `connect()`, each of which exchanges a line and closes. */
async function connections(): Promise<object> {
  const sim: SimRuntime = simRuntime({ seed: 1 });
  const begun = cpuSeconds();
  const server = await sim.run(serve({ hostname: "127.0.0.1", port: 80, runtime: sim }, {
    line(bev, line) {
      bev.write(line);
      bev.write("\n");
    },
  }));
  let answered = 0;
  const options = { hostname: "127.0.0.1", port: 80, runtime: sim };
  const callbacks = {
    open: (bev: { write(data: string): void }): void => bev.write("a line of forty bytes, and no more text\n"),
    line(bev: { close(): Promise<boolean> }): void {
      answered++;
      void bev.close();
    },
  };
  const all: Promise<unknown>[] = [];
  for (let i = 0; i < amount; i++) all.push(connect(options, callbacks as never));
  await sim.run(Promise.all(all));
  await sim.advance(1000);
  await sim.run(server.close());
  if (answered !== amount) throw new Error(`${answered} of ${amount} were answered`);
  return { work, connections: amount, seconds: cpuSeconds() - begun };
}

console.log(JSON.stringify(await (work === "echo" ? echo() : connections())));
