// The server of chapters 4 to 8: all its dependencies are options, so that it runs on a simulator too.
import { serve } from "trivent";
import { resp } from "./resp.mjs";
import { Store } from "./store.mjs";

/** Limits for strangers. */
export const LIMITS = {
  maxConnections: 10_000, // clients beyond it wait
  maxConnectionsPerAddress: 1000,
  idleTimeoutMs: 300_000, // a client that says nothing
  messageTimeoutMs: 10_000, // a command that comes byte by byte
  maxOutputBytes: 8 * 1024 * 1024, // a client that does not read its answers
  keepAlive: true, // a client whose machine is gone
};

/**
 * Starts the server.
 *
 * @param options Options of `serve()`, which replace LIMITS
 * @param {{ changed?: (command: string[]) => void, store?: Store }} hooks `changed(command)` gets each command that
 * may have changed something; `store` is one that already has keys
 */
export async function startServer(options, { changed = () => {}, store: given } = {}) {
  const server = await serve({ ...LIMITS, ...options }, {
    async open(bev) {
      // All commands that arrived together: one promise for all of them.
      for await (const commands of bev.frames(resp, { maxBytes: 2_000_000 }).batches()) {
        for (const command of commands) {
          const more = bev.writeFrame(resp, store.answer(command));
          if (/^(SET|DEL|INCR|EXPIRE)$/i.test(command?.[0])) changed(command);
          // The client does not read: wait for it, and read nothing from it meanwhile.
          if (!more) await bev.drained();
        }
      }
    },
  });
  const { base } = server;
  const store = given ?? new Store(() => base.runtime.now());
  const sweeping = base.interval(() => store.sweep(), 1000);
  return {
    server,
    base,
    async close(closing) {
      sweeping.free();
      await server.close(closing);
    },
  };
}
