// What scales and shifts of the channels around constant weights do to the weights, and what they add to the bias.
import { fromNumbers, type TensorData, toNumbers } from "../ir/tensor.ts";
import { type Affine, channel, times } from "./affine.ts";
import type { Linear } from "./linear.ts";
import { foldRows } from "./weight_rows.ts";

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
  if ((!isShifted && !isScaled) || weights.data.length === 0) return { weights, sums };
  const from = weights.dtype === "f32" ? (weights.data as Float32Array) : toNumbers(weights); // f32 is stored so
  const to = from instanceof Float32Array ? new Float32Array(from.length) : new Float64Array(from.length);
  // The second axis walks over input or output channels: where those differ, each [a][b] is a row of its own, else each [a] is one.
  const differ = walks === "in" ? scale.length > 1 || shift.length > 1 : after.scale.length > 1 || isShifted;
  if (differ) foldEach(linear, from, to, before, after, sums);
  else {
    const outer = weights.shape[0];
    const factors = times(scale, after.scale); // of which one is a single number
    const rowSums = new Float64Array(outer);
    foldRows(from, to, factors.length === outer ? factors : new Float64Array(outer).fill(factors[0]), rowSums, from.length / outer);
    if (isShifted) sums.set(times(rowSums, shift)); // rows are output channels
  }
  if (!isScaled) return { weights, sums };
  return { weights: to instanceof Float32Array ? { ...weights, data: to } : fromNumbers(weights.dtype, weights.shape, to), sums };
}

/** Folds each [a][b] with its own factor. */
function foldEach<T extends Float32Array | Float64Array>(
  { weights, inOf, outOf, walks }: Linear,
  from: T,
  to: T,
  { scale, shift }: Affine,
  after: Affine,
  sums: Float64Array,
): void {
  const [outer, inner] = weights.shape;
  const size = from.length / outer;
  const [inStep, outStep] = walks === "in" ? [1, 0] : [0, 1];
  const factors = new Float64Array(inner);
  const rowSums = new Float64Array(inner);
  for (let a = 0; a < outer; a++) {
    const [i, o] = [inOf(a), outOf(a)];
    for (let b = 0; b < inner; b++) factors[b] = channel(scale, i + b * inStep) * channel(after.scale, o + b * outStep);
    rowSums.fill(0);
    foldRows(from.subarray(a * size, (a + 1) * size), to.subarray(a * size, (a + 1) * size), factors, rowSums, size / inner);
    if (shift.length > 1 || shift[0] !== 0)
      // a sum that is no number must not meet a zero
      for (let b = 0; b < inner; b++) sums[o + b * outStep] += channel(shift, i + b * inStep) * rowSums[b];
  }
}
