// Loops over constant weights: products with the scales of their channels, and sums over what one shifted input channel adds.
// They meet millions of numbers once, in code that is still cold: few, flat and of one type, so that they are soon compiled.
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../ir/tensor.ts";
import type { Affine } from "./affine.ts";
import type { Linear } from "./linear.ts";

type Floats = Float32Array | Float64Array;

/** Weights as numbers; float32 ones as they are stored. */
const numbersOf = (tensor: TensorData): Floats => (tensor.dtype === "f32" ? (tensor.data as Float32Array) : toNumbers(tensor));

/** The number that all are, or undefined. */
function uniform(numbers: Float64Array): number | undefined {
  for (let i = 1; i < numbers.length; i++) if (numbers[i] !== numbers[0]) return undefined;
  return numbers[0];
}

/** Weights times the scale of their input channel and the scale of their output channel. */
export function scaledWeights(linear: Linear, before: Affine | null, after: Affine | null): TensorData {
  const { weights, inOf, outOf, walks } = linear;
  const [walking, staying] = walks === "in" ? [before, after] : [after, before];
  const along = walking ? uniform(walking.scale) : 1;
  const across = staying ? uniform(staying.scale) : 1;
  if (along !== undefined && across !== undefined && along * across === 1) return weights;
  const [outer, inner] = weights.shape;
  const taps = elementCount(weights.shape.slice(2));
  const from = numbersOf(weights);
  const to = from instanceof Float32Array ? new Float32Array(from.length) : new Float64Array(from.length);
  const stays = walks === "in" ? outOf : inOf;
  const factors = new Float64Array(outer);
  for (let a = 0; a < outer; a++) factors[a] = (along ?? 1) * (staying ? staying.scale[stays(a)] : 1);
  if (along !== undefined || !walking) scaleRows(from, to, factors, inner * taps);
  else {
    const walksFrom = walks === "in" ? inOf : outOf;
    for (let a = 0; a < outer; a++) scaleChannels(from, to, a * inner * taps, taps, walking.scale, walksFrom(a), inner, factors[a]);
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

/** What a shift of each input channel adds to each output channel, where all taps see it. */
export function shiftSums({ weights, inOf, outOf, outChannels, inChannels, walks }: Linear, shift: Float64Array): Float64Array {
  const sums = new Float64Array(outChannels);
  const each = uniform(shift);
  if (each === 0 || inChannels === 0) return sums;
  const [outer, inner] = weights.shape;
  const taps = elementCount(weights.shape.slice(2));
  const values = numbersOf(weights);
  if (walks === "in" && each !== undefined) {
    const rows = new Float64Array(outer);
    addRows(values, rows, inner * taps);
    for (let a = 0; a < outer; a++) sums[outOf(a)] += rows[a] * each;
  } else if (walks === "in") {
    for (let a = 0; a < outer; a++) sums[outOf(a)] += weightedSum(values, a * inner * taps, taps, shift, inOf(a), inner);
  } else {
    const rows = new Float64Array(outer * inner);
    addRows(values, rows, taps);
    for (let a = 0, k = 0; a < outer; a++) for (let b = 0; b < inner; b++, k++) sums[outOf(a) + b] += shift[inOf(a)] * rows[k];
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
