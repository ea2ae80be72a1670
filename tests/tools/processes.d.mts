/** What a command that has ended has done. */
export interface RunResult {
  code: number | null;
  signal: string | null;
  output: string;
  timedOut: boolean;
  leftBehind: string[];
  ms: number;
}

/** A program that goes on running. */
export interface StartedProgram {
  match: RegExpExecArray;
  pid: number;
  output(): string;
  stop(signal?: string): Promise<string | null>;
}

export declare function run(
  file: string,
  args: readonly string[],
  options: {
    cwd?: string;
    env?: Record<string, string | undefined>;
    timeoutMs: number;
    maxOutputBytes?: number;
  },
): Promise<RunResult>;
export declare function start(
  file: string,
  args: readonly string[],
  options: {
    cwd?: string;
    env?: Record<string, string | undefined>;
    ready: RegExp;
    timeoutMs?: number;
  },
): Promise<StartedProgram>;
export declare function endAll(): void;
export declare function endAllOnExit(): void;
