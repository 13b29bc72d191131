// Builds sub-graphs from operators by name, with their constants: for operators that expand into others.
import { type Attrs, apply, type Builder, type Op, type Value } from "../ir/graph.ts";
import { fromNumbers, type TensorData } from "../ir/tensor.ts";
import { activationOps } from "./activation.ts";
import { arithmeticOps } from "./arithmetic.ts";
import { castOps } from "./cast.ts";
import { compareOps } from "./compare.ts";
import { emittable } from "./define.ts";
import { gatherOps } from "./gather.ts";
import { generateOps } from "./generate.ts";
import { logicOps } from "./logic.ts";
import { mathOps } from "./math.ts";
import { padOps } from "./pad.ts";
import { reduceOps } from "./reduce.ts";
import { sliceOps } from "./slice.ts";
import { constantValue } from "./source.ts";
import { viewOps } from "./view.ts";

const families = [
  ...[activationOps, arithmeticOps, castOps, compareOps, gatherOps, generateOps],
  ...[logicOps, mathOps, padOps, reduceOps, sliceOps, viewOps],
];
const byName: ReadonlyMap<string, Op> = new Map(families.flat().map((op) => [op.name, op]));

export type Apply = (op: Op, inputs: readonly (Value | null)[], attrs: Attrs) => readonly Value[];

/** Knows operators that are index-wise or reductions by name, or those of a table. */
export function builder(
  from: string,
  applyOp: Apply = (op, inputs, attrs) => apply(op, inputs, attrs, from),
  table: ReadonlyMap<string, Op> = byName,
): Builder {
  const all: Builder["all"] = (op, inputs, attrs = {}) => applyOp(typeof op === "string" ? table.get(op)! : op, inputs, attrs);
  const op: Builder["op"] = (name, inputs, attrs) => all(name, inputs, attrs)[0];
  const tensor = (data: TensorData): Value => constantValue(data, from);
  const constant: Builder["constant"] = (dtype, values, shape) => {
    const list = typeof values === "number" ? [values] : values;
    return tensor(fromNumbers(dtype, shape ?? (typeof values === "number" ? [] : [list.length]), list));
  };
  const ints = (...values: number[]) => constant("i64", values);
  return {
    op,
    all,
    constant,
    tensor,
    ints,
    cast: (x, dtype) => (x.type.dtype === dtype ? x : op("CastLike", [x, constant(dtype, 0)])),
    reshape: (x, shape) => op("Reshape", [x, ints(...shape)], { allowzero: 1 }),
    transpose: (x, perm) => op("Transpose", [x], { perm }),
  };
}

/** A builder that goes through the importer. */
export const importBuilder = (context: {
  name: string;
  emit(op: Op<never>, inputs: readonly (Value | null)[], attrs?: Attrs): readonly Value[];
}): Builder => builder(context.name, (op, inputs, attrs) => context.emit(emittable(op), inputs, attrs));
