// How many threads share a kernel's work out: all, or one where they would take longer to meet after it than they save.
import type { Node } from "../ir/graph.ts";
import { bytesOf, flopsOf } from "./cost.ts";

/** Nanoseconds that threads take to meet after a launch, where that was not measured. */
export const USUAL_MEETING = 100;
/** Until a launch's first data have come. */
const LAUNCH = 100;

/** Threads that have worked come at different times, and take half as much again: measured with 256×64 weights and one column. */
const UNEVEN = 1.5;

/** Nanoseconds of a launch besides its work. */
export const launchNs = (threads: number, meeting: number): number => LAUNCH + (threads > 1 ? UNEVEN * meeting : 0);

/** `ns`: what the work takes the busiest of so many threads. */
export const sharersOf = (threads: number, meeting: number, ns: (threads: number) => number): number =>
  launchNs(1, meeting) + ns(1) <= launchNs(threads, meeting) + ns(threads) ? 1 : threads;

/** What a core manages of short work in a nanosecond, whose tensors are mostly near: an estimate that is rather too slow. */
const FLOPS_PER_NS = 8;
const BYTES_PER_NS = 32;

/** Of a node whose weights have no zeros that are left out. */
export function sharersOfNode(node: Node, threads: number, meeting: number): number {
  const ns = flopsOf(node) / FLOPS_PER_NS + bytesOf(node) / BYTES_PER_NS;
  return sharersOf(threads, meeting, (sharers) => ns / sharers);
}
