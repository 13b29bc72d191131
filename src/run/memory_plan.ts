// Lifetimes of tensors → their offsets in one arena, so that no two that live at the same time overlap.
import { HeddleError } from "../ir/error.ts";
import { sweepMemory } from "./memory_sweep.ts";

/** A tensor that lives from step `from` to step `to`, both included. */
export interface Interval {
  readonly id: number;
  readonly bytes: number;
  readonly from: number;
  readonly to: number;
  /** It is part of another tensor's memory, `offset` bytes in, and keeps that one alive; it has no bytes of its own. */
  readonly alias?: { readonly of: number; readonly offset: number };
  /** It may take exactly the place of these, where their last step is its first: each element is read before it is written. */
  readonly mayReuse?: readonly number[];
}

export interface MemoryPlan {
  /** Byte offset by id. */
  readonly offsets: ReadonlyMap<number, number>;
  readonly arenaBytes: number;
  /** What the tensors would need side by side. */
  readonly sumBytes: number;
  /** Largest number of bytes that live at one step: no plan without reuse in place can be smaller. */
  readonly lowerBoundBytes: number;
}

/** A tensor with memory of its own: lifetime with that of its aliases, size rounded up. */
interface Block {
  readonly id: number;
  /** Rounded up, and as asked for. */
  readonly bytes: number;
  readonly exactBytes: number;
  from: number;
  to: number;
  readonly mayReuse: Set<number>;
}

const roundUp = (bytes: number, align: number): number => Math.ceil(bytes / align) * align;

/** Offsets that are multiples of `align` (a power of two). Throws HeddleError for aliases of what is not there. */
export function planMemory(intervals: readonly Interval[], align = 64): MemoryPlan {
  const roots = resolveAliases(intervals);
  const blocks = blocksOf(intervals, roots, align);
  const lowerBoundBytes = largestLiveBytes(blocks);
  const sumBytes = blocks.reduce((n, b) => n + b.bytes, 0);
  const neighbours = neighboursInTime(blocks);
  const best = neighbours ? bestOfOrders(blocks, neighbours, lowerBoundBytes) : sweepMemory(blocks);
  const offsets = new Map(intervals.map(({ id }) => {
    const { root, offset } = roots.get(id)!;
    return [id, best.offsets.get(root)! + offset];
  })); // biome-ignore format: one idea
  return { offsets, arenaBytes: best.arenaBytes, sumBytes, lowerBoundBytes };
}

/** Greedy placement is as good as its order; a few cost little. Ties by time and id keep the result the same from run to run. */
const ORDERS: readonly ((a: Block, b: Block) => number)[] = [
  (a, b) => b.bytes - a.bytes || a.from - b.from || a.id - b.id,
  (a, b) => b.bytes * (b.to - b.from + 1) - a.bytes * (a.to - a.from + 1) || a.from - b.from || a.id - b.id,
  (a, b) => a.from - b.from || b.bytes - a.bytes || a.id - b.id,
];

type Plan = Pick<MemoryPlan, "offsets" | "arenaBytes">;

/** The smallest plan; none is tried after one that is as small as any can be. */
function bestOfOrders(blocks: readonly Block[], neighbours: ReadonlyMap<Block, readonly Block[]>, lowerBoundBytes: number): Plan {
  const least = blocks.some((b) => b.mayReuse.size > 0) ? 0 : lowerBoundBytes;
  let best: Plan = { offsets: new Map(), arenaBytes: Number.POSITIVE_INFINITY };
  for (const order of ORDERS) {
    const plan = place(blocks.toSorted(order), neighbours);
    if (plan.arenaBytes < best.arenaBytes) best = plan;
    if (best.arenaBytes <= least) break;
  }
  return best;
}

interface Root {
  readonly root: number;
  readonly offset: number;
}

/** The tensor whose memory each one lies in, through chains of aliases. */
function resolveAliases(intervals: readonly Interval[]): Map<number, Root> {
  const byId = new Map(intervals.map((t) => [t.id, t]));
  if (byId.size !== intervals.length) throw new HeddleError("verify", "internal: memory plan: two tensors have one id");
  const roots = new Map<number, Root>();
  for (const { id } of intervals) {
    let at = byId.get(id);
    let offset = 0;
    for (let depth = 0; at?.alias; depth++) {
      if (depth > intervals.length) throw new HeddleError("verify", `internal: memory plan: tensor ${id} is an alias of itself`);
      offset += at.alias.offset;
      at = byId.get(at.alias.of);
    }
    if (!at) throw new HeddleError("verify", `internal: memory plan: tensor ${id} is an alias of one that is not there`);
    roots.set(id, { root: at.id, offset });
  }
  return roots;
}

function blocksOf(intervals: readonly Interval[], roots: ReadonlyMap<number, Root>, align: number): Block[] {
  const blocks = new Map<number, Block>();
  for (const { id, bytes, from, to, alias } of intervals)
    if (!alias) blocks.set(id, { id, bytes: roundUp(bytes, align), exactBytes: bytes, from, to, mayReuse: new Set() });
  for (const t of intervals) {
    const { root, offset } = roots.get(t.id)!;
    const block = blocks.get(root)!;
    if (offset < 0 || offset + t.bytes > block.bytes)
      throw new HeddleError("verify", `internal: memory plan: alias ${t.id} leaves tensor ${root}`);
    block.from = Math.min(block.from, t.from);
    block.to = Math.max(block.to, t.to);
  }
  for (const t of intervals) {
    const own = blocks.get(t.id);
    for (const old of t.mayReuse ?? []) {
      const from = roots.get(old);
      // Only whole tensors that end where this one starts, and are large enough.
      const block = from && from.offset === 0 ? blocks.get(from.root) : undefined;
      if (own && block && block !== own && block.to === own.from && block.exactBytes >= own.exactBytes) own.mayReuse.add(block.id);
    }
  }
  return [...blocks.values()];
}

/** The most bytes that live at one step. */
export function largestLiveBytes(lives: Iterable<Pick<Interval, "from" | "to" | "bytes">>): number {
  const changes = new Map<number, number>();
  const change = (step: number, bytes: number) => changes.set(step, (changes.get(step) ?? 0) + bytes);
  for (const { from, to, bytes } of lives) {
    change(from, bytes);
    change(to + 1, -bytes);
  }
  let live = 0;
  let most = 0;
  for (const [, bytes] of [...changes].sort(([a], [b]) => a - b)) {
    live += bytes;
    most = Math.max(most, live);
  }
  return most;
}

/** Pairs of blocks that live at the same time; more than this, and only one way to place them is tried, which needs no pairs. */
const MAX_PAIRS = 300_000;

/** The blocks that live at the same time as each, or null where they are too many pairs. */
function neighboursInTime(blocks: readonly Block[]): ReadonlyMap<Block, readonly Block[]> | null {
  const neighbours = new Map(blocks.map((block): [Block, Block[]] => [block, []]));
  let alive: Block[] = [];
  let pairs = 0;
  for (const block of blocks.toSorted((a, b) => a.from - b.from)) {
    alive = alive.filter((other) => other.to >= block.from);
    pairs += alive.length;
    if (pairs > MAX_PAIRS) return null;
    for (const other of alive) {
      neighbours.get(other)!.push(block); // all blocks are keys
      neighbours.get(block)!.push(other);
    }
    alive.push(block);
  }
  return neighbours;
}

/** Puts each block, in this order, into the smallest gap between those already placed that live at the same time. */
function place(order: readonly Block[], neighbours: ReadonlyMap<Block, readonly Block[]>): Plan {
  const offsets = new Map<number, number>();
  let arenaBytes = 0;
  for (const block of order) {
    const placed = neighbours.get(block)!.filter((other) => offsets.has(other.id)); // all blocks are keys
    const others = placed.sort((a, b) => offsets.get(a.id)! - offsets.get(b.id)!);
    const at = inPlace(block, others, offsets) ?? bestGap(block.bytes, others, offsets);
    offsets.set(block.id, at);
    arenaBytes = Math.max(arenaBytes, at + block.bytes);
  }
  return { offsets, arenaBytes };
}

const mayShare = (a: Block, b: Block): boolean => a.mayReuse.has(b.id) || b.mayReuse.has(a.id);

/** The offset of a neighbour in time whose place it may take, or that may take its place, when nothing else is there. */
function inPlace(block: Block, others: readonly Block[], offsets: ReadonlyMap<number, number>): number | undefined {
  for (const partner of others) {
    if (!mayShare(block, partner)) continue;
    const at = offsets.get(partner.id)!;
    const isFree = others.every((o) => {
      const start = offsets.get(o.id)!;
      return start >= at + block.bytes || start + o.bytes <= at || (start === at && mayShare(block, o));
    });
    if (isFree) return at;
  }
  return undefined;
}

/** The start of the smallest gap that is large enough; behind all others if there is none. `others` are sorted by offset. */
function bestGap(bytes: number, others: readonly Block[], offsets: ReadonlyMap<number, number>): number {
  let best = -1;
  let bestSize = Number.POSITIVE_INFINITY;
  let end = 0;
  for (const other of others) {
    const start = offsets.get(other.id)!;
    if (start - end >= bytes && start - end < bestSize) {
      best = end;
      bestSize = start - end;
    }
    end = Math.max(end, start + other.bytes);
  }
  return best >= 0 ? best : end;
}
