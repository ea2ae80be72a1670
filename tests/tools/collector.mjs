/**
 * Loaded into a server before its own program, to tell what it holds from garbage that is not collected yet: at SIGUSR2
 * it has all garbage collected, lets the allocator give pages back, and prints what is in use to standard error.
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
