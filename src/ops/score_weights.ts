// ScoreWeights: the weights of attention, a softmax of each query's scores, where asked without keys behind its own place; and its gradient.
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, type Builder, defineOp, type Node, type Op, type Value } from "../ir/graph.ts";
import { elementCount, type Shape } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { FLOATS, f32, inputType, sameDType } from "./define.ts";
import { formula, sumOver } from "./gradient.ts";
import { Softmax } from "./softmax.ts";

export interface ScoreWeightsAttrs {
  /** Query i of T sees keys 0 to i + S − T of S; S is at least T. */
  readonly causal: number;
  /** What scores are multiplied by. */
  readonly scale: number;
}

const ATTRS: Readonly<Record<keyof ScoreWeightsAttrs, AttrSpec>> = {
  causal: { type: "int", default: 0 },
  scale: { type: "float", default: 1 },
};

/** Far below every score. */
const HIDDEN = -1e9;

/** Whether keys are hidden, how many places keys begin before queries, and what scores are multiplied by. */
export function scoreGeometry(node: Node): { readonly isCausal: boolean; readonly before: number; readonly scale: number } {
  const [t, s] = node.outputs[0].type.shape.slice(-2);
  const { causal, scale } = node.attrs as unknown as ScoreWeightsAttrs; // the operator's
  return { isCausal: causal === 1, before: s - t, scale };
}

/** True where query i sees key j. */
export function seenBefore(build: Builder, shape: Shape): Value {
  const [t, s] = shape.slice(-2);
  const places = (count: number, from: number, own: Shape) => build.constant("i32", Array.from({ length: count }, (_, i) => from + i), own); // biome-ignore format: short
  return build.op("GreaterOrEqual", [places(t, s - t, [t, 1]), places(s, 0, [s])]);
}

/** Scores that are scaled, and far below all others where keys are hidden. */
export function hiddenScores(build: Builder, x: Value, { causal, scale }: ScoreWeightsAttrs): Value {
  const { dtype, shape } = x.type;
  const scaled = scale === 1 ? x : build.op("Mul", [x, build.constant(dtype, scale)]);
  return causal ? build.op("Where", [seenBefore(build, shape), scaled, build.constant(dtype, HIDDEN)]) : scaled;
}

/** scores (…, T, S) → weights of the same shape. */
export const ScoreWeights: Op = defineOp<ScoreWeightsAttrs>({
  name: "ScoreWeights",
  kind: "opaque",
  own: true,
  attrs: ATTRS,
  infer(inputs, { causal }) {
    const { dtype, shape } = inputType("ScoreWeights", inputs, 0, FLOATS);
    const [t, s] = shape.slice(-2);
    if (shape.length < 2 || (causal && s < t)) throw new HeddleError("bad-model", `ScoreWeights: scores are (${shape}), wanted (…, T, S)${causal ? " with S ≥ T" : ""}`); // biome-ignore format: short
    return [{ dtype, shape }];
  },
  expand([x], attrs, node) {
    const build = builder(node.from);
    return [build.op(Softmax, [hiddenScores(build, x!, attrs)], { axis: x!.type.shape.length - 1 })]; // checked by infer
  },
  vjp: ({ build, grad }, { outputs: [y], attrs }) => [build.op(ScoreWeightsGrad, [y, grad(0)!], { ...attrs })], // the only output
  flops: (node) => 4 * elementCount(node.outputs[0].type.shape),
  samples: [
    { inputs: [f32(2, 3, 5, 7)], attrs: { causal: 1 } },
    { inputs: [f32(4, 40)] },
    { inputs: [f32(2, 1, 6, 6)], attrs: { causal: 1 } },
  ],
});

/** Weights and their gradient → the gradient of the scores, which is 0 where keys are hidden, as the weights are. */
export const ScoreWeightsGrad: Op = defineOp<ScoreWeightsAttrs>({
  name: "ScoreWeightsGrad",
  kind: "opaque",
  own: true,
  attrs: ATTRS,
  infer(inputs) {
    const types = [0, 1].map((i) => inputType("ScoreWeightsGrad", inputs, i, FLOATS));
    return [{ dtype: sameDType("ScoreWeightsGrad", types), shape: types[0].shape }];
  },
  expand([y, dy], { scale }, node) {
    const build = builder(node.from);
    const f = formula(build, y!.type.dtype); // checked by infer
    const product = f.mul(y!, f.sub(dy!, sumOver(build, f.mul(dy!, y!), [y!.type.shape.length - 1])));
    return [scale === 1 ? product : f.mul(product, scale)];
  },
  flops: (node) => 4 * elementCount(node.outputs[0].type.shape),
  samples: [{ inputs: [f32(2, 3, 5, 7), f32(2, 3, 5, 7)], attrs: { scale: 0.3 } }, { inputs: [f32(4, 40), f32(4, 40)] }],
});

export const scoreWeightsOps: readonly Op[] = [ScoreWeights, ScoreWeightsGrad];
