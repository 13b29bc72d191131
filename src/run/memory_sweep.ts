// Lifetimes of very many tensors → their offsets, in one walk through time with a list of free gaps: nearly linear, somewhat looser than trying orders.

/** A tensor that needs `bytes` from step `from` to step `to`, both included. */
export interface Lifetime {
  readonly id: number;
  readonly bytes: number;
  readonly from: number;
  readonly to: number;
}

interface Gap {
  at: number;
  bytes: number;
}

/** Free memory below `end`: gaps by address, of which no two touch, and none touches the end. */
class Gaps {
  private readonly gaps: Gap[] = [];
  end = 0;

  /** The start of the smallest gap that is large enough, or of new memory behind all. */
  take(bytes: number): number {
    let best = -1;
    for (let i = 0; i < this.gaps.length; i++)
      if (this.gaps[i].bytes >= bytes && (best < 0 || this.gaps[i].bytes < this.gaps[best].bytes)) best = i;
    if (best < 0) {
      this.end += bytes;
      return this.end - bytes;
    }
    const gap = this.gaps[best];
    const { at } = gap;
    gap.at += bytes;
    gap.bytes -= bytes;
    if (gap.bytes === 0) this.gaps.splice(best, 1);
    return at;
  }

  give(at: number, bytes: number): void {
    let [low, high] = [0, this.gaps.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.gaps[middle].at < at) low = middle + 1;
      else high = middle;
    }
    const [before, after] = [this.gaps[low - 1], this.gaps[low]];
    const joined = { at, bytes };
    const joinsBefore = before !== undefined && before.at + before.bytes === at;
    const joinsAfter = after !== undefined && at + bytes === after.at;
    if (joinsBefore) {
      joined.at = before.at;
      joined.bytes += before.bytes;
    }
    if (joinsAfter) joined.bytes += after.bytes;
    const isLast = joined.at + joined.bytes === this.end;
    if (isLast) this.end = joined.at;
    this.gaps.splice(low - Number(joinsBefore), Number(joinsBefore) + Number(joinsAfter), ...(isLast ? [] : [joined]));
  }
}

/** Offsets by id. */
export function sweepMemory(blocks: readonly Lifetime[]): { offsets: Map<number, number>; arenaBytes: number } {
  const offsets = new Map<number, number>();
  const gaps = new Gaps();
  const ending = blocks.toSorted((a, b) => a.to - b.to || a.id - b.id);
  let arenaBytes = 0;
  let ended = 0;
  for (const block of blocks.toSorted((a, b) => a.from - b.from || b.bytes - a.bytes || a.id - b.id)) {
    for (; ending[ended].to < block.from; ended++) gaps.give(offsets.get(ending[ended].id)!, ending[ended].bytes); // it began before it ended
    offsets.set(block.id, gaps.take(block.bytes));
    arenaBytes = Math.max(arenaBytes, gaps.end);
  }
  return { offsets, arenaBytes };
}
