// Attention on matrix units, run in JavaScript: whole and ragged tiles, causal and not, packed heads, against float64.
import { expect, test } from "vitest";
import type { SimtTarget } from "../../src/ir/simt.ts";
import { type AttentionShape, attentionKernel } from "../../src/kernels/simt/attention.ts";
import type { HeadView } from "../../src/kernels/simt/head_tiles.ts";
import { randomNumbers } from "../run/devices.ts";
import { type Arrival, H200, runKernel } from "./simt_machine.ts";

const target: SimtTarget = { ...H200, opensFragments: true };
const base = { dtype: "bf16", batch: 2, heads: 2, depth: 16, scale: 0.4 } as const;
const CASES: readonly AttentionShape[] = [
  { ...base, queries: 32, keys: 64, isCausal: false },
  { ...base, queries: 70, keys: 70, isCausal: true },
  { ...base, queries: 40, keys: 75, isCausal: true, depth: 32 },
  { ...base, queries: 37, keys: 21, isCausal: false },
];
const schedule = { rows: 32, subgroups: 2, tile: 32 };

/** All heads of queries, keys and values side by side. */
const packed = ({ batch, heads, depth, dtype }: AttentionShape, places: number, part: number, parts: number): HeadView => ({
  dtype,
  elements: batch * places * parts * heads * depth,
  from: part * heads * depth,
  batch: places * parts * heads * depth,
  head: depth,
  place: parts * heads * depth,
});

function reference(shape: AttentionShape, q: Float64Array, k: Float64Array, v: Float64Array) {
  const { batch, heads, queries, keys, depth, isCausal, scale } = shape;
  const y = new Float64Array(batch * queries * heads * depth);
  const logs = new Float64Array(batch * heads * queries);
  const at = (n: number, places: number, place: number, h: number) => ((n * places + place) * heads + h) * depth;
  for (let n = 0; n < batch; n++)
    for (let h = 0; h < heads; h++)
      for (let i = 0; i < queries; i++) {
        const scores = Array.from({ length: keys }, (_, j) => {
          if (isCausal && j > i + keys - queries) return Number.NEGATIVE_INFINITY;
          let s = 0;
          for (let c = 0; c < depth; c++) s += q[at(n, queries, i, h) + c] * k[at(n, keys, j, h) + c];
          return s * scale;
        });
        const most = Math.max(...scores);
        const total = scores.reduce((s, x) => s + Math.exp(x - most), 0);
        logs[(n * heads + h) * queries + i] = most + Math.log(total);
        for (const [j, x] of scores.entries())
          for (let c = 0; c < depth; c++) y[at(n, queries, i, h) + c] += (Math.exp(x - most) / total) * v[at(n, keys, j, h) + c];
      }
  return { y, logs };
}

const worst = (got: Float64Array, want: Float64Array): number =>
  want.reduce((most, v, i) => Math.max(most, Number.isNaN(got[i]) ? Number.POSITIVE_INFINITY : Math.abs(got[i] - v)), 0);

for (const shape of CASES)
  test.each<Arrival>(["early", "late"])(`${JSON.stringify(shape)}, copies %s`, (arrival) => {
    const { batch, heads, queries, keys, depth } = shape;
    const [q, k, v] = [queries, keys, keys].map((places, i) => Float64Array.from(randomNumbers(i + 1, batch * places * heads * depth)));
    const views = { q: packed(shape, queries, 0, 1), k: packed(shape, keys, 0, 1), v: packed(shape, keys, 0, 1), out: packed(shape, queries, 0, 1) };
    const kernel = attentionKernel("attention", shape, views, schedule, target);
    const [y, logs] = [q.length, batch * heads * queries].map((n) => new Float64Array(n).fill(Number.NaN));
    runKernel(kernel, [q, k, v, y, logs], arrival);
    const want = reference(shape, q, k, v);
    expect(worst(y, want.y)).toBeLessThan(1e-5);
    expect(worst(logs, want.logs)).toBeLessThan(1e-5);
  });
