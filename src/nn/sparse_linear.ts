// SparseLinear: (…, in) → (…, out) with a weight of which only some elements exist: memory and work go with their number.
import { HeddleError } from "../ir/error.ts";
import type { TensorData } from "../ir/tensor.ts";
import { type Csb, visitCsb } from "../sparse/csb.ts";
import { csbFromFloats } from "../sparse/csb_dense.ts";
import { evaluate, fromArray, fromData, Parameter, sparseLinear, type Tensor } from "../tensor/index.ts";
import type { Linear } from "./linear.ts";
import { Module } from "./module.ts";

export interface SparseLinearOptions {
  readonly bias?: TensorData | null;
  /** Which elements of the weight exist: those that are not 0 here. Default: those of the weight that are not 0. */
  readonly mask?: ArrayLike<number>;
}

/** Blocks whose panels leave room in the first-level cache; fewer nonzeros a row pay for longer ones. */
const BLOCK = 64;
const SPARSE_BLOCK = 128;
const SPARSE = 0.15;

/** x · weightᵀ + bias; weight (out, in) float32. The elements that exist are learned, the others stay zeros. */
export class SparseLinear extends Module {
  /** Of the elements, block after block. */
  readonly values: Parameter;
  readonly bias: Parameter | null;
  /** Outside of what modules search for parameters. */
  readonly #pattern: Csb;

  constructor(weight: TensorData, { bias = null, mask = weight.data as ArrayLike<number> }: SparseLinearOptions = {}) {
    super();
    this.#pattern = patternOf(weight, mask);
    this.values = new Parameter(fromArray(this.#pattern.values as Float32Array, [this.#pattern.values.length])); // patternOf takes float32 only
    this.bias = bias && new Parameter(fromData(bias));
  }

  /** Keeps the largest of a layer's weights; `sparsity` is the share that goes. */
  static async prune(layer: Linear, sparsity: number): Promise<SparseLinear> {
    if (!(sparsity >= 0 && sparsity < 1)) throw new HeddleError("bad-argument", `SparseLinear: sparsity ${sparsity}, wanted 0 to below 1`);
    const parameters = [layer.weight, ...(layer.bias ? [layer.bias] : [])].map((p) => p.value);
    await evaluate(...parameters);
    const [weight, bias = null] = await Promise.all(parameters.map((p) => p.tensorData()));
    const sizes = Float32Array.from(weight.data as Float32Array, Math.abs); // patternOf refuses others
    return new SparseLinear(weight, { bias, mask: maskOfLargest(sizes, Math.floor(sparsity * sizes.length)) });
  }

  /** Share of the weight's elements that exist. */
  get density(): number {
    return this.#pattern.values.length / (this.#pattern.rows * this.#pattern.columns);
  }

  forward(x: Tensor): Tensor {
    const product = sparseLinear(x, this.values.value, this.#pattern);
    return this.bias ? product.add(this.bias.value) : product;
  }

  /** The weight (out, in) as it is now, zeros and all. */
  async denseWeight(): Promise<TensorData> {
    const { rows, columns } = this.#pattern;
    const values = (await this.values.value.tensorData()).data as Float32Array; // made of float32
    const data = new Float32Array(rows * columns);
    visitCsb(this.#pattern, (row, column, i) => {
      data[row * columns + column] = values[i];
    });
    return { dtype: "f32", shape: [rows, columns], data };
  }
}

/** All but the `count` smallest; of equal ones the first go. */
function maskOfLargest(sizes: Float32Array, count: number): Uint8Array {
  const mask = new Uint8Array(sizes.length).fill(1);
  if (count === 0) return mask;
  const bits = new Uint32Array(sizes.buffer, sizes.byteOffset, sizes.length);
  const { limit, below } = smallest(bits, count);
  for (let i = 0, equal = count - below; i < bits.length; i++) if (bits[i] < limit || (bits[i] === limit && equal-- > 0)) mask[i] = 0;
  return mask;
}

const HALF = 2 ** 16;

/** The `count`-th smallest, and how many are smaller, of numbers by their bits, which have their order where none is negative: counted by the upper half, then by the lower one. */
function smallest(bits: Uint32Array, count: number): { readonly limit: number; readonly below: number } {
  const counts = new Uint32Array(HALF);
  for (let i = 0; i < bits.length; i++) counts[bits[i] >>> 16]++;
  let [below, upper, lower] = [0, 0, 0];
  while (below + counts[upper] < count) below += counts[upper++];
  counts.fill(0);
  for (let i = 0; i < bits.length; i++) if (bits[i] >>> 16 === upper) counts[bits[i] & (HALF - 1)]++;
  while (below + counts[lower] < count) below += counts[lower++];
  return { limit: upper * HALF + lower, below };
}

function patternOf({ dtype, shape, data }: TensorData, mask: ArrayLike<number>): Csb {
  if (dtype !== "f32" || shape.length !== 2 || mask.length !== data.length)
    throw new HeddleError(
      "bad-argument",
      `SparseLinear: weight ${dtype}[${shape}] and mask of ${mask.length}, wanted f32 (out, in) and as many`,
    );
  const weights = data as Float32Array; // as its dtype says
  const [rows, columns] = shape;
  let count = 0;
  for (let i = 0; i < mask.length; i++) if (mask[i] !== 0) count++;
  if (count === 0) throw new HeddleError("bad-argument", "SparseLinear: no element of the weight is left");
  return csbFromFloats(weights, {
    rows,
    columns,
    block: count > SPARSE * weights.length ? BLOCK : SPARSE_BLOCK,
    mask: mask === data ? undefined : mask,
  });
}
