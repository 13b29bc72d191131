// A seed → the same input tensors on every machine.
import { type DType, isFloat } from "../ir/dtype.ts";
import { elementCount, fromNumbers, type TensorData } from "../ir/tensor.ts";
import type { InputType } from "./open_model.ts";

/** Numbers in [0, 1): Weyl sequence, mixed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Floats in [-1, 1); integers 0 or 1, which are valid indices and lengths nearly everywhere. */
function randomTensor(dtype: DType, shape: readonly number[], next: () => number): TensorData {
  const draw = isFloat(dtype) ? () => next() * 2 - 1 : () => (next() < 0.5 ? 0 : 1);
  return fromNumbers(dtype, shape, Float64Array.from({ length: elementCount(shape) }, draw));
}

export function randomInputs(inputs: readonly InputType[], seed: number): Record<string, TensorData> {
  const next = randomNumbers(seed);
  return Object.fromEntries(inputs.map(({ name, dtype, shape }) => [name, randomTensor(dtype, shape, next)]));
}
