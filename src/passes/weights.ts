// Loops over constant weights: products with the scales of their channels, and sums over what one shifted input channel adds.
// They meet millions of numbers once, in code that is still cold: few, flat and of one type, so that they are soon compiled.
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../ir/tensor.ts";
import { type Affine, channel, IDENTITY } from "./affine.ts";
import type { Linear } from "./linear.ts";

type Floats = Float32Array | Float64Array;

/** Weights as numbers; float32 ones as they are stored. */
const numbersOf = (tensor: TensorData): Floats => (tensor.dtype === "f32" ? (tensor.data as Float32Array) : toNumbers(tensor));

/** Weights times the scale of their input channel and the scale of their output channel. */
export function scaledWeights(linear: Linear, before: Affine | null, after: Affine | null): TensorData {
  const { weights, inOf, outOf, walks } = linear;
  const { scale: input } = before ?? IDENTITY;
  const { scale: output } = after ?? IDENTITY;
  if (input.length === 1 && output.length === 1 && input[0] * output[0] === 1) return weights;
  const [outer, inner] = weights.shape;
  const taps = elementCount(weights.shape.slice(2));
  const from = numbersOf(weights);
  const to = from instanceof Float32Array ? new Float32Array(from.length) : new Float64Array(from.length);
  // One of the two scales stays along the second axis.
  const [staying, walking] = walks === "in" ? [output, input] : [input, output];
  const factors = new Float64Array(outer);
  for (let a = 0; a < outer; a++) factors[a] = channel(staying, walks === "in" ? outOf(a) : inOf(a));
  if (walking.length === 1) {
    for (let a = 0; a < outer; a++) factors[a] *= walking[0];
    scaleRows(from, to, factors, inner * taps);
  } else {
    for (let a = 0; a < outer; a++) {
      const first = walks === "in" ? inOf(a) : outOf(a);
      scaleChannels(from, to, a * inner * taps, taps, walking, first, inner, factors[a]);
    }
  }
  return to instanceof Float32Array ? { ...weights, data: to } : fromNumbers(weights.dtype, weights.shape, to);
}

/** Each row of `length` numbers times its factor. */
function scaleRows(from: Floats, to: Floats, factors: Float64Array, length: number): void {
  for (let row = 0, k = 0; row < factors.length; row++) {
    const factor = factors[row];
    for (const end = k + length; k < end; k++) to[k] = from[k] * factor;
  }
}

/** `count` channels of `taps` weights each, from `at` on, times factor and the scales from `first` on. */
function scaleChannels(
  from: Floats,
  to: Floats,
  at: number,
  taps: number,
  scale: Float64Array,
  first: number,
  count: number,
  factor: number,
): void {
  for (let b = 0, k = at; b < count; b++) {
    const f = scale[first + b] * factor;
    for (const end = k + taps; k < end; k++) to[k] = from[k] * f;
  }
}

/** What a shift of each input channel adds to each output channel, where all taps see it; null: nothing. */
export function shiftSums({ weights, inOf, outOf, outChannels, walks }: Linear, shift: Float64Array): Float64Array | null {
  if (shift.length === 1 && shift[0] === 0) return null;
  const sums = new Float64Array(outChannels);
  const [outer, inner] = weights.shape;
  const taps = elementCount(weights.shape.slice(2));
  const values = numbersOf(weights);
  if (walks === "out") {
    const rows = new Float64Array(outer * inner);
    addRows(values, rows, taps);
    for (let a = 0, k = 0; a < outer; a++) for (let b = 0; b < inner; b++, k++) sums[outOf(a) + b] += channel(shift, inOf(a)) * rows[k];
  } else if (shift.length === 1) {
    const rows = new Float64Array(outer);
    addRows(values, rows, inner * taps);
    for (let a = 0; a < outer; a++) sums[outOf(a)] += rows[a] * shift[0];
  } else {
    for (let a = 0; a < outer; a++) sums[outOf(a)] += weightedSum(values, a * inner * taps, taps, shift, inOf(a), inner);
  }
  return sums;
}

/** The sum of each row of `length` numbers. */
function addRows(values: Floats, sums: Float64Array, length: number): void {
  for (let row = 0, k = 0; row < sums.length; row++) {
    let sum = 0;
    for (const end = k + length; k < end; k++) sum += values[k];
    sums[row] = sum;
  }
}

/** Σ of `count` channels of `taps` weights each, from `at` on, times the shifts from `first` on. */
function weightedSum(weights: Floats, at: number, taps: number, shift: Float64Array, first: number, count: number): number {
  let sum = 0;
  for (let b = 0, k = at; b < count; b++) {
    const f = shift[first + b];
    for (const end = k + taps; k < end; k++) sum += weights[k] * f;
  }
  return sum;
}
