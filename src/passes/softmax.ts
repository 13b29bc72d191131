// exp(x − max x) / Σ exp(x − max x), with or without the maximum, becomes Softmax.
import { apply, type Node, type Pass, type Value } from "../ir/graph.ts";
import { OPS } from "../ops/index.ts";
import { madeBy, numbersOf, rulePass } from "./match.ts";

/** The one axis that a reduction keeps as size 1, or undefined. */
export function keptAxes(node: Node): readonly number[] | undefined {
  const rank = node.inputs[0]!.type.shape.length;
  const axes = numbersOf(node.inputs[1]);
  if ((node.attrs as { keepdims?: number }).keepdims === 0 || !axes?.length) return undefined;
  return axes.map((a) => (a < 0 ? a + rank : a)).sort((a, b) => a - b);
}

/** x where value = x − max(x) over the axis; else the value: exp of it may overflow where Softmax does not, which is no loss. */
function withoutMaximum(value: Value, axis: number): Value {
  const sub = madeBy(value, "Sub");
  const max = sub && madeBy(sub.inputs[1], "ReduceMax");
  return max && max.inputs[0] === sub.inputs[0] && keptAxes(max)?.join() === `${axis}` ? sub.inputs[0]! : value;
}

export const softmax: Pass = rulePass("softmax", (node, inputs) => {
  if (node.op.name !== "Div") return null;
  const [top, bottom] = inputs;
  const exp = madeBy(top, "Exp");
  const sum = madeBy(bottom, "ReduceSum");
  const axes = sum && keptAxes(sum);
  if (!exp || sum?.inputs[0] !== top || axes?.length !== 1) return null;
  const x = withoutMaximum(exp.inputs[0]!, axes[0]);
  return apply(OPS.get("Softmax")!, [x], { axis: axes[0] }, node.from);
});
