// Gradients of normalizations in closed form: sums over the normalized axes, and one pass that makes the input's gradient of them.
import type { Builder, Node, Op, Value, VjpContext } from "../ir/graph.ts";
import { countOver, type Formula, formula, sumOver, unbroadcast } from "./gradient.ts";

/** What the elements of the normalized axes have in common; all keep these axes with size 1. */
interface Statistics {
  readonly mean: Value;
  /** x − mean. */
  readonly centered: Value;
  /** 1 / √(variance + epsilon). */
  readonly inverse: Value;
}

export function normalStatistics(build: Builder, f: Formula, x: Value, axes: readonly number[], epsilon: number): Statistics {
  const over = build.ints(...axes);
  const mean = build.op("ReduceMean", [x, over]);
  const centered = f.sub(x, mean);
  const variance = build.op("ReduceMean", [f.square(centered), over]);
  return { mean, centered, inverse: f.op("Reciprocal", f.op("Sqrt", f.add(variance, epsilon))) };
}

/**
 * With the batch's own statistics, for x (N, C, …), scale and bias: dx = a·(dy − Σdy/n − x̂·Σ(dy·x̂)/n) with a = scale / deviation,
 * written so that one multiplication and addition each is left for dy and for x. Undefined where the running statistics have gradients.
 */
export function batchNormGradient({ build, grad }: VjpContext, node: Node<object>, epsilon: number): readonly (Value | null)[] | undefined {
  const dy = grad(0);
  if (!dy || grad(1) || grad(2)) return undefined;
  const [x, scale, bias] = node.inputs as readonly Value[]; // checked by infer
  const { dtype, shape } = x.type;
  const f = formula(build, dtype);
  const axes = shape.map((_, i) => i).filter((i) => i !== 1);
  const n = countOver(shape, axes);
  const { mean, centered, inverse } = normalStatistics(build, f, x, axes, epsilon);
  const sum = sumOver(build, dy, axes);
  const product = f.mul(sumOver(build, f.mul(dy, centered), axes), inverse); // Σ dy·x̂
  const a = f.mul(build.reshape(f.cast(scale), mean.type.shape), inverse);
  const b = f.mul(a, inverse, product, -1 / n);
  const c = f.sub(f.mul(a, sum, -1 / n), f.mul(mean, b));
  const dx = f.add(f.add(f.mul(dy, a), f.mul(x, b)), c);
  const perChannel = (v: Value, like: Value) => build.cast(build.reshape(v, like.type.shape), like.type.dtype);
  return [dx, perChannel(product, scale), perChannel(sum, bias), null, null];
}

/** For x, scale and bias, over the axes from `axis` on; the outputs may be mean and inverse deviation too. `whole` is the operator for the usual case. */
export function layerNormGradient(
  { build, grad, wants }: VjpContext,
  node: Node<object>,
  axis: number,
  epsilon: number,
  whole: Op,
): readonly (Value | null)[] {
  const [given, scale, bias] = node.inputs as readonly [Value, Value, Value | null]; // checked by infer
  const { shape, dtype } = given.type;
  const isUsual = dtype === "f32" && axis === shape.length - 1 && scale.type.shape.join() === `${shape[axis]}` && !grad(1) && !grad(2);
  if (isUsual) {
    const [dx, ...sums] = build.all(whole, [given, scale, grad(0)], { epsilon });
    return [dx, ...sums.map((v, i) => (i === 0 || bias ? build.reshape(v, scale.type.shape) : null))];
  }
  const f = formula(build, dtype === "f64" ? dtype : "f32"); // halves have too few bits for sums
  const axes = shape.map((_, i) => i).filter((i) => i >= axis);
  const { centered, inverse } = normalStatistics(build, f, f.cast(given), axes, epsilon);
  const normal = f.mul(centered, inverse);
  const back = (v: Value, like: Value) => build.cast(unbroadcast(build, v, like.type.shape), like.type.dtype);
  const parts: Value[] = [];
  const [dy, dMean, dInverse] = [0, 1, 2].map((i) => (grad(i) ? f.cast(grad(i)!) : null));
  const size = countOver(shape, axes);
  const average = (v: Value) => build.op("ReduceMean", [v, build.ints(...axes)]);
  if (dy) {
    const scaled = f.mul(dy, f.cast(scale));
    const inner = f.sub(f.sub(scaled, average(scaled)), f.mul(normal, average(f.mul(scaled, normal))));
    parts.push(f.mul(inner, inverse));
  }
  if (dMean) parts.push(f.mul(dMean, 1 / size));
  if (dInverse) parts.push(f.mul(centered, f.mul(dInverse, inverse, inverse, inverse, -1 / size)));
  return [
    wants(0)
      ? build.cast(
          parts.reduce((a, b) => f.add(a, b)),
          dtype,
        )
      : null, // at least one output has a gradient
    wants(1) && dy ? back(f.mul(dy, normal), scale) : null,
    wants(2) && dy && bias ? back(dy, bias) : null,
  ];
}

interface NeighbourhoodAttrs {
  readonly alpha: number;
  readonly beta: number;
  readonly bias: number;
  readonly size: number;
}

/** y = x·base^−β with base = bias + α/size·Σ x² of the neighbouring channels. */
export function neighbourhoodGradient({ build, grad }: VjpContext, node: Node<NeighbourhoodAttrs>): readonly Value[] {
  const x = node.inputs[0]!; // checked by infer
  const { dtype, shape } = x.type;
  const { alpha, beta, bias, size } = node.attrs;
  const f = formula(build, dtype);
  const [batch, channels] = shape;
  const plane = shape.slice(2).reduce((a, b) => a * b, 1);
  /** Σ over the channels from `before` before to size − 1 − before after. */
  const sum = (v: Value, before: number): Value => {
    const window = { kernel_shape: [size, 1], strides: [1, 1], dilations: [1, 1], pads: [before, 0], size: [channels, plane] };
    return build.reshape(build.op("GatherWindows", [build.reshape(v, [batch, 1, channels, plane])], window), shape);
  };
  const before = Math.floor((size - 1) / 2);
  const base = f.add(f.mul(sum(f.square(x), before), alpha / size), bias);
  const dy = grad(0)!; // the only output
  const direct = f.mul(dy, f.op("Pow", base, -beta));
  const others = sum(f.div(f.mul(direct, x), base), size - 1 - before);
  return [f.sub(direct, f.mul(x, others, (2 * alpha * beta) / size))];
}
