// What a network takes, and tensors given to it → checked, and the shapes and values that programs are made for, tried in order.
import type { Specialization } from "./compile_model.ts";
import type { DType } from "./ir/dtype.ts";
import { HeddleError } from "./ir/error.ts";
import { elementCount, type Shape, type TensorData } from "./ir/tensor.ts";

/** An input or output: sizes are numbers, names of symbolic sizes, or null where nothing is known; a null shape has an unknown number of axes. */
export interface ModelValue {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly (number | string | null)[] | null;
}

export type Tensors = Readonly<Record<string, TensorData>>;
export type Shapes = Readonly<Record<string, readonly number[]>>;

/** Inputs up to this size may decide shapes inside of a network: axes, sizes, repeats, a number of boxes. */
const MAX_DECISIVE = 1024;

/** Which inputs become constants when a network cannot be compiled for shapes alone: first none, then whole numbers, then all small ones. */
const DECISIVE: readonly ((t: TensorData) => boolean)[] = [
  () => false,
  ({ dtype, data }) => data.length <= MAX_DECISIVE && /^[iub]\d|^bool/.test(dtype),
  ({ data }) => data.length <= MAX_DECISIVE,
];

/** Whether an input's values may decide shapes. */
export const isSmall = ({ shape }: ModelValue): boolean =>
  shape?.every((d) => typeof d === "number") === true && elementCount(shape as Shape) <= MAX_DECISIVE;

export const isDynamic = (e: unknown): boolean => e instanceof HeddleError && e.code === "dynamic";

/** Throws HeddleError("bad-input") for missing, unknown or ill-shaped inputs. */
export function checkInputs(wantedInputs: readonly ModelValue[], inputs: Tensors): void {
  const names = wantedInputs.map((i) => i.name);
  for (const name of Object.keys(inputs))
    if (!names.includes(name)) throw new HeddleError("bad-input", `input ${name}: the model has no such input, only ${names.join(", ")}`);
  for (const { name, dtype, shape } of wantedInputs) {
    const given = inputs[name];
    const wanted = `${dtype}[${shape?.map((d) => d ?? "?").join(",") ?? "any shape"}]`;
    if (!given) throw new HeddleError("bad-input", `input ${name} is missing, wanted ${wanted}`);
    const fits = !shape || (given.shape.length === shape.length && shape.every((d, i) => typeof d !== "number" || d === given.shape[i]));
    if (given.dtype !== dtype || !fits)
      throw new HeddleError("bad-input", `input ${name}: got ${given.dtype}[${given.shape}], the model wants ${wanted}`);
  }
}

/** Calls `make` for the inputs' shapes and, while those are not enough, for the values of more and more of them. `from`: the level that did last time. */
export async function specialize<T>(
  wantedInputs: readonly ModelValue[],
  inputs: Tensors,
  from: number,
  make: (wanted: Specialization) => Promise<T>,
): Promise<{ readonly made: T; readonly level: number }> {
  const shapes = Object.fromEntries(wantedInputs.map(({ name }) => [name, inputs[name].shape]));
  let refusal: unknown;
  for (let level = from; level < DECISIVE.length; level++) {
    const fixed = wantedInputs.filter(({ name }) => DECISIVE[level](inputs[name]));
    if (level > from && fixed.length === 0) continue;
    const values = Object.fromEntries(fixed.map(({ name }) => [name, { ...inputs[name], data: inputs[name].data.slice() }]));
    try {
      return { made: await make({ shapes, values }), level };
    } catch (e) {
      if (!isDynamic(e)) throw e;
      refusal ??= e;
    }
  }
  throw refusal;
}

/** Tells sets of shapes and values apart. */
export function specializationKey(inputs: readonly ModelValue[], { shapes, values }: Specialization): string {
  const sizes = inputs.map(({ name, shape }) => (Object.hasOwn(shapes, name) ? shapes[name] : shape));
  return [sizes, ...Object.entries(values).map(([name, { data }]) => [name, `${data}`])].map((part) => JSON.stringify(part)).join();
}
