/**
 * Loaded into a server before its own program, to measure its memory without garbage. At SIGUSR2 it collects all garbage, gives
 * the allocator time to return pages, and prints the memory in use to standard error.
 */

process.on("SIGUSR2", async () => {
  for (let i = 0; i < 6; i++) {
    if (globalThis.Bun) Bun.gc(true);
    else globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 300));
  }
  const { heapUsed, external } = process.memoryUsage();
  console.error(`collected, ${heapUsed + external} bytes are used`);
});
