/** Polling and datagrams on whichever of Node, Deno and Bun runs this. */

import { detectRuntime } from "../../mod.ts";
import { datagramLaws } from "./datagram_laws.ts";
import { pollLaws } from "./poll_laws.ts";

const runtime = detectRuntime();

pollLaws(runtime.name, () => ({ runtime }));
datagramLaws(runtime.name, () => ({ runtime }));
