// Gradients of pools: what a window gave goes to what it covered, all of it to the first maximum, or shared out.
import type { Node, Value, VjpContext } from "../ir/graph.ts";
import { formula } from "./gradient.ts";
import type { PoolGeometry } from "./pool.ts";
import type { WindowAttrs } from "./pool_windows.ts";
import { coveredCounts, joinAxes, visitWindows } from "./spatial.ts";

const windowAttrs = (g: PoolGeometry): WindowAttrs => ({
  kernel_shape: g.kernel,
  strides: g.strides,
  dilations: g.dilations,
  pads: g.padsBegin,
  layout: g.layout,
});

/** To the first element of each window that is its maximum. */
export function maxPoolGradient({ build, grad }: VjpContext, node: Node<object>, g: PoolGeometry): readonly Value[] {
  return [build.op("MaxPoolGrad", [node.inputs[0], node.outputs[0], grad(0)], { ...windowAttrs(g) })]; // the other output has integers
}

/** Elements that each window averages, for each position. */
function averagedCounts(g: PoolGeometry, includesPads: boolean): Float64Array {
  const counts = coveredCounts(g);
  if (!includesPads)
    visitWindows(g, (position, { count }) => {
      counts[position] = count;
    });
  return counts;
}

/** The same share for all that was averaged. */
export function averagePoolGradient({ build, grad }: VjpContext, g: PoolGeometry, includesPads: boolean): readonly Value[] {
  const dy = grad(0)!; // the only output
  const { dtype } = dy.type;
  const shares = [...averagedCounts(g, includesPads)].map((n) => 1 / n);
  const isEven = shares.every((s) => s === shares[0]);
  const shape = joinAxes({ batch: 1, channels: 1, spatial: g.output }, g.layout);
  const share = isEven ? build.constant(dtype, shares[0] ?? 1) : build.constant(dtype, shares, shape);
  return [build.op("SpreadWindows", [build.op("Mul", [dy, share])], { ...windowAttrs(g), size: g.input })];
}

/** y = (Σ |x|ᵖ)^(1/p): sign(x)·|x|^(p−1) times y^(1−p), of all windows that cover x. */
export function lpPoolGradient({ build, grad }: VjpContext, node: Node<object>, g: PoolGeometry, p: number): readonly Value[] {
  const x = node.inputs[0]!; // checked by infer
  const f = formula(build, x.type.dtype);
  const [y] = node.outputs;
  const perWindow = f.where(f.op("Equal", y, 0), 0, f.mul(grad(0)!, f.op("Pow", y, 1 - p))); // the only output
  const over = build.op("SpreadWindows", [perWindow], { ...windowAttrs(g), size: g.input });
  const slope = p === 2 ? x : f.mul(f.op("Sign", x), f.op("Pow", f.op("Abs", x), p - 1));
  return [f.mul(over, slope)];
}
