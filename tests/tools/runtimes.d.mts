/** The name of a runtime. */
export type RuntimeName = "node" | "deno" | "bun";

/** A runtime on this machine. */
export interface FoundRuntime {
  name: RuntimeName;
  path: string;
  version: string;
}

export declare const RUNTIME_NAMES: readonly RuntimeName[];
export declare const RUNTIMES: readonly RuntimeName[];
export declare const ROOT: string;
export declare function findRuntime(name: RuntimeName): FoundRuntime;
export declare function exampleNames(): string[];
export declare function exampleCommand(
  name: RuntimeName,
  example: string,
  args?: readonly string[],
): { file: string; args: string[] };
export declare function collecting(
  name: RuntimeName,
  command: { file: string; args: readonly string[] },
): { file: string; args: string[] };
export declare function inspecting(
  name: RuntimeName,
  command: { file: string; args: readonly string[] },
): { file: string; args: string[] };
export declare function plainEnvironment(): Record<string, string>;
