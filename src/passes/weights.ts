// What scales and shifts of the channels around constant weights do to the weights, and what they add to the bias.
import { bytesOf, elementCount, fromNumbers, type TensorData, toNumbers } from "../ir/tensor.ts";
import { type Affine, channel, times } from "./affine.ts";
import type { Linear } from "./linear.ts";
import { foldRows, foldRowsPlainly } from "./weight_rows.ts";

export interface FoldedWeights {
  readonly weights: TensorData;
  /** What the shift before adds to each output channel. */
  readonly sums: Float64Array;
}

/** Weights times the scales of their input and output channels. */
export function foldedWeights(linear: Linear, before: Affine, after: Affine): FoldedWeights {
  const { weights, walks, outChannels } = linear;
  const { scale, shift } = before;
  const isShifted = shift.length > 1 || shift[0] !== 0;
  const isScaled = scale.length > 1 || after.scale.length > 1 || scale[0] * after.scale[0] !== 1;
  const sums = new Float64Array(outChannels);
  const count = elementCount(weights.shape);
  if ((!isShifted && !isScaled) || count === 0) return { weights, sums };
  const folder = weights.dtype === "f32" ? foldFloats(weights) : foldNumbers(weights);
  // The second axis walks over input or output channels: where those differ, each [a][b] is a row of its own, else each [a] is one.
  const differ = walks === "in" ? scale.length > 1 || shift.length > 1 : after.scale.length > 1 || isShifted;
  if (differ) foldEach(linear, folder, before, after, sums);
  else {
    const outer = weights.shape[0];
    const factors = times(scale, after.scale); // of which one is a single number
    const rowSums = new Float64Array(outer);
    folder.fold(0, factors.length === outer ? factors : new Float64Array(outer).fill(factors[0]), rowSums, count / outer);
    if (isShifted) sums.set(times(rowSums, shift)); // rows are output channels
  }
  return { weights: isScaled ? folder.result() : weights, sums };
}

/** Multiplies and adds rows of one tensor. */
interface Folder {
  /** Rows of `length` numbers from number `at` on. */
  fold(at: number, factors: Float64Array, sums: Float64Array, length: number): void;
  result(): TensorData;
}

function foldFloats(weights: TensorData): Folder {
  const from = bytesOf(weights); // as it lies in the file
  const data = new Float32Array(from.length / 4);
  return {
    fold: (at, factors, sums, length) => foldRows(from.subarray(4 * at), data.subarray(at), factors, sums, length),
    result: () => ({ dtype: "f32", shape: weights.shape, data }),
  };
}

function foldNumbers(weights: TensorData): Folder {
  const numbers = toNumbers(weights);
  return {
    fold: (at, factors, sums, length) => foldRowsPlainly(numbers.subarray(at), factors, sums, length),
    result: () => fromNumbers(weights.dtype, weights.shape, numbers),
  };
}

/** Folds each [a][b] with its own factor. */
function foldEach({ weights, inOf, outOf, walks }: Linear, folder: Folder, before: Affine, after: Affine, sums: Float64Array): void {
  const { scale, shift } = before;
  const [outer, inner] = weights.shape;
  const size = elementCount(weights.shape) / outer;
  const [inStep, outStep] = walks === "in" ? [1, 0] : [0, 1];
  const factors = new Float64Array(inner);
  const rowSums = new Float64Array(inner);
  for (let a = 0; a < outer; a++) {
    const [i, o] = [inOf(a), outOf(a)];
    for (let b = 0; b < inner; b++) factors[b] = channel(scale, i + b * inStep) * channel(after.scale, o + b * outStep);
    rowSums.fill(0);
    folder.fold(a * size, factors, rowSums, size / inner);
    if (shift.length > 1 || shift[0] !== 0)
      // a sum that is no number must not meet a zero
      for (let b = 0; b < inner; b++) sums[o + b * outStep] += channel(shift, i + b * inStep) * rowSums[b];
  }
}
