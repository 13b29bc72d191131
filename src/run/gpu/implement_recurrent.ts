// Long recurrent layers to two launches: the products of the inputs of all steps, and all steps.
import { call, constant, type Expr, reduce, select, within } from "../../ir/expr.ts";
import { loadReader } from "../../ir/expr_interpreter.ts";
import type { Node, Reader, Value } from "../../ir/graph.ts";
import { addIndex, newVar, varIndex } from "../../ir/index_expr.ts";
import { elementCount } from "../../ir/tensor.ts";
import { fitsRecurrent, GATES, type RecurrentShape, recurrentKernel } from "../../kernels/simt/recurrent.ts";
import { lowerSimtReaders } from "../../lower/simt_group.ts";
import type { RecurrentAttrs } from "../../ops/rnn.ts";
import { type Place, valuePlace } from "../step.ts";
import { wide } from "./contractions.ts";
import type { DirectImplementation } from "./direct.ts";
import { reordered } from "./weights.ts";

/** Null: lengths, peepholes, clipping, coupled gates or other activations, or a state too large for shared memory. */
export const recurrentLoop: DirectImplementation = (node, name, target, shared) => {
  const [x, w, r, biases, , h0, c0] = node.inputs as readonly [Value, Value, Value, ...(Value | null | undefined)[]]; // checked by infer
  const shape = shapeOf(node);
  if (!shape || !fitsRecurrent(shape, target)) return null;
  const own = [x, w, ...(biases ? [biases] : [])];
  const products = inputProducts(own, shape);
  const key = JSON.stringify(shape);
  const first = shared(`recurrent inputs ${own.map((v) => v.type.shape)} ${key}`, `${name}_inputs`, (n) => lowerSimtReaders(n, [products], own.map((v) => v.type), target)); // biome-ignore format: one idea
  const given = loadReader(r.type, 0);
  const turned: Reader = {
    type: { dtype: r.type.dtype, shape: [shape.directions, shape.hidden, r.type.shape[1]] },
    at: ([d, k, row]) => given.at([d, row, k]),
  };
  const weights = reordered({ name, target, shared }, r, turned, "recurrent");
  const between: Place = { k: "temporary", id: 0, bytes: 4 * elementCount(products.type.shape) };
  const read = [shape.isLinear ? biases : null, h0, shape.cell === "LSTM" ? c0 : null].flatMap((v) => (v ? [valuePlace(v)] : []));
  return [
    ...weights.calls,
    { kernel: first, places: [...own.map(valuePlace), between] },
    { kernel: shared(`recurrent ${key}`, name, (n) => recurrentKernel(n, shape, target)), places: [between, weights.place, ...read, ...node.outputs.map(valuePlace)] }, // biome-ignore format: one idea
  ];
};

const USUAL = { RNN: ["Tanh"], GRU: ["Sigmoid", "Tanh"], LSTM: ["Sigmoid", "Tanh", "Tanh"] } as const;

function shapeOf(node: Node): RecurrentShape | null {
  const [x, , r, biases, lengths, h0, c0, peepholes] = node.inputs;
  const attrs = node.attrs as unknown as RecurrentAttrs; // the operator's
  const cell = node.op.name.slice(0, -"Loop".length) as keyof typeof USUAL; // of three operators
  const [directions, , hidden] = r!.type.shape; // checked by infer, as x is
  const isUsual = !attrs.activations || attrs.activations.every((f, i) => f === USUAL[cell][i % USUAL[cell].length]);
  if (lengths || peepholes || attrs.clip || attrs.input_forget || !isUsual) return null;
  const isBatchFirst = attrs.layout !== 0;
  const [steps, batch] = isBatchFirst ? [x!.type.shape[1], x!.type.shape[0]] : x!.type.shape;
  const isLinear = cell === "GRU" && attrs.linear_before_reset !== 0;
  const has = { hasBias: Boolean(biases), hasH: Boolean(h0), hasC: cell === "LSTM" && Boolean(c0) };
  return { cell, dtype: x!.type.dtype, steps, batch, hidden, directions, isReverse: attrs.direction === "reverse", isBatchFirst, isLinear, ...has }; // biome-ignore format: one idea
}

/** Of x, w and biases: (direction, step, batch, gate), with the biases that are added there. */
function inputProducts(
  inputs: readonly Value[],
  { cell, steps, batch, hidden, directions, isBatchFirst, isLinear }: RecurrentShape,
): Reader {
  const [x, w, biases] = inputs.map((v, i) => loadReader(v.type, i));
  const rows = GATES[cell] * hidden;
  return {
    type: { dtype: "f32", shape: [directions, steps, batch, rows] },
    at([d, t, n, row]) {
      const v = newVar(x.type.shape[2]);
      const value = x.at([...(isBatchFirst ? [n, t] : [t, n]), varIndex(v)]);
      const product = reduce("add", [v], call("mul", wide(value), wide(w.at([d, row, varIndex(v)]))));
      if (!biases) return product;
      const own = wide(biases.at([d, row]));
      const second: Expr = wide(biases.at([d, addIndex(row, rows)]));
      const added = isLinear ? select(within(row, 0, 2 * hidden), second, constant("f32", 0)) : second;
      return call("add", product, call("add", own, added));
    },
  };
}
