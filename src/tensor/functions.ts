// The operators as functions: each is the method of the same name.
import type { DType } from "../ir/dtype.ts";
import { all, axisOf, full, ints, op, scalar } from "./build.ts";
import { zeros } from "./create.ts";
import type { Broadcast, Dims, MatMulShape, Reversed, ShapeOf } from "./shapes.ts";
import { type Axes, type Operand, operand, Tensor, tensorFrom, toValue } from "./tensor.ts";
import { refuse } from "./trace.ts";
import type { ConvOptions, ConvTransposeOptions, PerAxis, PoolOptions } from "./window_ops.ts";

type Map = <S extends Dims, D extends DType>(x: Tensor<S, D>) => Tensor<S, D>;

export const neg: Map = (x) => x.neg();
export const abs: Map = (x) => x.abs();
export const sign: Map = (x) => x.sign();
export const sqrt: Map = (x) => x.sqrt();
export const exp: Map = (x) => x.exp();
export const log: Map = (x) => x.log();
export const floor: Map = (x) => x.floor();
export const sin: Map = (x) => x.sin();
export const cos: Map = (x) => x.cos();
export const tanh: Map = (x) => x.tanh();
export const erf: Map = (x) => x.erf();
export const sigmoid: Map = (x) => x.sigmoid();
export const relu: Map = (x) => x.relu();
export const silu: Map = (x) => x.silu();
export const stopGradient: Map = (x) => x.stopGradient();
export const gelu = <S extends Dims, D extends DType>(x: Tensor<S, D>, approximate: "none" | "tanh" = "none"): Tensor<S, D> =>
  x.gelu(approximate);
export const clip = <S extends Dims, D extends DType>(x: Tensor<S, D>, min: Operand | null, max: Operand | null): Tensor<S, D> =>
  x.clip(min, max);
export const cast = <S extends Dims, D extends DType>(x: Tensor<S>, dtype: D): Tensor<S, D> => x.cast(dtype);

type TypeOf<A, B> = A extends Tensor<Dims, infer D> ? D : B extends Tensor<Dims, infer D> ? D : DType;
type Binary = <A extends Operand, B extends Operand>(a: A, b: B) => Tensor<Broadcast<ShapeOf<A>, ShapeOf<B>>, TypeOf<A, B>>;
type Comparison = <A extends Operand, B extends Operand>(a: A, b: B) => Tensor<Broadcast<ShapeOf<A>, ShapeOf<B>>, "bool">;

/** One of both is a tensor, whose type a number takes. */
function pair<T extends Dims, D extends DType>(name: string, a: Operand, b: Operand): Tensor<T, D> {
  const dtype = a instanceof Tensor ? a.dtype : b instanceof Tensor ? b.dtype : "f32";
  return tensorFrom(op(name, [operand(a, dtype), operand(b, dtype)]));
}

export const add: Binary = (a, b) => pair("Add", a, b);
export const sub: Binary = (a, b) => pair("Sub", a, b);
export const mul: Binary = (a, b) => pair("Mul", a, b);
export const div: Binary = (a, b) => pair("Div", a, b);
export const pow: Binary = (a, b) => pair("Pow", a, b);
export const maximum: Binary = (a, b) => pair("Max", a, b);
export const minimum: Binary = (a, b) => pair("Min", a, b);
export const eq: Comparison = (a, b) => pair("Equal", a, b);
export const lt: Comparison = (a, b) => pair("Less", a, b);
export const le: Comparison = (a, b) => pair("LessOrEqual", a, b);
export const gt: Comparison = (a, b) => pair("Greater", a, b);
export const ge: Comparison = (a, b) => pair("GreaterOrEqual", a, b);

/** Elements of `a` where the condition is true, of `b` elsewhere. */
export const where = (condition: Tensor, a: Operand, b: Operand): Tensor<number[]> => condition.where(a, b);

export const matmul = <A extends Dims, B extends Dims, D extends DType>(a: Tensor<A, D>, b: Tensor<B>): Tensor<MatMulShape<A, B>, D> =>
  a.matmul(b);

/** Sums of products over labelled axes: einsum("bij,bjk->bik", a, b). */
export const einsum = (equation: string, ...tensors: readonly Tensor[]): Tensor<number[]> =>
  tensorFrom(op("Einsum", tensors.map(toValue), { equation }));

type Reduce = <D extends DType>(x: Tensor<Dims, D>, axis?: Axes, keepdims?: boolean) => Tensor<number[], D>;
export const sum: Reduce = (x, axis, keepdims) => x.sum(axis, keepdims);
export const mean: Reduce = (x, axis, keepdims) => x.mean(axis, keepdims);
export const max: Reduce = (x, axis, keepdims) => x.max(axis, keepdims);
export const min: Reduce = (x, axis, keepdims) => x.min(axis, keepdims);
export const variance: Reduce = (x, axis, keepdims) => x.variance(axis, keepdims);
export const logSumExp: Reduce = (x, axis, keepdims) => x.logSumExp(axis, keepdims);
export const argmax = (x: Tensor, axis = -1, keepdims = false): Tensor<number[], "i32"> => x.argmax(axis, keepdims);
/** Weights of attention from scores (…, T, S) times `scale`: softmax over keys, with `causal` over those that are not behind the query's own place. */
export const scoreWeights = (
  scores: Tensor,
  { causal = false, scale = 1 }: { readonly causal?: boolean; readonly scale?: number } = {},
): Tensor => tensorFrom(op("ScoreWeights", [toValue(scores)], { causal: causal ? 1 : 0, scale }));
export interface HeadAttentionOptions {
  /** Queries see no keys that are behind their own place. */
  readonly causal?: boolean;
  /** Of scores. */
  readonly scale?: number;
  /** Booleans that broadcast to (N, H, T, S): which keys each query sees. */
  readonly mask?: Tensor;
  /** Added to the scores: broadcasts to (N, H, T, S). */
  readonly bias?: Tensor;
  /** Probability, and a key, of weights that are dropped. */
  readonly dropout?: { readonly p: number; readonly key: Tensor };
}
/** softmax(q · kᵀ · scale) · v by heads: queries (N, T, H, d), keys and values (N, S, H, d), or all of them as one tensor (N, T, 3H, d) → (N, T, H, d). */
export function headAttention(
  operands: readonly [Tensor, Tensor, Tensor] | readonly [Tensor],
  { causal = false, scale = 1, mask, bias, dropout }: HeadAttentionOptions = {},
): Tensor {
  const whole = (x: Tensor | undefined) => x && toValue(x.shape.length < 4 ? x.reshape([...new Array<number>(4 - x.shape.length).fill(1), ...x.shape]) : x); // biome-ignore format: one idea
  const [q, k = null, v = null] = operands.map(toValue);
  const all = [q, k, v, whole(mask) ?? null, whole(bias) ?? null, dropout ? toValue(dropout.key) : null];
  const count = all.findLastIndex((x) => x !== null) + 1;
  return tensorFrom(op("HeadAttention", all.slice(0, count), { causal: causal ? 1 : 0, scale, dropout: dropout?.p ?? 0 }));
}
export const softmax = <S extends Dims, D extends DType>(x: Tensor<S, D>, axis = -1): Tensor<S, D> => x.softmax(axis);
export const logSoftmax = <S extends Dims, D extends DType>(x: Tensor<S, D>, axis = -1): Tensor<S, D> => x.logSoftmax(axis);
export const layerNorm = <S extends Dims, D extends DType>(
  x: Tensor<S, D>,
  weight?: Tensor | null,
  bias?: Tensor | null,
  epsilon = 1e-5,
): Tensor<S, D> => x.layerNorm(weight, bias, epsilon);

export function transpose<S extends Dims, D extends DType>(x: Tensor<S, D>): Tensor<Reversed<S>, D>;
export function transpose<D extends DType>(x: Tensor<Dims, D>, perm: readonly number[]): Tensor<number[], D>;
export function transpose(x: Tensor, perm?: readonly number[]): Tensor {
  return perm ? x.transpose(perm) : x.transpose();
}
export const reshape = <const T extends Dims, D extends DType>(x: Tensor<Dims, D>, shape: T): Tensor<T, D> => x.reshape(shape);
export const flatten = <D extends DType>(x: Tensor<Dims, D>, start = 0, end = -1): Tensor<number[], D> => x.flatten(start, end);
export const squeeze = <D extends DType>(x: Tensor<Dims, D>, axis?: Axes): Tensor<number[], D> => x.squeeze(axis);
export const unsqueeze = <D extends DType>(x: Tensor<Dims, D>, axis: Axes): Tensor<number[], D> => x.unsqueeze(axis);
export const broadcastTo = <const T extends Dims, D extends DType>(x: Tensor<Dims, D>, shape: T): Tensor<T, D> => x.broadcastTo(shape);
export const gather = <D extends DType>(x: Tensor<Dims, D>, indices: Tensor | readonly number[], axis = 0): Tensor<number[], D> =>
  x.gather(indices, axis);
/** Rows of a table (n, width) at indices of any shape. */
export const embedding = <D extends DType>(table: Tensor<Dims, D>, indices: Tensor): Tensor<number[], D> => table.gather(indices, 0);
export const split = <D extends DType>(x: Tensor<Dims, D>, parts: number | readonly number[], axis = 0): Tensor<number[], D>[] =>
  x.split(parts, axis);
export const pad = <D extends DType>(x: Tensor<Dims, D>, margins: readonly (readonly [number, number])[], value = 0): Tensor<number[], D> =>
  x.pad(margins, value);
export const tril = <S extends Dims, D extends DType>(x: Tensor<S, D>, k = 0): Tensor<S, D> => x.tril(k);
export const triu = <S extends Dims, D extends DType>(x: Tensor<S, D>, k = 0): Tensor<S, D> => x.triu(k);

/** An operator reads no more tensors than this at once. */
const MAX_JOINED = 64;

/** Tensors one behind the other along an axis that they have. */
export function concat<D extends DType>(tensors: readonly Tensor<Dims, D>[], axis = 0): Tensor<number[], D> {
  if (tensors.length === 0) refuse("concat: there are no tensors");
  let parts = tensors.map(toValue);
  while (parts.length > 1) {
    const joined = [];
    for (let i = 0; i < parts.length; i += MAX_JOINED) joined.push(op("Concat", parts.slice(i, i + MAX_JOINED), { axis }));
    parts = joined;
  }
  return tensorFrom(parts[0]);
}
/** Tensors of one shape one behind the other along a new axis. */
export const stack = <D extends DType>(tensors: readonly Tensor<Dims, D>[], axis = 0): Tensor<number[], D> =>
  concat(tensors.map((t) => t.unsqueeze(axis)), axis); // biome-ignore format: short

/** Ones at the indices along a new axis of size `depth`, zeros elsewhere. */
export function oneHot<D extends DType = "f32">(indices: Tensor, depth: number, axis = -1, dtype?: D): Tensor<number[], D> {
  const values = op("Concat", [full(dtype ?? "f32", [1], 0), full(dtype ?? "f32", [1], 1)], { axis: 0 });
  return tensorFrom(op("OneHot", [toValue(indices), scalar("i64", depth), values], { axis }));
}
/** The largest elements along an axis in falling order, and their places. */
export function topK<D extends DType>(
  x: Tensor<Dims, D>,
  k: number,
  axis = -1,
): { values: Tensor<number[], D>; indices: Tensor<number[], "i64"> } {
  const [values, indices] = all("TopK", [toValue(x), ints(k)], { axis: axisOf("topK", axis, x.rank) });
  return { values: tensorFrom(values), indices: tensorFrom(indices) };
}
/** Zeros with `updates` (same shape as `indices`) added at these places of an axis of `size`. */
export function scatterAdd<D extends DType>(indices: Tensor, updates: Tensor<Dims, D>, size: number, axis = 0): Tensor<number[], D> {
  const at = axisOf("scatterAdd", axis, updates.rank);
  const target = toValue(zeros(updates.shape.with(at, size), updates.dtype));
  return tensorFrom(op("ScatterElements", [target, toValue(indices), toValue(updates)], { axis: at, reduction: "add" }));
}

/**
 * A recurrent layer as ONNX has it: x (T, N, in), weights (1, gates · hidden, …), biases, lengths, states → all states (T, 1, N, hidden) and the last ones.
 * A GRU's reset gate comes after the product with the state, as in PyTorch.
 */
export const recurrent = (cell: "LSTM" | "GRU", inputs: readonly (Tensor | null)[], fromEnd = false): Tensor<number[]>[] => {
  const hidden = inputs[2]?.shape[2]; // of the weights of the recurrence; other readers want it as an attribute
  const attrs = { direction: fromEnd ? "reverse" : "forward", hidden_size: hidden, ...(cell === "GRU" && { linear_before_reset: 1 }) };
  return all(cell, inputs.map((t) => t && toValue(t)), attrs).map((v) => tensorFrom(v)); // biome-ignore format: short
};

export const conv = <D extends DType>(x: Tensor<Dims, D>, w: Tensor, options?: ConvOptions<Tensor>): Tensor<number[], D> =>
  x.conv(w, options);
export const convTranspose = <D extends DType>(
  x: Tensor<Dims, D>,
  w: Tensor,
  options?: ConvTransposeOptions<Tensor>,
): Tensor<number[], D> => x.convTranspose(w, options);
export const maxPool = <D extends DType>(x: Tensor<Dims, D>, size: PerAxis, options?: PoolOptions): Tensor<number[], D> =>
  x.maxPool(size, options);
export const avgPool = <D extends DType>(
  x: Tensor<Dims, D>,
  size: PerAxis,
  options?: PoolOptions & { readonly countPad?: boolean },
): Tensor<number[], D> => x.avgPool(size, options);
