// Examples → batch: stacked, or padded to the longest first.
import type { DType, TypedArray } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { elementCount, fromNumbers, stridesOf, type TensorData } from "../ir/tensor.ts";
import { builtIn, type Collate, type Example } from "./dataset.ts";

/** Copies elements of one type. */
const copy = (to: TypedArray, from: TypedArray, at: number): void => to.set(from as never, at); // both of one dtype: callers checked

const sameShape = (a: readonly number[], b: readonly number[]): boolean => a.length === b.length && a.every((n, i) => n === b[i]);

/** The tensors of one field. Throws where an example lacks it or has another type. */
function column(examples: readonly Example[], field: string): TensorData[] {
  const { dtype } = examples[0][field];
  return examples.map((example, i) => {
    const tensor = example[field];
    if (!tensor) throw new HeddleError("bad-input", `collate: example ${i} of the batch has no ${field}`);
    if (tensor.dtype !== dtype)
      throw new HeddleError("bad-input", `collate: ${field} is ${dtype} in one example and ${tensor.dtype} in another`);
    return tensor;
  });
}

/** All examples of one shape, side by side. */
export function stack(): Collate {
  return {
    collate(examples, allocate) {
      const batch: Record<string, TensorData> = {};
      for (const field of Object.keys(examples[0])) {
        const tensors = column(examples, field);
        const [{ dtype, shape }] = tensors;
        const size = elementCount(shape);
        const out = allocate(dtype, [examples.length, ...shape]);
        for (const [i, tensor] of tensors.entries()) {
          if (!sameShape(tensor.shape, shape))
            throw new HeddleError(
              "bad-input",
              `collate: ${field} has shape (${shape}) in one example and (${tensor.shape}) in another; pad() takes such`,
            );
          copy(out.data, tensor.data, i * size);
        }
        batch[field] = out;
      }
      return batch;
    },
    recipe: () => builtIn("stack"),
  };
}

export interface PadOptions {
  /** What is added behind shorter axes, of each field or of all. Default 0. */
  readonly value?: number | Readonly<Record<string, number>>;
  /** A field whose first sizes the batch shall hold too, as `lengths` i32 (examples). */
  readonly lengthsOf?: string;
}

/** Examples of different sizes, each axis as long as the longest in the batch. */
export function pad(options: PadOptions = {}): Collate {
  const { value = 0, lengthsOf } = options;
  return {
    collate(examples, allocate) {
      const batch: Record<string, TensorData> = {};
      for (const field of Object.keys(examples[0])) {
        const tensors = column(examples, field);
        const { dtype, shape: first } = tensors[0];
        const odd = tensors.find(({ shape }) => shape.length !== first.length);
        if (odd) throw new HeddleError("bad-input", `collate: ${field} has shape (${first}) in one example and (${odd.shape}) in another`);
        const shape = first.map((_, axis) => Math.max(...tensors.map((tensor) => tensor.shape[axis])));
        const out = allocate(dtype, [examples.length, ...shape]);
        const number = typeof value === "number" ? value : (value[field] ?? 0);
        out.data.fill(padding(dtype, number) as never); // an element of this array
        for (const [i, tensor] of tensors.entries()) copyInto(out.data, shape, tensor, i * elementCount(shape));
        batch[field] = out;
      }
      if (lengthsOf !== undefined) {
        if (!(lengthsOf in examples[0])) throw new HeddleError("bad-argument", `pad: examples have no field ${lengthsOf}`);
        const lengths = allocate("i32", [examples.length]);
        for (const [i, example] of examples.entries()) lengths.data[i] = example[lengthsOf].shape[0];
        batch.lengths = lengths;
      }
      return batch;
    },
    recipe: () => builtIn("pad", options),
  };
}

const padding = (dtype: DType, value: number): number | bigint => fromNumbers(dtype, [1], [value]).data[0];

/** Rows of the innermost axis, one after another, to where they lie in the larger shape. */
function copyInto(to: TypedArray, larger: readonly number[], { shape, data }: TensorData, base: number): void {
  const row = shape.at(-1) ?? 1;
  const strides = stridesOf(larger);
  const at = shape.map(() => 0);
  for (let from = 0; from < data.length; from += row) {
    let offset = base;
    for (let axis = 0; axis < shape.length - 1; axis++) offset += at[axis] * strides[axis];
    copy(to, data.subarray(from, from + row), offset);
    for (let axis = shape.length - 2; axis >= 0 && ++at[axis] === shape[axis]; axis--) at[axis] = 0;
  }
}
