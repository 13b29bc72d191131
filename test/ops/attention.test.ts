// Attention and RotaryEmbedding against float64 loops written from ONNX's specification: every combination of masks, causality, earlier keys, groups of heads and forms of tensors.
import { expect, test } from "vitest";
import type { DType } from "../../src/ir/dtype.ts";
import { type Attrs, apply, type Value } from "../../src/ir/graph.ts";
import { elementCount, fromNumbers, type Shape, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateGraph, OPS } from "../../src/ops/index.ts";
import { input } from "../../src/ops/source.ts";
import { randomNumbers } from "../run/devices.ts";

const tensor = (dtype: DType, shape: Shape, values: ArrayLike<number>): TensorData => fromNumbers(dtype, shape, values);
const drawn = (seed: number, ...shape: number[]): TensorData => tensor("f64", shape, randomNumbers(seed, elementCount(shape)));

function run(name: string, tensors: readonly (TensorData | null)[], attrs: Attrs): readonly Float64Array[] {
  const values = tensors.map((t, i): Value | null => t && input(`in${i}`, t));
  const outputs = apply(OPS.get(name)!, values, attrs, name).map((value, i) => ({ name: `y${i}`, value })); // an operator that exists
  const data = Object.fromEntries(tensors.flatMap((t, i) => (t ? [[`in${i}`, t] as const] : [])));
  const graph = { inputs: values.filter((v) => v !== null), outputs };
  const result = evaluateGraph(graph, data);
  return outputs.map((o) => toNumbers(result[o.name]));
}

/** Element of (N, H, T, d), or of (N, T, H · d). */
const at = (t: TensorData, heads: number, n: number, h: number, i: number, c: number): number => {
  const [a, b, d] = t.shape.slice(1);
  const width = t.shape.length === 4 ? d : b / heads;
  const place = t.shape.length === 4 ? ((n * a + h) * b + i) * d + c : (n * a + i) * b + h * width + c;
  return Number(t.data[place]);
};

interface Case {
  readonly q: TensorData;
  readonly k: TensorData;
  readonly v: TensorData;
  readonly mask?: TensorData;
  readonly past?: readonly [TensorData, TensorData];
  readonly lengths?: readonly number[];
  readonly heads: number;
  readonly keyHeads: number;
  readonly causal: boolean;
  readonly cap: number;
  readonly scale?: number;
}

/** Results by (N, H, T, d), and scores at all four stages. */
function reference({ q, k, v, mask, past, lengths, heads, keyHeads, causal, cap, scale }: Case) {
  const [batch, queries, now] = [q.shape[0], q.shape.at(-2)!, k.shape.at(-2)!];
  const [depth, width] = [q, v].map((t, i) => (t.shape.length === 4 ? t.shape[3] : t.shape[2] / [heads, keyHeads][i]));
  const before = past?.[0].shape[2] ?? 0;
  const keys = before + now;
  const [results, stages]: [number[], number[][]] = [[], [[], [], [], []]];
  for (let n = 0; n < batch; n++)
    for (let h = 0; h < heads; h++)
      for (let i = 0; i < queries; i++) {
        const own = Math.floor(h / (heads / keyHeads));
        const of = (which: 0 | 1, j: number, c: number) => (j < before ? at(past![which], keyHeads, n, own, j, c) : at([k, v][which], keyHeads, n, own, j - before, c)); // biome-ignore format: one idea
        const rows = [0, 1, 2].map(() => new Array<number>(keys).fill(0));
        for (let j = 0; j < keys; j++) {
          let dot = 0;
          for (let c = 0; c < depth; c++) dot += at(q, heads, n, h, i, c) * of(0, j, c);
          rows[0][j] = dot * (scale ?? 1 / Math.sqrt(depth));
          rows[1][j] = cap > 0 ? cap * Math.tanh(rows[0][j] / cap) : rows[0][j];
          let added = 0;
          if (mask) {
            const shape = [...new Array<number>(4 - mask.shape.length).fill(1), ...mask.shape];
            const place = [n, h, i, j].reduce((p, x, axis) => p * shape[axis] + (shape[axis] === 1 ? 0 : x), 0);
            const element = j < shape[3] ? Number(mask.data[place]) : mask.dtype === "bool" ? 0 : Number.NEGATIVE_INFINITY;
            added += mask.dtype === "bool" ? (element ? 0 : Number.NEGATIVE_INFINITY) : element;
          }
          const first = past || !lengths ? before : lengths[n] - queries;
          if (causal && j > i + first) added = Number.NEGATIVE_INFINITY;
          if (lengths && j >= lengths[n]) added = Number.NEGATIVE_INFINITY;
          rows[2][j] = rows[1][j] + added;
        }
        const most = Math.max(...rows[2]);
        const powers = rows[2].map((x) => Math.exp(x - most));
        const total = powers.reduce((a, b) => a + b, 0);
        const weights = powers.map((p) => p / total);
        for (const [s, list] of [...rows, weights].entries()) stages[s].push(...list);
        for (let c = 0; c < width; c++) results.push(weights.reduce((sum, w, j) => sum + w * of(1, j, c), 0));
      }
  return { results, stages, width, queries, batch };
}

const close = (got: ArrayLike<number>, want: readonly number[]): void => {
  expect(got.length).toBe(want.length);
  for (const [i, x] of want.entries()) expect(Object.is(got[i], x) || Math.abs(got[i] - x) < 1e-10 || (Number.isNaN(x) && Number.isNaN(got[i])), `${i}: ${got[i]}, wanted ${x}`).toBe(true); // biome-ignore format: one idea
};

const MASKS: readonly (TensorData | undefined)[] = [
  undefined,
  drawn(9, 3, 6),
  drawn(10, 2, 1, 3, 6),
  tensor("bool", [2, 1, 1, 6], [1, 0, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1]),
  tensor("bool", [3, 4], [1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1]), // without the last keys
  drawn(11, 1, 4, 3, 4),
];

for (const isFlat of [false, true])
  for (const hasPast of [false, true])
    for (const causal of [false, true])
      test(`Attention of ${isFlat ? "three" : "four"} axes${hasPast ? ", with earlier keys" : ""}${causal ? ", causal" : ""}`, () => {
        const [heads, keyHeads, now] = [4, 2, hasPast ? 4 : 6];
        const [q, k, v] = isFlat ? [drawn(1, 2, 3, 20), drawn(2, 2, now, 10), drawn(3, 2, now, 6)] : [drawn(1, 2, 4, 3, 5), drawn(2, 2, 2, now, 5), drawn(3, 2, 2, now, 3)]; // biome-ignore format: a table
        const past = hasPast ? ([drawn(4, 2, 2, 2, 5), drawn(5, 2, 2, 2, 3)] as const) : undefined;
        for (const [m, mask] of MASKS.entries())
          for (const [mode, cap] of [
            [0, 0],
            [1, 1.5],
            [2, 1.5],
            [3, 0],
          ] as const) {
            // biome-ignore format: a table
            const scale = m % 2 ? 0.9 : undefined;
            const want = reference({ q, k, v, mask, past, heads, keyHeads, causal, cap, scale });
            const attrs = {
              q_num_heads: 4,
              kv_num_heads: 2,
              is_causal: Number(causal),
              softcap: cap,
              qk_matmul_output_mode: mode,
              ...(scale && { scale }),
            };
            const [y, keys, values, given] = run("Attention", [q, k, v, mask ?? null, ...(past ?? [])], attrs);
            close(given, want.stages[mode]);
            const order = isFlat ? want.results.map((_, e) => flat(e, want, heads)) : [...want.results.keys()];
            close(y, order.map((e) => want.results[e])); // biome-ignore format: short
            expect([keys.length, values.length]).toEqual([2 * 2 * 6 * 5, 2 * 2 * 6 * 3]);
            if (past) expect(keys.slice(0, 10)).toEqual(toNumbers(past[0]).slice(0, 10));
          }
      });

/** Place in (N, H, T, d) of element e of (N, T, H · d). */
function flat(e: number, { width, queries }: { readonly width: number; readonly queries: number }, heads: number): number {
  const [c, h] = [e % width, Math.floor(e / width) % heads];
  const [i, n] = [Math.floor(e / (width * heads)) % queries, Math.floor(e / (width * heads * queries))];
  return ((n * heads + h) * queries + i) * width + c;
}

test.each([false, true])("Attention with lengths of examples, causal: %s", (causal) => {
  const [q, k, v] = [drawn(1, 2, 2, 3, 4), drawn(2, 2, 2, 7, 4), drawn(3, 2, 2, 7, 4)];
  const lengths = [4, 7];
  const want = reference({ q, k, v, lengths, heads: 2, keyHeads: 2, causal, cap: 0 });
  const [y] = run("Attention", [q, k, v, null, null, null, tensor("i64", [2], lengths)], { is_causal: Number(causal) });
  close(y, want.results);
});

test("a query that sees nothing gives NaN, as a softmax of −∞ does", () => {
  const [q, k, v] = [drawn(1, 1, 1, 2, 4), drawn(2, 1, 1, 3, 4), drawn(3, 1, 1, 3, 4)];
  const [y] = run("Attention", [q, k, v, tensor("bool", [2, 3], [0, 0, 0, 1, 1, 0])], {});
  expect([...y].map(Number.isNaN)).toEqual([true, true, true, true, false, false, false, false]);
});

test("what does not fit is refused with its shapes", () => {
  const [q, k] = [drawn(1, 1, 2, 3, 4), drawn(2, 1, 2, 5, 4)];
  expect(() => run("Attention", [q, k, drawn(3, 1, 2, 6, 4)], {})).toThrow("(1,2,6,4)");
  expect(() => run("Attention", [q, k, k, drawn(3, 2, 5)], {})).toThrow("the mask is (2,5)");
  expect(() => run("Attention", [q, k, k], { softmax_precision: 7 })).toThrow("softmax_precision 7");
  expect(() => run("RotaryEmbedding", [q, drawn(2, 1, 3, 3), drawn(3, 1, 3, 3)], {})).toThrow("4 columns do not fit");
});

for (const isFlat of [false, true])
  for (const interleaved of [0, 1])
    for (const hasPlaces of [false, true])
      test(`RotaryEmbedding of ${isFlat ? "three" : "four"} axes, ${interleaved ? "neighbours" : "halves"}${hasPlaces ? ", places" : ""}`, () => {
        const [heads, places, depth, turned] = [3, 4, 8, hasPlaces ? 6 : 8];
        const half = turned / 2;
        const x = isFlat ? drawn(1, 2, places, heads * depth) : drawn(1, 2, heads, places, depth);
        const ids = [3, 0, 9, 1, 5, 5, 2, 8];
        const [cos, sin] = [2, 3].map((seed) => (hasPlaces ? drawn(seed, 10, half) : drawn(seed, 2, places, half)));
        const [y] = run("RotaryEmbedding", [x, cos, sin, hasPlaces ? tensor("i64", [2, places], ids) : null], {
          interleaved,
          num_heads: heads,
          rotary_embedding_dim: hasPlaces ? turned : 0,
        });
        const got = tensor("f64", x.shape, y);
        for (let n = 0; n < 2; n++)
          for (let h = 0; h < heads; h++)
            for (let t = 0; t < places; t++)
              for (let c = 0; c < depth; c++) {
                const pair = interleaved ? Math.floor(c / 2) : c % half;
                const isSecond = interleaved ? c % 2 === 1 : c >= half;
                const [a, b] = (interleaved ? [2 * pair, 2 * pair + 1] : [pair, half + pair]).map((e) => at(x, heads, n, h, t, e));
                const angle = (hasPlaces ? ids[n * places + t] : n * places + t) * half + pair;
                const [cosine, sine] = [cos, sin].map((table) => Number(table.data[angle]));
                const want = c >= turned ? at(x, heads, n, h, t, c) : isSecond ? sine * a + cosine * b : cosine * a - sine * b;
                expect(Math.abs(at(got, heads, n, h, t, c) - want)).toBeLessThan(1e-12);
              }
      });
