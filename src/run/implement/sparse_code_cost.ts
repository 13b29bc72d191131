// What code made for a pattern takes: its bytes, and time by rates that are measured on each machine, as some fetch code that was not used lately far more slowly than others.
import type { SimdTarget } from "../../ir/kernel.ts";
import { sparseVectors } from "../../kernels/sparse_columns.ts";
import { patternBlocks } from "../../kernels/sparse_pattern.ts";
import { splitThreads } from "../../kernels/work.ts";
import { sharersOf } from "../sharers.ts";
import { type CodeRates, type KernelRates, type SparseLayer, totalMs } from "./sparse_cost.ts";

/** A layer as code for its pattern depends on it. */
export type CodeLayer = Pick<SparseLayer, "rows" | "depth" | "n" | "length">;

/** Bytes of code for a nonzero, for each vector of columns that it meets, and for each vector of results: counted from 64×64 to 300×100, right to a fifth. `most`: programs grow by as much, compiling takes as long, and V8 makes of long functions what is slower than a loop. */
interface CodeBytes {
  readonly nonzero: number;
  readonly vector: number;
  readonly result: number;
  readonly most: number;
}
const BYTES: Readonly<Record<SimdTarget["name"], CodeBytes>> = {
  avx512: { nonzero: 0, vector: 10.4, result: 15, most: 64 * 1024 },
  avx2: { nonzero: 8, vector: 9.2, result: 14, most: 48 * 1024 },
  wasm: { nonzero: 8, vector: 9.2, result: 14, most: 0 },
};

export function codeBytes({ rows, n, length }: CodeLayer, target: SimdTarget): number {
  const { nonzero, vector, result } = BYTES[target.name];
  const vectors = sparseVectors(n, target);
  return length * (nonzero + vector * vectors) + result * rows * vectors;
}

/** Whether there is code for a layer at all. */
export const hasCode = (layer: CodeLayer, target: SimdTarget): boolean =>
  layer.length > 0 && layer.n > 1 && codeBytes(layer, target) <= BYTES[target.name].most;

/** How often each of CODE_RATES counts on the busiest thread. */
export function codeWork(layer: CodeLayer, target: SimdTarget, threads: number): readonly number[] {
  const { rows, depth, n, length } = layer;
  const vectors = sparseVectors(n, target);
  const [all, blocks] = [Math.ceil(n / (vectors * target.lanes)), patternBlocks(rows)];
  const [byColumns, byRows] = splitThreads(threads, [all, blocks]);
  const [tiles, share] = [Math.ceil(all / byColumns), Math.ceil(blocks / byRows) / blocks];
  const bytes = share * codeBytes(layer, target);
  return [tiles * vectors * share * length, tiles * vectors * (depth + share * rows), bytes, (tiles - 1) * bytes];
}
export const CODE_RATES = ["vector", "channel", "fetched", "again"] as const satisfies readonly (keyof CodeRates)[];

export const codeMs = (layer: CodeLayer, rates: CodeRates, target: SimdTarget, threads: number): number =>
  totalMs(codeWork(layer, target, threads), CODE_RATES, rates);

/** Threads that share it out. */
export const codeSharers = (layer: CodeLayer, { code, vector }: KernelRates, target: SimdTarget, threads: number): number =>
  sharersOf(threads, vector.meeting, (sharers) => 1e6 * codeMs(layer, code, target, sharers));
