// Attention on plain cores, run in JavaScript: ragged tiles, masks, groups, parts of keys, with and without subgroups, against float64.
import { expect, test } from "vitest";
import type { SimtTarget } from "../../src/ir/simt.ts";
import { attentionKernel } from "../../src/kernels/simt/attention.ts";
import type { HeadView } from "../../src/kernels/simt/head_tiles.ts";
import type { MaskView } from "../../src/kernels/simt/masked_scores.ts";
import { joinedKernel, linesOf, type OnlineSchedule, type OnlineShape, onlineKernel } from "../../src/kernels/simt/online_attention.ts";
import { randomNumbers } from "../run/devices.ts";
import { type Arrival, H200, runKernel } from "./simt_machine.ts";

const base: OnlineShape = {
  batch: 1, heads: 2, group: 1, queries: 21, keys: 19, depth: 8, width: 8, scale: 0.4, cap: 0, before: null, seen: null, hidden: 0, bias: null,
}; // biome-ignore format: a table
const schedule: OnlineSchedule = { rows: 8, own: 4, tile: 16, across: 16, parts: 1 };

const masks = (query: boolean): MaskView => ({
  dtype: "f32",
  elements: 2 * 21 * 19,
  batch: 0,
  head: query ? 21 * 19 : 0,
  query: query ? 19 : 0,
  key: 1,
});

const CASES: readonly (readonly [name: string, Partial<OnlineShape>, Partial<OnlineSchedule>])[] = [
  ["ragged", {}, {}],
  ["columns that are no multiple of four, other ones of values", { depth: 7, width: 21 }, {}],
  ["many columns", { depth: 4, width: 72, queries: 9, heads: 1 }, {}],
  ["causal, with keys before", { before: 3, queries: 16 }, { own: 2 }],
  ["groups", { group: 3, queries: 5, before: 14 }, { own: 8 }],
  ["a mask, and what is added", { seen: masks(true), hidden: -1e9, bias: masks(false) }, {}],
  ["capped", { cap: 2, scale: 3 }, {}],
  ["parts", { queries: 1, keys: 90, group: 3 }, { parts: 3, rows: 4, tile: 16 }],
  ["more parts than tiles", { queries: 2, keys: 20, before: 18 }, { parts: 4, rows: 2, own: 2, across: 32, tile: 32 }],
];

const view = ({ batch, heads, group }: OnlineShape, places: number, width: number, own: number): HeadView => {
  const all = heads * (own ? group : 1);
  return { dtype: "f32", elements: batch * places * all * width, from: 0, batch: places * all * width, head: width, place: all * width };
};

function reference(
  s: OnlineShape,
  q: Float64Array,
  k: Float64Array,
  v: Float64Array,
  seen: Float64Array,
  bias: Float64Array,
): Float64Array {
  const all = s.heads * s.group;
  const out = new Float64Array(s.batch * s.queries * all * s.width);
  for (let n = 0; n < s.batch; n++)
    for (let h = 0; h < all; h++)
      for (let i = 0; i < s.queries; i++) {
        const own = Math.floor(h / s.group);
        const maskAt = (m: MaskView, j: number) => n * m.batch + h * m.head + i * m.query + j * m.key;
        const scores = Array.from({ length: s.keys }, (_, j) => {
          if (s.before !== null && j > i + s.before) return Number.NEGATIVE_INFINITY;
          let x = 0;
          for (let c = 0; c < s.depth; c++)
            x += q[((n * s.queries + i) * all + h) * s.depth + c] * k[((n * s.keys + j) * s.heads + own) * s.depth + c];
          x *= s.scale;
          if (s.cap > 0) x = s.cap * Math.tanh(x / s.cap);
          if (s.seen && !seen[maskAt(s.seen, j)]) x = s.hidden;
          return s.bias ? Math.fround(x + bias[maskAt(s.bias, j)]) : x; // as float32 rounds it
        });
        const most = Math.max(...scores);
        const total = scores.reduce((t, x) => t + Math.exp(x - most), 0);
        for (let c = 0; c < s.width; c++)
          out[((n * s.queries + i) * all + h) * s.width + c] = scores.reduce(
            (t, x, j) => t + (Math.exp(x - most) / total) * v[((n * s.keys + j) * s.heads + own) * s.width + c],
            0,
          );
      }
  return out;
}

const TARGETS: readonly (readonly [string, SimtTarget])[] = [
  ["subgroups of 32", H200],
  ["no subgroups", { ...H200, subgroup: 0 }],
];

const viewsOf = (shape: OnlineShape) => ({
  q: view(shape, shape.queries, shape.depth, 1),
  k: view(shape, shape.keys, shape.depth, 0),
  v: view(shape, shape.keys, shape.width, 0),
  out: view(shape, shape.queries, shape.width, 1),
});

function run(shape: OnlineShape, plan: OnlineSchedule, target: SimtTarget, arrival: Arrival, seen: Float64Array, bias: Float64Array) {
  const views = viewsOf(shape);
  const [q, k, v] = [views.q, views.k, views.v].map(({ elements }, i) => Float64Array.from(randomNumbers(i + 1, elements)));
  const y = new Float64Array(views.out.elements).fill(Number.NaN);
  const given = [q, k, v, ...(shape.seen ? [seen] : []), ...(shape.bias ? [bias] : [])];
  const kernel = onlineKernel("attention", shape, views, plan, target);
  if (plan.parts === 1) runKernel(kernel, [...given, y], arrival);
  else {
    const [parts, logs] = [shape.width, 1].map((n) => new Float64Array(plan.parts * linesOf(shape) * n).fill(Number.NaN));
    runKernel(kernel, [...given, parts, logs], arrival);
    runKernel(joinedKernel("joined", shape, views.out, plan.parts, target), [parts, logs, y], arrival);
  }
  return { y, want: reference(shape, q, k, v, seen, bias) };
}

for (const [on, target] of TARGETS)
  for (const [name, change, other] of CASES)
    test(`${name}, ${on}`, () => {
      const shape = { ...base, ...change };
      const seen = randomNumbers(7, masks(true).elements).map((x) => Number(x > -0.5));
      seen.fill(0, 38, 57); // the third query sees nothing
      for (const arrival of ["early", "late"] as const) {
        const { y, want } = run(
          shape,
          { ...schedule, ...other },
          target,
          arrival,
          Float64Array.from(seen),
          Float64Array.from(randomNumbers(8, masks(true).elements)),
        );
        for (const [i, x] of want.entries()) expect(Math.abs(y[i] - x), `element ${i}`).toBeLessThan(1e-5);
      }
    });

test("a row that sees nothing is NaN, as a softmax of −∞ is; others are not", () => {
  const shape = { ...base, seen: masks(true), hidden: Number.NEGATIVE_INFINITY };
  const seen = new Float64Array(masks(true).elements).fill(1);
  seen.fill(0, 38, 57);
  seen.fill(0, 0, 17); // whole tiles of others
  for (const parts of [1, 2]) {
    const { y, want } = run(shape, { ...schedule, parts }, H200, "late", seen, seen);
    for (const [i, x] of want.entries())
      expect(Number.isNaN(x) ? Number.isNaN(y[i]) : Math.abs(y[i] - x) < 1e-5, `element ${i}`).toBe(true);
    expect(want.filter(Number.isNaN)).toHaveLength(8);
  }
});

const ON_FRAGMENTS: readonly (readonly [name: string, Partial<OnlineShape>])[] = [
  ["a mask, and what is added", { seen: masks(true), hidden: -1e9, bias: masks(false) }],
  ["groups, causal with more keys, capped", { heads: 1, group: 2, before: 5, queries: 14, cap: 2 }],
  ["columns that do not fill fragments", { depth: 40, width: 40 }],
  ["infinitely low", { seen: masks(true), hidden: Number.NEGATIVE_INFINITY }],
];
for (const [name, change] of ON_FRAGMENTS)
  test(`${name}, on matrix units`, () => {
    const shape = { ...base, depth: 16, width: 16, ...change };
    const seen = randomNumbers(7, masks(true).elements).map((x) => Number(x > -0.5));
    seen.fill(0, 38, 57); // the third query sees nothing
    seen.fill(0, 0, 17); // the first none of a whole tile
    const bias = Float64Array.from(randomNumbers(8, masks(true).elements));
    const views = viewsOf(shape);
    const [q, k, v] = [views.q, views.k, views.v].map(({ elements }, i) => Float64Array.from(randomNumbers(i + 1, elements)));
    const { before, cap, hidden, group } = shape;
    const own = { ...shape, dtype: "bf16", heads: shape.heads * group, isCausal: before !== null } as const;
    const kernelShape = { ...own, masks: { group, before: before ?? 0, cap, hidden, seen: shape.seen, bias: shape.bias } };
    const y = new Float64Array(views.out.elements).fill(Number.NaN);
    const narrow = Object.fromEntries(
      Object.entries(views).map(([of, each]) => [of, { ...each, dtype: "bf16" }]),
    ) as unknown as typeof views; // the same names
    const kernel = attentionKernel("attention", kernelShape, narrow, { rows: 16, subgroups: 1, tile: 16 }, H200);
    const given = [q, k, v, ...(shape.seen ? [Float64Array.from(seen)] : []), ...(shape.bias ? [bias] : [])];
    runKernel(kernel, [...given, y], "late");
    const want = reference(shape, q, k, v, Float64Array.from(seen), bias);
    for (const [i, x] of want.entries())
      expect(Number.isNaN(x) ? Number.isNaN(y[i]) : Math.abs(y[i] - x) < 1e-5, `element ${i}: ${y[i]}, wanted ${x}`).toBe(true);
  });

for (const [on, target] of TARGETS)
  test(`numbers of 16 bits come to shared memory as they are, ${on}`, () => {
    const shape = { ...base, depth: 20, width: 12 };
    const views = viewsOf(shape);
    const narrow = Object.fromEntries(
      Object.entries(views).map(([of, each]) => [of, { ...each, dtype: "f16" }]),
    ) as unknown as typeof views; // the same names
    const kernel = onlineKernel("attention", shape, narrow, { ...schedule, parts: 1 }, target);
    expect(kernel.shared.slice(0, 3).map(({ type }) => type)).toEqual(new Array(3).fill(target.storedBytes.f16 === 2 ? "f16" : "f32"));
    const [q, k, v] = [views.q, views.k, views.v].map(({ elements }, i) => Float64Array.from(randomNumbers(i + 1, elements)));
    const y = new Float64Array(views.out.elements).fill(Number.NaN);
    runKernel(kernel, [q, k, v, y], "late");
    const want = reference(shape, q, k, v, new Float64Array(), new Float64Array());
    for (const [i, x] of want.entries()) expect(Math.abs(y[i] - x), `element ${i}`).toBeLessThan(1e-5);
  });
