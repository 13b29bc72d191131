// MaxPoolGrad and ScatterRows to kernels.
import type { Value } from "../../ir/graph.ts";
import { elementCount } from "../../ir/tensor.ts";
import { maxPoolGradientKernel } from "../../kernels/max_pool_gradient.ts";
import { scatterRowsKernel } from "../../kernels/scatter_rows.ts";
import { hasTiledWindows } from "../../ops/max_pool_grad.ts";
import type { WindowAttrs } from "../../ops/pool_windows.ts";
import { scatterRowsGeometry } from "../../ops/scatter_rows.ts";
import { type Implementation, sharedKernel, tailPlaces, valuePlace } from "../step.ts";

export const implementMaxPoolGrad: Implementation = (task) => {
  const { anchor, inputs, name, target, threads } = task;
  const { layout, kernel_shape } = anchor.attrs as unknown as WindowAttrs;
  const [x, y] = inputs as readonly Value[]; // all three are there, by infer
  if (layout !== "NHWC" || !hasTiledWindows(anchor) || elementCount(x.type.shape) === 0) return null;
  const [batch, height, width, channels] = y.type.shape;
  const shape = { batch, channels, windows: [height, width], taps: [kernel_shape[0], kernel_shape[1]] } as const;
  const kernel = sharedKernel(task, `max pool gradient ${JSON.stringify(shape)} ${task.epilogueKey}`, () =>
    maxPoolGradientKernel(name, shape, task.epilogue, target, threads),
  );
  return [{ kernel, places: [...(inputs as readonly Value[]).map(valuePlace), ...tailPlaces(task)] }];
};

export const implementScatterRows: Implementation = (task) => {
  const { anchor, inputs, name, output, target, threads } = task;
  const [indices, rows] = inputs as readonly Value[]; // both are there, by infer
  const geometry = scatterRowsGeometry(anchor);
  if (rows.type.dtype !== "f32" || geometry.size * geometry.width === 0) return null;
  const shape = { ...geometry, indexType: indices.type.dtype === "i32" ? "i32" : "i64" } as const;
  const kernel = sharedKernel(task, `scatter rows ${JSON.stringify(shape)}`, () => scatterRowsKernel(name, shape, target, threads));
  return [{ kernel, places: [indices, rows, output].map(valuePlace) }];
};
