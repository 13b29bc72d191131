// Attention on matrix units, run in JavaScript: whole and ragged tiles, causal and not, masks, dropout, packed heads, against float64.
import { expect, test } from "vitest";
import { apply, type Graph, topologicalOrder, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, toNumbers } from "../../src/ir/tensor.ts";
import { FRACTION, randomWords } from "../../src/ir/threefry.ts";
import { type AttentionShape, attentionKernel } from "../../src/kernels/simt/attention.ts";
import { keyGradientKernel, queryGradientKernel } from "../../src/kernels/simt/attention_gradient.ts";
import type { HeadView } from "../../src/kernels/simt/head_tiles.ts";
import { keptBitsKernel, wordCount } from "../../src/kernels/simt/kept_bits.ts";
import type { MaskView } from "../../src/kernels/simt/masked_scores.ts";
import { HeadAttention, HeadAttentionGrad, HIDDEN_SCORE } from "../../src/ops/head_attention.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { constantValue, input } from "../../src/ops/source.ts";
import { intsValue } from "../../src/passes/view_algebra.ts";
import { gpuBackend } from "../../src/run/gpu/backend.ts";
import { scheduleGraph } from "../../src/run/schedule.ts";
import { randomNumbers } from "../run/devices.ts";
import { type Arrival, runKernel, runSchedule, H200 as target } from "./simt_machine.ts";

const base = { dtype: "bf16", batch: 1, heads: 2, depth: 16, scale: 0.4 } as const;
const CASES: readonly AttentionShape[] = [
  { ...base, queries: 50, keys: 50, isCausal: true },
  { ...base, queries: 30, keys: 37, isCausal: true, depth: 32, heads: 1 },
  { ...base, queries: 37, keys: 21, isCausal: false, heads: 1 },
  { ...base, queries: 37, keys: 40, isCausal: true, depth: 24 }, // half of the last fragment are zeros
];
/** A mask of keys for each example, one number for each head and query, a number for each score. */
const masked = { group: 1, before: 0, cap: 0, seen: null, hidden: HIDDEN_SCORE, bias: null, keepsLogs: true } as const;
const ofKeys: MaskView = { dtype: "bool", elements: 2 * 48, batch: 48, head: 0, query: 0, key: 1 };
const ofRows: MaskView = { dtype: "f32", elements: 2 * 37, batch: 0, head: 37, query: 1, key: 0 };
const ofScores: MaskView = { dtype: "f32", elements: 33 * 48, batch: 0, head: 0, query: 48, key: 1 };
const MASKED_CASES: readonly AttentionShape[] = [
  { ...base, batch: 2, heads: 1, queries: 33, keys: 48, isCausal: false, masks: { ...masked, before: 15, seen: ofKeys, bias: ofScores } },
  { ...base, batch: 2, heads: 1, queries: 33, keys: 48, isCausal: true, masks: { ...masked, before: 15, seen: ofKeys, bias: ofScores } },
  { ...base, queries: 37, keys: 37, isCausal: true, masks: { ...masked, bias: ofRows }, dropping: { probability: 0.3 } },
  { ...base, queries: 48, keys: 32, isCausal: false, dropping: { probability: 0.1 } },
  { ...base, queries: 40, keys: 64, isCausal: true, dropping: { probability: 0.5 } },
];
const schedule = { rows: 32, subgroups: 1, tile: 16 };
const KEY = [7, 0xdeadbeef] as const;

/** What masks hold: the last example's first keys are hidden, which leaves causal rows that see no key. */
const maskData = (view: MaskView, seed: number): Float64Array =>
  view.dtype === "bool"
    ? Float64Array.from({ length: view.elements }, (_, i) => (i % 48 < 40 && (i < 48 || i % 48 > 20) ? 1 : 0))
    : Float64Array.from(randomNumbers(seed, view.elements));
const maskAt = (view: MaskView, data: Float64Array, n: number, h: number, i: number, j: number): number =>
  data[n * view.batch + h * view.head + i * view.query + j * view.key];

/** All heads of queries, keys and values side by side. */
const packed = ({ batch, heads, depth, dtype }: AttentionShape, places: number, part: number, parts: number): HeadView => ({
  dtype,
  elements: batch * places * parts * heads * depth,
  from: part * heads * depth,
  batch: places * parts * heads * depth,
  head: depth,
  place: parts * heads * depth,
});

/** With the gradients of the sum of results times dy. */
function reference(shape: AttentionShape, q: Float64Array, k: Float64Array, v: Float64Array, dy: Float64Array) {
  const { batch, heads, queries, keys, depth, isCausal, scale, masks, dropping } = shape;
  const words = dropping && randomWords(KEY, batch * heads * queries * keys);
  const [seenData, biasData] = [masks?.seen, masks?.bias].map((view, i) => (view ? maskData(view, i + 9) : new Float64Array()));
  const like = (x: Float64Array) => new Float64Array(x.length);
  const [y, dq, dk, dv, logs] = [like(q), like(q), like(k), like(v), new Float64Array(batch * heads * queries)];
  const columns = Array.from({ length: depth }, (_, c) => c);
  for (let n = 0; n < batch; n++)
    for (let h = 0; h < heads; h++)
      for (let i = 0; i < queries; i++) {
        const at = (places: number, place: number) => ((n * places + place) * heads + h) * depth;
        const dot = (a: Float64Array, b: Float64Array, ofB: number) => columns.reduce((s, c) => s + a[at(queries, i) + c] * b[ofB + c], 0);
        const seen = isCausal ? i + 1 + keys - queries : keys;
        const isSeen = (j: number) => !masks?.seen || maskAt(masks.seen, seenData, n, h, i, j) !== 0;
        const kept = (j: number): number => {
          if (!dropping || !words) return 1;
          const word = words[((n * heads + h) * queries + i) * keys + j];
          return (word >>> 8) * FRACTION >= Math.fround(dropping.probability) ? 1 / (1 - dropping.probability) : 0;
        };
        const scores = Array.from({ length: seen }, (_, j) => {
          const score = isSeen(j) ? scale * dot(q, k, at(keys, j)) : HIDDEN_SCORE;
          return score + (masks?.bias ? maskAt(masks.bias, biasData, n, h, i, j) : 0);
        });
        const most = Math.max(...scores);
        const total = scores.reduce((s, x) => s + Math.exp(x - most), 0);
        logs[(n * heads + h) * queries + i] = most + Math.log(total);
        const weights = scores.map((x) => Math.exp(x - most) / total);
        for (const [j, w] of weights.entries()) for (const c of columns) y[at(queries, i) + c] += kept(j) * w * v[at(keys, j) + c];
        const product = dot(dy, y, at(queries, i));
        for (const [j, w] of weights.entries()) {
          const ds = isSeen(j) ? scale * w * (kept(j) * dot(dy, v, at(keys, j)) - product) : 0;
          for (const c of columns) {
            dv[at(keys, j) + c] += kept(j) * w * dy[at(queries, i) + c];
            dk[at(keys, j) + c] += ds * q[at(queries, i) + c];
            dq[at(queries, i) + c] += ds * k[at(keys, j) + c];
          }
        }
      }
  return { y, logs, dq, dk, dv };
}

const worst = (got: Float64Array, want: Float64Array): number =>
  want.reduce((most, v, i) => Math.max(most, Number.isNaN(got[i]) ? Number.POSITIVE_INFINITY : Math.abs(got[i] - v)), 0);

for (const shape of [...CASES, ...MASKED_CASES])
  test.each<Arrival>(["early", "late"])(`${JSON.stringify(shape)}, copies %s`, (arrival) => {
    const { batch, heads, queries, keys, depth } = shape;
    const empty = (n: number) => new Float64Array(n).fill(Number.NaN);
    const [q, k, v, dy] = [queries, keys, keys, queries].map((places, i) =>
      Float64Array.from(randomNumbers(i + 1, batch * places * heads * depth)),
    );
    const [mine, others] = [queries, keys].map((places) => packed(shape, places, 0, 1));
    const views = { q: mine, k: others, v: others, out: mine, y: mine, dy: mine, dq: mine, dk: others, dv: others };
    const [y, dq, dk, dv, logs, products] = [q, q, k, v]
      .map((x) => x.length)
      .concat(batch * heads * queries, batch * heads * queries)
      .map(empty);
    const { masks, dropping } = shape;
    const besides = [masks?.seen, masks?.bias].flatMap((view, i) => (view ? [maskData(view, i + 9)] : []));
    if (dropping) {
      const bits = empty(wordCount(shape));
      runKernel(keptBitsKernel("bits", shape, dropping, target), [Float64Array.from(KEY), bits], arrival);
      besides.push(bits);
    }
    runKernel(attentionKernel("attention", shape, views, schedule, target), [q, k, v, ...besides, y, logs], arrival);
    runKernel(queryGradientKernel("queries", shape, views, schedule, target), [q, k, v, y, dy, logs, ...besides, dq, products], arrival);
    runKernel(keyGradientKernel("keys", shape, views, schedule, target), [q, k, v, dy, logs, products, ...besides, dk, dv], arrival);
    const want = reference(shape, q, k, v, dy);
    const bound = masks?.seen && shape.isCausal ? 4e-3 : 1e-5; // scores of rows that see no key are near −30,000, where float32 has steps of 0.002
    for (const [name, got] of Object.entries({ y, logs, dq, dk, dv }))
      expect(worst(got, want[name as keyof typeof want]), name).toBeLessThan(bound);
  });

/** HeadAttention of one packed tensor, and its gradient, as a step of training has them. */
function packedAttention(depth: number): { graph: Graph; inputs: Value[] } {
  const shape = [1, 20, 6, depth];
  const x = input("x", { dtype: "f32", shape });
  const dy = input("dy", { dtype: "f32", shape: [1, 20, 2, depth] });
  const attrs = { causal: 1, scale: 0.25 };
  const [y, logs] = apply(HeadAttention, [x], attrs, "attention");
  const [dx] = apply(HeadAttentionGrad, [logs, dy, y, x], attrs, "gradient");
  return {
    graph: {
      inputs: [x, dy],
      outputs: [
        { name: "y", value: y },
        { name: "dx", value: dx },
      ],
    },
    inputs: [x, dy],
  };
}
const opsOf = (graph: Graph): string[] => topologicalOrder(graph).map((n) => n.op.name);

test("a program in bfloat16 has a kernel for attention and two for its gradient, which agree with the reference", () => {
  const { graph, inputs } = packedAttention(16);
  const data = Object.fromEntries(
    inputs.map(({ type: { shape } }, i) => [["x", "dy"][i], fromNumbers("f32", shape, randomNumbers(i + 1, elementCount(shape)))]),
  );
  const want = evaluateGraph(graph, data);
  const schedule = scheduleGraph(graph, gpuBackend(target, 256), { precision: "bf16" });
  expect(schedule.steps.filter((s) => s.node.op === HeadAttention).map((s) => s.calls?.length)).toEqual([1]);
  expect(schedule.steps.filter((s) => s.node.op === HeadAttentionGrad).map((s) => s.calls?.length)).toEqual([2]);
  const got = runSchedule(schedule, new Map(inputs.map((v, i) => [v, Float64Array.from(toNumbers(data[["x", "dy"][i]]))])));
  for (const { name, value } of schedule.outputs)
    expect(worst(got.get(value)!, Float64Array.from(toNumbers(want[name]))), name).toBeLessThan(1e-4);
});

test("attention is expanded where no kernel is for it", () => {
  const all = [
    [16, target, undefined], // float32
    [12, target, "bf16"], // heads that no fragments fill
    [16, { ...target, opensFragments: false }, "bf16"],
  ] as const;
  for (const [depth, own, precision] of all) {
    const ops = opsOf(scheduleGraph(packedAttention(depth).graph, gpuBackend(own, 256), { precision }).graph);
    expect(ops).not.toContain("HeadAttention");
    expect(ops).not.toContain("HeadAttentionGrad");
  }
});

test("a file's products around a softmax of scores become the kernel", () => {
  const shapes = [[1, 20, 32], [1, 20, 32], [1, 20, 32]]; // biome-ignore format: a line
  const inputs = shapes.map((shape, i) => input(`in${i}`, { dtype: "f16", shape }));
  const op = (name: string, values: readonly Value[], attrs = {}) => apply(OPS.get(name)!, values, attrs, name)[0]; // the test names operators that exist
  const heads = (x: Value, perm: readonly number[]) => op("Transpose", [op("Reshape", [x, intsValue([1, 20, 2, 16], "shape")])], { perm });
  const [q, k, v] = [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]].map((perm, i) => heads(inputs[i], perm)); // biome-ignore format: a line
  const scores = op("Div", [op("MatMul", [q, k]), constantValue(fromNumbers("f16", [], [4]), "root")]);
  const weights = op("Softmax", [scores], { axis: -1 });
  const y = op("Reshape", [op("Transpose", [op("MatMul", [weights, v])], { perm: [0, 2, 1, 3] }), intsValue([1, 20, 32], "shape")]);
  const graph: Graph = { inputs, outputs: [{ name: "y", value: y }] };
  const schedule = scheduleGraph(graph, gpuBackend(target, 256));
  expect(schedule.steps.map((s) => s.node.op.name)).toEqual(["HeadAttention"]);
  const data = Object.fromEntries(
    shapes.map((shape, i) => [`in${i}`, fromNumbers("f16", shape, randomNumbers(i + 1, elementCount(shape)))]),
  );
  const got = runSchedule(
    schedule,
    new Map(inputs.map((x, i) => [schedule.owners.get(x) ?? x, Float64Array.from(toNumbers(data[`in${i}`]))])),
  );
  const { value } = schedule.outputs[0];
  expect(worst(got.get(schedule.owners.get(value) ?? value)!, Float64Array.from(toNumbers(evaluateGraph(graph, data).y)))).toBeLessThan(
    2e-3,
  ); // the reference rounds between
});
