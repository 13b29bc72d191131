// The register tile of every contraction: rows × vectors of accumulators that stay in registers while the depth runs.
import type { Int, KernelBuilder, SimdTarget, Vec } from "../ir/kernel.ts";
import type { MemoryType } from "../ir/kernel_ops.ts";

/** Size of a register tile: `rows` × `vectors` accumulators. */
export interface TileShape {
  readonly rows: number;
  readonly vectors: number;
}

/**
 * The tile that keeps the multipliers busy: at least 8 independent sums (latency 4 × 2 units), as few loads a sum as the registers allow.
 * `rows` and `vectors` are what the problem has.
 */
export function chooseTile(target: SimdTarget, rows: number, vectors: number): TileShape {
  const best = { rows: 1, vectors: 1, cost: Number.POSITIVE_INFINITY };
  for (let v = 1; v <= Math.min(vectors, 8); v++) {
    // Sums, the right operand's vectors, and one left value, or all of them: r·v + v + 1 or r·v + v + r registers.
    const fit = target.loadsFirst ? (target.registers - v) / (v + 1) : (target.registers - 1 - v) / v;
    const r = Math.min(rows, Math.floor(fit));
    if (r < 1) continue;
    // Cycles a step of the depth for all vectors: two loads and two multiply-adds a cycle, eight sums in flight.
    // Loads are charged a little more on top, the right operand's twice, because it comes from the second-level cache.
    const full = Math.floor(vectors / v);
    const tiles = Math.ceil(rows / r);
    const sums = (width: number): number => Math.max((r * width) / 2, (r + width) / 2, 4) + 0.06 * (r + 2 * width);
    const rest = vectors % v;
    const cost = tiles * (full * sums(v) + (rest ? sums(rest) : 0));
    if (cost < best.cost * 0.999) Object.assign(best, { rows: r, vectors: v, cost });
  }
  // Equal tiles instead of full ones and a small last one.
  const rowTiles = Math.ceil(rows / best.rows);
  return { rows: Math.ceil(rows / rowTiles), vectors: best.vectors };
}

/** Where a tile's operands are: byte offsets for row r or vector v at depth k of this step. */
export interface TileOperands {
  readonly left: {
    readonly buffer: number;
    /** Default: f32. */
    readonly type?: MemoryType;
    at(row: number, k: number): Int;
  };
  readonly right: {
    readonly buffer: number;
    at(vector: number, k: number): Int;
    /** Lanes that may be read; default: all. */
    lanesOf?(vector: number): number;
  };
  /** What a step of the depth is: a number of each side (fma, the default), or a pair of bf16 in the place of one. */
  readonly step?: "fma" | "dotbf16";
}

/** sums[r][v] += left[r] · right[v], for `depth` steps written out one after another. Rows that are null are left out. */
export function multiplyTile(
  b: KernelBuilder,
  sums: readonly (readonly Vec[] | null)[],
  depth: number,
  { left, right, step = "fma" }: TileOperands,
): void {
  const vectors = sums.find((row) => row)?.length ?? 0;
  for (let k = 0; k < depth; k++) {
    const columns = Array.from({ length: vectors }, (_, v) => b.load(right.buffer, right.at(v, k), right.lanesOf?.(v)));
    for (const [r, row] of sums.entries()) {
      if (!row) continue;
      const x = b.splat(left.buffer, left.at(r, k), left.type);
      for (const [v, sum] of row.entries()) b.op(step, x, columns[v], sum, sum);
    }
  }
}

/** Steps of the depth to write out in one loop iteration: enough work to hide the loop, little enough code. */
export const unrollOf = (target: SimdTarget, depth: number, sums: number): number => {
  if (target.loadsFirst) return 1;
  const wanted = Math.max(1, Math.min(8, Math.round(48 / Math.max(1, sums))));
  return Math.min(depth, wanted);
};

/** Runs `step(k, count)` over a depth in unrolled loops: `count` steps at k. */
export function overDepth(b: KernelBuilder, depth: number, unroll: number, step: (k: Int, count: number) => void): void {
  const whole = depth - (depth % unroll);
  if (whole > 0) b.loop(0, whole, unroll, (k) => step(k, unroll));
  if (whole < depth) step(whole, depth - whole);
}
