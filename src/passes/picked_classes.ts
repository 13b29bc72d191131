// Σ over classes of (class = target ? x : 0) becomes x at the target's place: one element of a line is read instead of all of them.
import { apply, type Pass, type Value } from "../ir/graph.ts";
import { toNumbers } from "../ir/tensor.ts";
import { OPS } from "../ops/index.ts";
import { constantOf, constantValue } from "../ops/source.ts";
import { isAlongAxis, madeBy, numberOf, numbersOf, pairs, rulePass, sameShape } from "./match.ts";
import { intsValue } from "./view_algebra.ts";

/** Whether a value is 0, 1, … along an axis. */
function isCounted(value: Value, shape: readonly number[], axis: number): boolean {
  const constant = constantOf(value);
  if (constant) return isAlongAxis(constant, shape, axis) && constant.data.length === shape[axis] && toNumbers(constant).every((c, i) => c === i); // biome-ignore format: short
  const counted = madeBy(value, "Reshape")?.inputs[0] ?? value;
  const skip = shape.length - value.type.shape.length;
  const isAlong = value.type.shape.every((d, i) => d === (skip + i === axis ? shape[axis] : 1));
  const range = madeBy(counted, "Range");
  return range !== undefined && isAlong && numberOf(range.inputs[0]) === 0 && numberOf(range.inputs[2]) === 1;
}

/** What an Equal compares the numbers 0, 1, … along an axis with, where that is one number for each line; else undefined. */
function targetOf(equal: Value, shape: readonly number[], axis: number): Value | undefined {
  const node = madeBy(equal, "Equal");
  const lines = shape.with(axis, 1);
  const isTarget = ({ type: { dtype, shape: own } }: Value): boolean => (dtype === "i32" || dtype === "i64") && sameShape(own, lines);
  return node && pairs(node).find(([target, classes]) => isTarget(target) && isCounted(classes, shape, axis))?.[0];
}

/** Targets that are no class give 0, as before. */
export const pickedClasses: Pass = rulePass("pickedClasses", (node, [chosen, axes]) => {
  const where = node.op.name === "ReduceSum" ? madeBy(chosen, "Where") : undefined;
  const [equal, x, zero] = where?.inputs ?? [];
  if (!equal || !x || numberOf(zero) !== 0) return null;
  const reduced = numbersOf(axes);
  if (reduced?.length !== 1) return null;
  const { shape } = chosen!.type; // Where's
  const axis = (reduced[0] + shape.length) % shape.length;
  const target = sameShape(x.type.shape, shape) ? targetOf(equal, shape, axis) : undefined;
  if (!target) return null;
  const op = (name: string, inputs: readonly Value[], attrs: object = {}): Value =>
    apply(OPS.get(name)!, inputs, { ...attrs }, node.from)[0]; // ONNX's
  const number = (value: number): Value =>
    constantValue({ dtype: target.type.dtype, shape: [], data: target.type.dtype === "i64" ? BigInt64Array.of(BigInt(value)) : Int32Array.of(value) }, node.from); // biome-ignore format: short
  const isClass = op("And", [op("GreaterOrEqual", [target, number(0)]), op("Less", [target, number(shape[axis])])]);
  const picked = op("Where", [isClass, op("GatherElements", [x, target], { axis }), zero!]);
  const { shape: result } = node.outputs[0].type;
  return [sameShape(result, picked.type.shape) ? picked : op("Reshape", [picked, intsValue(result, node.from)])];
});
