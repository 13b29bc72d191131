// Sharing a grid of work out to threads: which axes to cut so that every thread gets an equal, contiguous part.
import { type Int, type KernelBuilder, plus, times } from "../ir/kernel.ts";

/** Cuts `threads` into a factor for each axis so that the largest part is as small as it gets; earlier axes are cut first. */
export function splitThreads(threads: number, extents: readonly number[]): number[] {
  let best = { parts: extents.map(() => 1), cost: Number.POSITIVE_INFINITY };
  const visit = (axis: number, left: number, parts: number[]): void => {
    if (axis === extents.length) {
      if (left !== 1) return;
      const cost = extents.reduce((n, e, i) => n * Math.ceil(e / parts[i]), 1);
      if (cost < best.cost * 0.97) best = { parts, cost };
      return;
    }
    for (let p = left; p >= 1; p--) if (left % p === 0) visit(axis + 1, left / p, [...parts, p]);
  };
  visit(0, threads, []);
  return best.parts;
}

/** Part of an axis that one thread works on: [from, to). */
export interface Part {
  readonly from: Int;
  readonly to: Int;
}

/** Runs `body` once in every thread with its part of each axis. */
export function shareOut(b: KernelBuilder, extents: readonly number[], body: (parts: readonly Part[]) => void): void {
  const counts = b.threads === 1 ? extents.map(() => 1) : splitThreads(b.threads, extents);
  b.parallel(b.threads, (thread) => {
    let rest: Int = b.threads === 1 ? 0 : thread;
    const parts: Part[] = extents.map(() => ({ from: 0, to: 0 }));
    for (let axis = extents.length - 1; axis >= 0; axis--) {
      const count = counts[axis];
      const extent = extents[axis];
      if (count === 1) {
        parts[axis] = { from: 0, to: extent };
        continue;
      }
      const isLast = counts.slice(0, axis).every((c) => c === 1);
      const i: Int = isLast ? rest : b.mod(rest, count);
      if (!isLast) rest = b.div(rest, count);
      // Only the last part ends at the extent, also where there are more parts than work: what is done once at the end is done in no empty one.
      parts[axis] = { from: b.div(times(i, extent), count), to: b.div(plus(times(i, extent), extent), count) };
    }
    body(parts);
  });
}
