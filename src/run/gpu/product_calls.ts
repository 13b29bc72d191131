// A product with its tail to launches: one kernel, or one for parts of the depth and one that sums them.
import { call, cast, reduce } from "../../ir/expr.ts";
import { loadReader } from "../../ir/expr_interpreter.ts";
import type { Reader, TensorType, Value } from "../../ir/graph.ts";
import { addIndex, divIndex, linearIndex, modIndex, mulIndex, newVar, varIndex } from "../../ir/index_expr.ts";
import type { SimtKernel, SimtTarget } from "../../ir/simt.ts";
import { elementCount, stridesOf } from "../../ir/tensor.ts";
import { planProduct, productKernel, withFewRows } from "../../kernels/simt/choose.ts";
import type { Operand } from "../../kernels/simt/operand.ts";
import type { Product } from "../../kernels/simt/product.ts";
import { noTail, type Tail } from "../../kernels/simt/tail.ts";
import { lowerSimtReaders } from "../../lower/simt_group.ts";
import type { AnchorParts } from "../implement/epilogue.ts";
import { type KernelCall, type Place, valuePlace } from "../step.ts";

/** The kernel of this key, generated under this name when there is none yet. */
export type Shared = (key: string, name: string, generate: (name: string) => SimtKernel) => SimtKernel;

/** An operator with kernels written for it, and the rest of its group. */
export interface GpuTask extends AnchorParts {
  readonly name: string;
  readonly target: SimtTarget;
  readonly shared: Shared;
  /** Whether products of float32 may round their operands to tf32. */
  readonly roundsF32: boolean;
}

/** Kernels for an anchor; null: not for these shapes or types. */
export type GpuImplementation = (task: GpuTask) => readonly KernelCall<SimtKernel>[] | null;

/** An operand with what it is read from. */
export interface Source {
  readonly operand: Operand;
  readonly place: Place;
}

export interface ProductTask {
  readonly left: Source;
  readonly right: Source;
  readonly batch: number;
  readonly place: Product["place"];
  /** Added to the sums, by their place along an axis of the output. */
  readonly bias?: { readonly value: Value; readonly axis: number };
  /** Equal for products of equal operands whose results have the same places. */
  readonly key: string;
}

/** The rest of the group, behind the bias. */
export function tailOf({ epilogue }: AnchorParts, bias?: ProductTask["bias"]): Tail {
  const first = bias ? 1 : 0;
  const added = (sums: Reader): Reader => {
    if (!bias) return sums;
    const { at } = loadReader(bias.value.type, 0);
    return { type: sums.type, at: (index) => call("add", sums.at(index), cast("f32", at([index[bias.axis]]))) };
  };
  return {
    inputs: [...(bias ? [bias.value.type] : []), ...epilogue.inputs],
    output: epilogue.output,
    compose: (sums) => epilogue.compose([...epilogue.inputs.map((type, i) => loadReader(type, first + i)), added(sums)]),
  };
}

export function productCalls(task: GpuTask, { left, right, batch, place, bias, key }: ProductTask): readonly KernelCall<SimtKernel>[] {
  const { name, output, shared, target } = task;
  const tail = tailOf(task, bias);
  const tailInputs = [...(bias ? [bias.value] : []), ...task.epilogueInputs];
  const tailKey = `${bias ? JSON.stringify([bias.value.type, bias.axis]) : ""} ${task.epilogueKey}`;
  const whole = withFewRows({ left: left.operand, right: right.operand, batch, splits: 1, tail, place });
  const sources = whole.left === left.operand ? [left, right] : [right, left];
  const operands = sources.map((s) => s.place);
  const ends = [...tailInputs, output].map(valuePlace);
  const plan = planProduct(whole, target);
  if (plan.splits === 1) {
    const kernel = shared(`product ${key} ${tailKey}`, name, (n) => productKernel(n, whole, plan, target));
    return [{ kernel, places: [...operands, ...ends] }];
  }
  const { splits } = plan;
  const parts = { dtype: "f32", shape: [splits, ...output.type.shape] } as const;
  const product: Product = {
    ...whole,
    splits,
    tail: noTail(parts),
    place: (part, row, column) => [modIndex(part, splits), ...whole.place(divIndex(part, splits), row, column)],
  };
  const first = shared(`parts ${key} ${output.type.shape}`, `${name}_parts`, (n) => productKernel(n, product, plan, target));
  const joined = tail.compose(sumOfParts(output.type, splits, tail.inputs.length));
  const rounded = castReader(joined, output.type);
  const second = shared(`joined ${splits} ${tailKey} ${output.type.shape}`, name, (n) =>
    lowerSimtReaders(n, [rounded], [...tail.inputs, parts], target),
  );
  const between: Place = { k: "temporary", id: 0, bytes: 4 * elementCount(parts.shape) };
  return [
    { kernel: first, places: [...operands, between] },
    { kernel: second, places: [...tailInputs.map(valuePlace), between, valuePlace(output)] },
  ];
}

/** The sums of parts that input `input` holds one after another. */
function sumOfParts({ shape }: TensorType, splits: number, input: number): Reader {
  const strides = stridesOf(shape);
  const count = elementCount(shape);
  return {
    type: { dtype: "f32", shape },
    at(index) {
      const part = newVar(splits);
      const at = addIndex(mulIndex(varIndex(part), count), linearIndex(index, strides));
      return reduce("add", [part], { k: "load", dtype: "f32", input, at });
    },
  };
}

const castReader = ({ at }: Reader, type: TensorType): Reader => ({ type, at: (index) => cast(type.dtype, at(index)) });

/** The same, rounded to a type. */
export const partsReader = (type: TensorType, splits: number, input: number): Reader => castReader(sumOfParts(type, splits, input), type);
