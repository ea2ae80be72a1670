/** The part of split2 that the benchmark uses. The package has no types. */
declare module "split2" {
  import type { Transform } from "node:stream";
  export default function split2(matcher: string): Transform;
}
