// What is learned from: numbered examples of named tensors, and how a thread makes the dataset that another one has.
import type { DType, TypedArray } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import type { TensorData } from "../ir/tensor.ts";
import type { Random } from "./random.ts";

/** One example: `image`, `label`, … */
export type Example<F extends string = string> = Readonly<Record<F, TensorData>>;

/** Examples side by side: each tensor has one axis more, in front. */
export type Batch<F extends string = string> = Readonly<Record<F, TensorData>>;

export interface Dataset<F extends string = string> {
  readonly length: number;
  /** Example number `index`. All chance comes from `random`, which depends on the loader's seed, the epoch and the index. */
  get(index: number, random: Random): Example<F> | Promise<Example<F>>;
  /** How worker threads make the same dataset. One without can be read by loaders without workers only. */
  recipe?(): Recipe;
}

/** Changes an example when it is read. */
export interface Transform {
  apply(example: Example, random: Random): Example | Promise<Example>;
  recipe?(): Recipe;
}

/** Turns examples into a batch; the batch's tensors come from `allocate`, which gives memory that threads share. */
export interface Collate {
  collate(examples: readonly Example[], allocate: Allocate): Batch;
  recipe?(): Recipe;
}

/** A tensor whose elements are undefined yet. */
export type Allocate = (dtype: DType, shape: readonly number[]) => TensorData;

/**
 * An object that any thread can make: what `export` of `module` gives for `args`, a class or a function that may be asynchronous.
 * Threads share no functions: arguments are plain data, typed arrays (sent without a copy where they lie in shared memory) and other recipes.
 */
export interface Recipe {
  /** URL of a module, as `new URL("./my_dataset.ts", import.meta.url).href`; "heddle" for what is built in. */
  readonly module: string;
  readonly export: string;
  readonly args: readonly unknown[];
}

export const BUILT_IN = "heddle";
export const builtIn = (name: string, ...args: readonly unknown[]): Recipe => ({ module: BUILT_IN, export: name, args });

/** How other threads make an object. Throws HeddleError where it does not say. */
export function recipeOf(object: { recipe?(): Recipe }, kind: string): Recipe {
  if (object.recipe) return object.recipe();
  const name = object.constructor === Object ? kind : object.constructor.name;
  throw new HeddleError(
    "bad-argument",
    `data: worker threads cannot make ${name}: it has no recipe(); make it with fromRecipe({ module, export, args }), or set workers: 0`,
  );
}

/** The same elements in memory that threads share. */
export function sharedTensor(tensor: TensorData): TensorData {
  const { data, dtype, shape } = tensor;
  if (data.buffer instanceof SharedArrayBuffer) return tensor;
  const copy = new (data.constructor as new (buffer: SharedArrayBuffer) => TypedArray)(new SharedArrayBuffer(data.byteLength)); // a TypedArray's own
  copy.set(data as Float32Array & BigInt64Array); // of the same type
  return { dtype, shape, data: copy };
}
