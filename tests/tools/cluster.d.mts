export interface Phase {
  name: string;
  exact: boolean;
  sent: number;
  expected: number;
  received: number;
  doubled: number;
  unordered: number;
  told: number;
  reconnects: number;
  seconds: number;
  p50: number;
  p99: number;
}

export function runCluster(options: {
  clients: number;
  rooms: number;
  messages: number;
  rate: number;
  print(line: string): void;
  isShort?: boolean;
}): Promise<Phase[]>;
