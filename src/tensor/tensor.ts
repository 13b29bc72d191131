// Tensor: immutable numbers of a shape, computed when they are asked for; its methods write the graph of what is to be computed.
import type { DType, TypedArray } from "../ir/dtype.ts";
import type { Attrs, Value } from "../ir/graph.ts";
import { elementCount, type TensorData, toNumbers } from "../ir/tensor.ts";
import { all, axisOf, cast, expand, full, ints, op, reshape, scalar, transpose } from "./build.ts";
import { numbersOf, use } from "./execute.ts";
import { forgetStorage } from "./leaks.ts";
import { stopped } from "./marks.ts";
import { type Range, sliced } from "./ranges.ts";
import type { Broadcast, Dims, MatMulShape, Reversed, ShapeOf } from "./shapes.ts";
import { type Handle, handleOf, refuse, storageOf } from "./trace.ts";
import { type ConvOptions, type ConvTransposeOptions, conv, convTranspose, type PerAxis, type PoolOptions, pool } from "./window_ops.ts";

/** What an operator takes besides its tensor: a number becomes a scalar of the tensor's type. */
export type Operand = Tensor | number;
export type Axes = number | readonly number[];
type Nested = number | readonly Nested[];

/** The value of a tensor for an operator that is applied now. */
export const toValue = (x: Tensor): Value => use(x.handle);
export const tensorFrom = <S extends Dims, D extends DType>(value: Value): Tensor<S, D> => new Tensor<S, D>(handleOf(value));

/** A number as a scalar of a type, a tensor as it is. */
export const operand = (x: Operand, dtype: DType): Value => (typeof x === "number" ? scalar(dtype, x) : toValue(x));

export class Tensor<S extends Dims = Dims, D extends DType = DType> implements Disposable {
  /** For heddle's own files. */
  readonly handle: Handle;

  /** Use tensor(), zeros() and their kin. */
  constructor(handle: Handle) {
    this.handle = handle;
  }

  get shape(): S {
    return this.handle.value.type.shape as Dims as S; // what made the tensor says so
  }
  get dtype(): D {
    return this.handle.value.type.dtype as D;
  }
  get rank(): number {
    return this.shape.length;
  }
  /** Number of elements. */
  get size(): number {
    return elementCount(this.shape);
  }

  /** The elements, row-major, computed if they are not yet; not to be written to. float16 and bfloat16 are raw bits, see numbers(). */
  async data(): Promise<TypedArray> {
    return (await numbersOf(this.handle)).data;
  }
  /** Shape, type and elements. */
  tensorData(): Promise<TensorData> {
    return numbersOf(this.handle);
  }
  /** The elements as float64. */
  async numbers(): Promise<Float64Array> {
    return toNumbers(await numbersOf(this.handle));
  }
  /** The only element. */
  async item(): Promise<number> {
    if (this.size !== 1) refuse(`item: shape (${this.shape}) has ${this.size} elements, wanted 1`);
    return (await this.numbers())[0];
  }
  /** The elements as nested lists. */
  async array(): Promise<Nested> {
    const numbers = await this.numbers();
    const nest = (axis: number, from: number, count: number): Nested => {
      if (axis === this.rank) return numbers[from];
      const step = count / Math.max(1, this.shape[axis]);
      return Array.from({ length: this.shape[axis] }, (_, i) => nest(axis + 1, from + i * step, step));
    };
    return nest(0, 0, numbers.length);
  }
  toString(): string {
    const known = storageOf(this.handle.value)?.data;
    const shown = known ? ` ${[...toNumbers({ ...known, data: known.data.slice(0, 8) })].join(", ")}${this.size > 8 ? ", …" : ""}` : "";
    return `Tensor ${this.dtype}[${this.shape}]${shown}`;
  }

  [Symbol.for("nodejs.util.inspect.custom")](): string {
    return this.toString();
  }

  /** Lets go of the numbers. Not needed: what nobody refers to is collected. */
  dispose(): void {
    const storage = storageOf(this.handle.value);
    if (storage) forgetStorage(storage);
    this.handle.isDisposed = true;
  }
  [Symbol.dispose](): void {
    this.dispose();
  }

  // One element at a time.
  neg(): Tensor<S, D> {
    return this.map("Neg");
  }
  abs(): Tensor<S, D> {
    return this.map("Abs");
  }
  sign(): Tensor<S, D> {
    return this.map("Sign");
  }
  sqrt(): Tensor<S, D> {
    return this.map("Sqrt");
  }
  reciprocal(): Tensor<S, D> {
    return this.map("Reciprocal");
  }
  square(): Tensor<S, D> {
    const x = toValue(this);
    return tensorFrom(op("Mul", [x, x]));
  }
  exp(): Tensor<S, D> {
    return this.map("Exp");
  }
  log(): Tensor<S, D> {
    return this.map("Log");
  }
  floor(): Tensor<S, D> {
    return this.map("Floor");
  }
  ceil(): Tensor<S, D> {
    return this.map("Ceil");
  }
  /** Halves to even. */
  round(): Tensor<S, D> {
    return this.map("Round");
  }
  sin(): Tensor<S, D> {
    return this.map("Sin");
  }
  cos(): Tensor<S, D> {
    return this.map("Cos");
  }
  tanh(): Tensor<S, D> {
    return this.map("Tanh");
  }
  erf(): Tensor<S, D> {
    return this.map("Erf");
  }
  sigmoid(): Tensor<S, D> {
    return this.map("Sigmoid");
  }
  relu(): Tensor<S, D> {
    return this.map("Relu");
  }
  leakyRelu(slope = 0.01): Tensor<S, D> {
    return this.map("LeakyRelu", { alpha: slope });
  }
  elu(alpha = 1): Tensor<S, D> {
    return this.map("Elu", { alpha });
  }
  softplus(): Tensor<S, D> {
    return this.map("Softplus");
  }
  /** x · Φ(x); "tanh": its approximation. */
  gelu(approximate: "none" | "tanh" = "none"): Tensor<S, D> {
    return this.map("Gelu", { approximate });
  }
  /** x · sigmoid(x). */
  silu(): Tensor<S, D> {
    return this.map("Swish");
  }
  /** Booleans only. */
  not(): Tensor<S, "bool"> {
    return tensorFrom(op("Not", [toValue(this)]));
  }
  isNaN(): Tensor<S, "bool"> {
    return tensorFrom(op("IsNaN", [toValue(this)]));
  }
  /** Elements as another type: floats to integers are cut off, to bool x ≠ 0. */
  cast<T extends DType>(dtype: T): Tensor<S, T> {
    return tensorFrom(cast(toValue(this), dtype));
  }
  clip(min: Operand | null, max: Operand | null): Tensor<S, D> {
    const x = toValue(this);
    const bound = (b: Operand | null) => (b === null ? null : operand(b, x.type.dtype));
    return tensorFrom(op("Clip", [x, bound(min), bound(max)]));
  }
  /** The same numbers, through which no gradient flows. */
  stopGradient(): Tensor<S, D> {
    return tensorFrom(stopped(toValue(this)));
  }

  // Two tensors that broadcast.
  add<B extends Operand>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, D> {
    return this.with("Add", b);
  }
  sub<B extends Operand>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, D> {
    return this.with("Sub", b);
  }
  mul<B extends Operand>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, D> {
    return this.with("Mul", b);
  }
  div<B extends Operand>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, D> {
    return this.with("Div", b);
  }
  pow<B extends Operand>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, D> {
    return this.with("Pow", b);
  }
  maximum<B extends Operand>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, D> {
    return this.with("Max", b);
  }
  minimum<B extends Operand>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, D> {
    return this.with("Min", b);
  }
  /** The sign is the divisor's. Integers only. */
  mod<B extends Operand>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, D> {
    return this.with("Mod", b);
  }
  eq<B extends Operand>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, "bool"> {
    return this.with("Equal", b);
  }
  ne<B extends Operand>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, "bool"> {
    return this.eq(b).not();
  }
  lt<B extends Operand>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, "bool"> {
    return this.with("Less", b);
  }
  le<B extends Operand>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, "bool"> {
    return this.with("LessOrEqual", b);
  }
  gt<B extends Operand>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, "bool"> {
    return this.with("Greater", b);
  }
  ge<B extends Operand>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, "bool"> {
    return this.with("GreaterOrEqual", b);
  }
  and<B extends Tensor>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, "bool"> {
    return this.with("And", b);
  }
  or<B extends Tensor>(b: B): Tensor<Broadcast<S, ShapeOf<B>>, "bool"> {
    return this.with("Or", b);
  }
  /** Of booleans: elements of `a` where this is true, of `b` elsewhere. */
  where<E extends DType>(a: Tensor<Dims, E>, b: Operand): Tensor<number[], E>;
  where(a: Operand, b: Operand): Tensor<number[]>;
  where(a: Operand, b: Operand): Tensor<number[]> {
    const dtype = a instanceof Tensor ? a.dtype : b instanceof Tensor ? b.dtype : "f32";
    return tensorFrom(op("Where", [toValue(this), operand(a, dtype), operand(b, dtype)]));
  }

  /** (…, m, k) · (…, k, n) → (…, m, n). */
  matmul<T extends Dims>(b: Tensor<T>): Tensor<MatMulShape<S, T>, D> {
    return tensorFrom(op("MatMul", [toValue(this), toValue(b)]));
  }

  // Over axes: all of them where none is given.
  sum(): Tensor<[], D>;
  sum(axis?: Axes, keepdims?: boolean): Tensor<number[], D>;
  sum(axis?: Axes, keepdims = false): Tensor<number[], D> {
    return this.reduce("ReduceSum", axis, keepdims);
  }
  mean(): Tensor<[], D>;
  mean(axis?: Axes, keepdims?: boolean): Tensor<number[], D>;
  mean(axis?: Axes, keepdims = false): Tensor<number[], D> {
    return this.reduce("ReduceMean", axis, keepdims);
  }
  max(): Tensor<[], D>;
  max(axis?: Axes, keepdims?: boolean): Tensor<number[], D>;
  max(axis?: Axes, keepdims = false): Tensor<number[], D> {
    return this.reduce("ReduceMax", axis, keepdims);
  }
  min(): Tensor<[], D>;
  min(axis?: Axes, keepdims?: boolean): Tensor<number[], D>;
  min(axis?: Axes, keepdims = false): Tensor<number[], D> {
    return this.reduce("ReduceMin", axis, keepdims);
  }
  /** Mean squared distance from the mean; `correction` 1 divides by one less. */
  variance(axis?: Axes, keepdims = false, correction = 0): Tensor<number[], D> {
    const centered = this.sub(this.mean(axis, true));
    const total = centered.square().sum(axis, keepdims);
    return total.div(Math.max(0, this.size / Math.max(1, total.size) - correction)) as Tensor<number[], D>; // a scalar changes no shape
  }
  /** log Σ eˣ without overflow. */
  logSumExp(axis?: Axes, keepdims = false): Tensor<number[], D> {
    return this.reduce("ReduceLogSumExp", axis, keepdims);
  }
  /** Where along the axis the (first) largest element is. */
  argmax(axis = -1, keepdims = false): Tensor<number[], "i32"> {
    return tensorFrom(cast(op("ArgMax", [toValue(this)], { axis, keepdims: Number(keepdims) }), "i32"));
  }
  argmin(axis = -1, keepdims = false): Tensor<number[], "i32"> {
    return tensorFrom(cast(op("ArgMin", [toValue(this)], { axis, keepdims: Number(keepdims) }), "i32"));
  }
  /** Sums from the first element up to each. */
  cumsum(axis = -1): Tensor<S, D> {
    return tensorFrom(op("CumSum", [toValue(this), scalar("i64", axisOf("cumsum", axis, this.rank))]));
  }
  softmax(axis = -1): Tensor<S, D> {
    return this.map("Softmax", { axis });
  }
  logSoftmax(axis = -1): Tensor<S, D> {
    return this.map("LogSoftmax", { axis });
  }
  /** Over the last axes, as many as the weight has (default: the last one). */
  layerNorm(weight?: Tensor | null, bias?: Tensor | null, epsilon = 1e-5): Tensor<S, D> {
    const x = toValue(this);
    const scale = weight ? toValue(weight) : full(x.type.dtype, x.type.shape.slice(-1), 1);
    const inputs = [x, scale, ...(bias ? [toValue(bias)] : [])];
    return tensorFrom(op("LayerNormalization", inputs, { axis: -scale.type.shape.length, epsilon }));
  }

  // The same elements elsewhere.
  /** Axes in another order; default: reversed. */
  transpose(): Tensor<Reversed<S>, D>;
  transpose(perm: readonly number[]): Tensor<number[], D>;
  transpose(perm?: readonly number[]): Tensor<Dims, D> {
    return tensorFrom(
      transpose(toValue(this), perm?.map((a) => axisOf("transpose", a, this.rank)) ?? this.shape.map((_, i) => this.rank - 1 - i)),
    );
  }
  /** Two axes change places. */
  swapAxes(a = -1, b = -2): Tensor<number[], D> {
    const order = this.shape.map((_, i) => i);
    const [i, j] = [axisOf("swapAxes", a, this.rank), axisOf("swapAxes", b, this.rank)];
    [order[i], order[j]] = [order[j], order[i]];
    return this.transpose(order);
  }
  /** One size may be -1: what is left. */
  reshape<const T extends Dims>(shape: T): Tensor<T, D> {
    return tensorFrom(reshape(toValue(this), shape));
  }
  /** Axes from `start` to `end` become one. */
  flatten(start = 0, end = -1): Tensor<number[], D> {
    if (this.rank === 0) return this.reshape([1]) as Tensor<Dims, D> as Tensor<number[], D>;
    const [from, to] = [axisOf("flatten", start, this.rank), axisOf("flatten", end, this.rank)];
    return this.reshape([...this.shape.slice(0, from), elementCount(this.shape.slice(from, to + 1)), ...this.shape.slice(to + 1)]);
  }
  /** Removes axes of size 1; default: all. */
  squeeze(axis?: Axes): Tensor<number[], D> {
    return tensorFrom(op("Squeeze", [toValue(this), ...(axis === undefined ? [] : [ints(...[axis].flat())])]));
  }
  unsqueeze(axis: Axes): Tensor<number[], D> {
    return tensorFrom(op("Unsqueeze", [toValue(this), ints(...[axis].flat())]));
  }
  broadcastTo<const T extends Dims>(shape: T): Tensor<T, D> {
    return tensorFrom(expand(toValue(this), shape));
  }
  /** One range an axis: a place, [start, end, step], or null for all. */
  slice(...ranges: readonly Range[]): Tensor<number[], D> {
    return tensorFrom(sliced(toValue(this), ranges));
  }
  /** Parts along an axis: their number, or their sizes. */
  split(parts: number | readonly number[], axis = 0): Tensor<number[], D>[] {
    const sizes = typeof parts === "number" ? undefined : ints(...parts);
    const attrs = { axis, ...(typeof parts === "number" ? { num_outputs: parts } : {}) };
    return all("Split", [toValue(this), ...(sizes ? [sizes] : [])], attrs).map((v) => tensorFrom(v));
  }
  /** Whole slices at these places of an axis: (…, n, …) and indices (i, j) give (…, i, j, …). */
  gather(indices: Tensor | readonly number[], axis = 0): Tensor<number[], D> {
    const places = indices instanceof Tensor ? toValue(indices) : ints(...indices);
    return tensorFrom(op("Gather", [toValue(this), places], { axis }));
  }
  /** One element for each index, along an axis (PyTorch's gather). */
  takeAlong(indices: Tensor, axis = -1): Tensor<number[], D> {
    return tensorFrom(op("GatherElements", [toValue(this), toValue(indices)], { axis }));
  }
  /** Adds elements before and after each axis: [[before, after], …]. */
  pad(margins: readonly (readonly [before: number, after: number])[], value = 0): Tensor<number[], D> {
    const pads = ints(...margins.map((m) => m[0]), ...margins.map((m) => m[1]));
    return tensorFrom(op("Pad", [toValue(this), pads, scalar(this.dtype, value)]));
  }
  /** On and below diagonal k of the last two axes; zero elsewhere. */
  tril(k = 0): Tensor<S, D> {
    return tensorFrom(op("Trilu", [toValue(this), scalar("i64", k)], { upper: 0 }));
  }
  triu(k = 0): Tensor<S, D> {
    return tensorFrom(op("Trilu", [toValue(this), scalar("i64", k)], { upper: 1 }));
  }

  // Sliding windows, on (N, C, spatial…).
  /** Weights (M, C/groups, kernel…). */
  conv(w: Tensor, options: ConvOptions<Tensor> = {}): Tensor<number[], D> {
    return tensorFrom(conv(toValue(this), toValue(w), { ...options, bias: options.bias && toValue(options.bias) }));
  }
  /** Weights (C, M/groups, kernel…). */
  convTranspose(w: Tensor, options: ConvTransposeOptions<Tensor> = {}): Tensor<number[], D> {
    return tensorFrom(convTranspose(toValue(this), toValue(w), { ...options, bias: options.bias && toValue(options.bias) }));
  }
  maxPool(size: PerAxis, options: PoolOptions = {}): Tensor<number[], D> {
    return tensorFrom(pool("MaxPool", toValue(this), size, options));
  }
  /** `countPad`: zeros of the padding count too. */
  avgPool(size: PerAxis, { countPad = true, ...options }: PoolOptions & { readonly countPad?: boolean } = {}): Tensor<number[], D> {
    return tensorFrom(pool("AveragePool", toValue(this), size, options, { count_include_pad: Number(countPad) }));
  }

  private map(name: string, attrs?: Attrs): Tensor<S, D> {
    return tensorFrom(op(name, [toValue(this)], attrs));
  }
  private with<T extends Dims, E extends DType>(name: string, b: Operand): Tensor<T, E> {
    const x = toValue(this);
    return tensorFrom(op(name, [x, operand(b, x.type.dtype)]));
  }
  private reduce(name: string, axis: Axes | undefined, keepdims: boolean): Tensor<number[], D> {
    const axes = axis === undefined ? undefined : [axis].flat();
    if (axes?.length === 0) return this as Tensor<Dims, D> as Tensor<number[], D>; // over no axis nothing changes
    return tensorFrom(op(name, [toValue(this), ...(axes ? [ints(...axes)] : [])], { keepdims: Number(keepdims) }));
  }
}
