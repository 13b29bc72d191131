// Losses of classification: NegativeLogLikelihoodLoss and SoftmaxCrossEntropyLoss, made of gathering and sums.
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, type Builder, defineOp, type Op, type TensorType, type Value } from "../ir/graph.ts";
import { builder } from "./build.ts";
import { FLOATS, f32, inputType, tensorOf } from "./define.ts";
import { LogSoftmax } from "./softmax.ts";

interface LossAttrs {
  readonly ignore_index?: number;
  readonly reduction: string;
}

const ATTRS: Readonly<Record<keyof LossAttrs, AttrSpec>> = {
  ignore_index: { type: "int", optional: true },
  reduction: { type: "string", default: "mean" },
};

/** x (N, C, d…) · target (N, d…) · weights (C). */
function lossType(op: string, inputs: readonly (Value | null)[], { reduction }: LossAttrs): TensorType {
  const { dtype, shape } = inputType(op, inputs, 0, FLOATS);
  const target = inputType(op, inputs, 1, ["i32", "i64"]).shape;
  if (shape.length < 2 || target.join() !== shape.toSpliced(1, 1).join())
    throw new HeddleError("bad-model", `${op}: target (${target}) does not fit (${shape}), wanted the same without the classes`);
  if (inputs[2] && inputType(op, inputs, 2, [dtype]).shape.join() !== `${shape[1]}`)
    throw new HeddleError("bad-model", `${op}: weights (${inputs[2].type.shape}) do not fit ${shape[1]} classes`);
  if (!["none", "sum", "mean"].includes(reduction))
    throw new HeddleError("bad-model", `${op}: reduction is ${reduction}, wanted none, sum or mean`);
  return { dtype, shape: reduction === "none" ? target : [] };
}

/** −weight · log-probability of the target class, reduced as asked; ignored targets weigh nothing. */
function negativeLogLikelihood(build: Builder, logs: Value, target: Value, weights: Value | null, attrs: LossAttrs): Value {
  const { ignore_index, reduction } = attrs;
  const { dtype } = logs.type;
  const integer = (v: number) => build.constant(target.type.dtype, v);
  const isIgnored = ignore_index === undefined ? null : build.op("Equal", [target, integer(ignore_index)]);
  const place = isIgnored ? build.op("Where", [isIgnored, integer(0), target]) : target;
  const axis = build.ints(1);
  const picked = build.op("Squeeze", [build.op("GatherElements", [logs, build.op("Unsqueeze", [place, axis])], { axis: 1 }), axis]);
  const ones = () => build.op("Expand", [build.constant(dtype, 1), build.ints(...target.type.shape)]);
  const raw = weights ? build.op("Gather", [weights, place]) : ones();
  const weight = isIgnored ? build.op("Where", [isIgnored, build.constant(dtype, 0), raw]) : raw;
  const loss = build.op("Neg", [build.op("Mul", [picked, weight])]);
  if (reduction === "none") return loss;
  const total = (v: Value) => build.op("ReduceSum", [v], { keepdims: 0 });
  return reduction === "sum" ? total(loss) : build.op("Div", [total(loss), total(weight)]);
}

const target = (...shape: number[]) =>
  tensorOf(
    "i64",
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => (i * 2) % 3),
    shape,
  );

const NegativeLogLikelihoodLoss: Op = defineOp<LossAttrs>({
  name: "NegativeLogLikelihoodLoss",
  kind: "opaque",
  attrs: ATTRS,
  infer: (inputs, attrs) => [lossType("NegativeLogLikelihoodLoss", inputs, attrs)],
  expand: ([x, t, weights], attrs, node) => [negativeLogLikelihood(builder(node.from), x!, t!, weights ?? null, attrs)], // checked by infer
  samples: [
    { inputs: [f32(4, 3), target(4)] },
    { inputs: [f32(2, 3, 5), target(2, 5), f32(3)], attrs: { reduction: "none", ignore_index: 1 } },
    { inputs: [f32(2, 3, 2, 2), target(2, 2, 2), f32(3)], attrs: { reduction: "sum", ignore_index: -1 } },
  ],
});

const SoftmaxCrossEntropyLoss: Op = defineOp<LossAttrs>({
  name: "SoftmaxCrossEntropyLoss",
  kind: "opaque",
  attrs: ATTRS,
  infer(inputs, attrs) {
    const loss = lossType("SoftmaxCrossEntropyLoss", inputs, attrs);
    return [loss, { dtype: loss.dtype, shape: inputs[0]!.type.shape }]; // lossType has seen it
  },
  expand([x, t, weights], attrs, node) {
    const build = builder(node.from);
    const logs = build.op(LogSoftmax, [x!], { axis: 1 }); // checked by infer
    return [negativeLogLikelihood(build, logs, t!, weights ?? null, attrs), logs];
  },
  samples: [
    { inputs: [f32(4, 3), target(4)] },
    { inputs: [f32(2, 3, 5), target(2, 5), f32(3)], attrs: { reduction: "none", ignore_index: 0 } },
  ],
});

export const lossOps: readonly Op[] = [NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss];
