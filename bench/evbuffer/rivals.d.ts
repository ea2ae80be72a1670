/** As much of split2 as the benchmark uses; it brings no types. */
declare module "split2" {
  import type { Transform } from "node:stream";
  export default function split2(matcher: string): Transform;
}
