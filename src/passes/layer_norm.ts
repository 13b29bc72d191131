// (x − mean) / √(variance + ε) over the last axes, and a product and a sum after it, become LayerNormalization.
import { apply, type Node, type Pass, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, type Shape } from "../ir/tensor.ts";
import { OPS } from "../ops/index.ts";
import { constantOf, constantValue } from "../ops/source.ts";
import { madeBy, numberOf, plusNumber, rulePass, sameShape } from "./match.ts";
import { keptAxes } from "./softmax.ts";
import { type Uses, usesOf } from "./uses.ts";

const NAME = "LayerNormalization";

/** The mean of a value over its last axes: the first of them, or undefined. */
function meanOverLast(value: Value | null, of: (x: Value) => boolean): number | undefined {
  const mean = madeBy(value, "ReduceMean");
  if (!mean || !of(mean.inputs[0]!)) return undefined;
  const axes = keptAxes(mean);
  const rank = mean.inputs[0]!.type.shape.length;
  const first = axes?.[0];
  return first !== undefined && axes!.length === rank - first ? first : undefined;
}

const isSquareOf = (value: Value, x: Value): boolean => {
  const pow = madeBy(value, "Pow");
  if (pow) return pow.inputs[0] === x && numberOf(pow.inputs[1]) === 2;
  const mul = madeBy(value, "Mul");
  return mul !== undefined && mul.inputs[0] === x && mul.inputs[1] === x;
};

interface Normalized {
  readonly x: Value;
  readonly axis: number;
  readonly epsilon: number;
}

/** What `centered / deviation` normalizes. */
function normalizedBy(centered: Value, deviation: Value): Normalized | undefined {
  const sub = madeBy(centered, "Sub");
  const sqrt = madeBy(deviation, "Sqrt");
  const sum = sqrt && plusNumber(sqrt.inputs[0]!, "Add");
  if (!sub || !sum) return undefined;
  const [x, mean] = sub.inputs;
  const axis = meanOverLast(mean, (v) => v === x);
  const varianceAxis = meanOverLast(sum.x, (v) => isSquareOf(v, centered));
  return axis !== undefined && axis === varianceAxis ? { x: x!, axis, epsilon: sum.number } : undefined;
}

/** Division by the deviation, or a product with its reciprocal. */
function normalized(node: Node, inputs: readonly (Value | null)[]): Normalized | undefined {
  const [a, b] = inputs as readonly Value[]; // binary operators have both
  if (node.op.name === "Div") return normalizedBy(a, b);
  if (node.op.name !== "Mul") return undefined;
  const inverse = (v: Value) => madeBy(v, "Reciprocal")?.inputs[0];
  const [da, db] = [inverse(a), inverse(b)];
  return (db && normalizedBy(a, db)) || (da && normalizedBy(b, da)) || undefined;
}

/** The constant with the shape of the normalized axes, or undefined when it broadcasts otherwise. */
function perElement(value: Value, shape: Shape): Value | undefined {
  const tensor = constantOf(value);
  if (!tensor) return undefined;
  const own = tensor.shape.slice(Math.max(0, tensor.shape.length - shape.length));
  const fits = sameShape(own, shape) && elementCount(tensor.shape) === elementCount(shape);
  return fits ? (tensor.shape.length === shape.length ? value : constantValue({ ...tensor, shape }, value.node.from)) : undefined;
}

export const layerNorm: Pass = {
  name: "layer norm",
  run(graph) {
    let known: Uses | undefined; // most graphs do not ask
    const uses = () => {
      known ??= usesOf(graph);
      return known;
    };
    const plain = new Set<Value>(); // normalized values whose scale is still all ones, as no product was seen
    return rulePass("layer norm", (node, inputs) => {
      const found = normalized(node, inputs);
      if (found) {
        const { shape, dtype } = found.x.type;
        const tail = shape.slice(found.axis);
        const ones = constantValue(fromNumbers(dtype, tail, new Float64Array(elementCount(tail)).fill(1)), node.from);
        const [y] = apply(OPS.get(NAME)!, [found.x, ones], { axis: found.axis, epsilon: found.epsilon }, node.from);
        plain.add(y);
        return [y];
      }
      if (node.op.name !== "Mul" && node.op.name !== "Add") return null;
      for (const [side, c] of [
        [0, 1],
        [1, 0],
      ]) {
        // biome-ignore format: short
        const norm = madeBy(inputs[side], NAME);
        const isOurs =
          norm && uses().onlyUser(node.inputs[side]!) === node && sameShape(node.outputs[0].type.shape, inputs[side]!.type.shape);
        if (!isOurs) continue;
        const tail = norm.inputs[0]!.type.shape.slice((norm.attrs as { axis: number }).axis);
        const numbers = perElement(inputs[c]!, tail);
        if (numbers && node.op.name === "Mul" && plain.has(norm.outputs[0]))
          return apply(norm.op, [norm.inputs[0], numbers], norm.attrs, norm.from);
        if (numbers && node.op.name === "Add" && !norm.inputs[2])
          return apply(norm.op, [...norm.inputs.slice(0, 2), numbers], norm.attrs, norm.from);
      }
      return null;
    }).run(graph);
  },
};
