// TfIdfVectorizer: how often each known n-gram of numbers occurs in a row.
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Op, type Value } from "../ir/graph.ts";
import { fromNumbers, type Shape, type TensorData, toNumbers } from "../ir/tensor.ts";
import { inputType, tensorOf } from "./define.ts";

const OP = "TfIdfVectorizer";

interface TfIdfAttrs {
  readonly max_gram_length: number;
  readonly max_skip_count: number;
  readonly min_gram_length: number;
  readonly mode: string;
  readonly ngram_counts: readonly number[];
  readonly ngram_indexes: readonly number[];
  readonly pool_int64s?: readonly number[];
  readonly pool_strings?: readonly string[];
  readonly weights?: readonly number[];
}

/** Each known n-gram and its number; ngram_counts says where in the pool the 1-grams, 2-grams, … begin. */
function gramsOf({ ngram_counts: starts, pool_int64s: pool = [] }: TfIdfAttrs): Map<string, number> {
  const grams = new Map<string, number>();
  for (const [i, start] of starts.entries()) {
    const end = starts[i + 1] ?? pool.length;
    for (let at = start; at + i + 1 <= end; at += i + 1) grams.set(pool.slice(at, at + i + 1).join(), grams.size);
  }
  return grams;
}

function outputShape(x: Shape, attrs: TfIdfAttrs): number[] {
  const width = attrs.ngram_indexes.reduce((a, b) => Math.max(a, b), -1) + 1;
  return x.length === 2 ? [x[0], width] : [width];
}

/** Counts of the grams of one row, by gram number. */
function countRow(
  row: Float64Array,
  grams: ReadonlyMap<string, number>,
  { min_gram_length: least, max_gram_length: most, max_skip_count }: TfIdfAttrs,
): Map<number, number> {
  const counts = new Map<number, number>();
  for (let n = least; n <= most; n++)
    for (let step = 1; step <= (n === 1 ? 1 : max_skip_count + 1); step++)
      for (let at = 0; at + (n - 1) * step < row.length; at++) {
        const gram = Array.from({ length: n }, (_, k) => row[at + k * step]);
        const number = grams.get(gram.join());
        if (number !== undefined) counts.set(number, (counts.get(number) ?? 0) + 1);
      }
  return counts;
}

function vectorize(x: TensorData, attrs: TfIdfAttrs): TensorData {
  const shape = outputShape(x.shape, attrs);
  const width = shape[shape.length - 1];
  const values = toNumbers(x);
  const grams = gramsOf(attrs);
  const rows = x.shape.length === 2 ? x.shape[0] : 1;
  const length = values.length / Math.max(1, rows);
  const out = new Float64Array(rows * width);
  for (let r = 0; r < rows; r++)
    for (const [gram, count] of countRow(values.subarray(r * length, (r + 1) * length), grams, attrs)) {
      const weight = attrs.weights?.[gram] ?? 1;
      out[r * width + attrs.ngram_indexes[gram]] = attrs.mode === "TF" ? count : attrs.mode === "IDF" ? weight : count * weight;
    }
  return fromNumbers("f32", shape, out);
}

function check(inputs: readonly (Value | null)[], attrs: TfIdfAttrs): Shape {
  const { shape } = inputType(OP, inputs, 0, ["i32", "i64"]);
  if (attrs.pool_strings) throw new HeddleError("unsupported", `${OP}: strings are not supported, only numbers are`);
  if (shape.length < 1 || shape.length > 2) throw new HeddleError("bad-model", `${OP}: input 0 is (${shape}), wanted one or two axes`);
  if (!["TF", "IDF", "TFIDF"].includes(attrs.mode))
    throw new HeddleError("bad-model", `${OP}: mode is ${attrs.mode}, wanted TF, IDF or TFIDF`);
  const { min_gram_length: least, max_gram_length: most, max_skip_count: skips } = attrs;
  if (!(least >= 1 && most >= least && most <= 64 && skips >= 0 && skips <= 1 << 16))
    throw new HeddleError("bad-model", `${OP}: grams of ${least} to ${most} with ${skips} skips`);
  const { ngram_counts: starts, pool_int64s: pool = [] } = attrs;
  if (starts.some((s, i) => !(s >= (starts[i - 1] ?? 0) && s <= pool.length)))
    throw new HeddleError("bad-model", `${OP}: ngram_counts (${starts}) do not part a pool of ${pool.length}`);
  const count = gramsOf(attrs).size;
  if (attrs.ngram_indexes.length !== count || attrs.ngram_indexes.some((i) => !(i >= 0 && i < 1 << 24)))
    throw new HeddleError("bad-model", `${OP}: ${attrs.ngram_indexes.length} indices for ${count} grams`);
  return shape;
}

const TfIdfVectorizer: Op = defineOp<TfIdfAttrs>({
  name: OP,
  kind: "opaque",
  attrs: {
    max_gram_length: { type: "int" },
    max_skip_count: { type: "int" },
    min_gram_length: { type: "int" },
    mode: { type: "string" },
    ngram_counts: { type: "ints" },
    ngram_indexes: { type: "ints" },
    pool_int64s: { type: "ints", optional: true },
    pool_strings: { type: "strings", optional: true },
    weights: { type: "floats", optional: true },
  },
  infer: (inputs, attrs) => [{ dtype: "f32", shape: outputShape(check(inputs, attrs), attrs) }],
  evaluate: ([x], node) => [vectorize(x!, node.attrs)], // checked by infer
  samples: [
    {
      inputs: [tensorOf("i32", [1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8], [2, 6])],
      attrs: {
        mode: "TF",
        min_gram_length: 1,
        max_gram_length: 2,
        max_skip_count: 0,
        ngram_counts: [0, 4],
        ngram_indexes: [0, 1, 2, 3, 4, 5, 6],
        pool_int64s: [2, 3, 5, 4, 5, 6, 7, 8, 6, 7],
      },
    },
  ],
});

export const tfIdfOps: readonly Op[] = [TfIdfVectorizer];
