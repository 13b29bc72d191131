// TiledMaxPool, TiledMaxPoolGrad and ScatterRows to kernels.
import type { Value } from "../../ir/graph.ts";
import { elementCount } from "../../ir/tensor.ts";
import { scatterRowsKernel } from "../../kernels/scatter_rows.ts";
import { type TiledPoolShape, tiledPoolGradientKernel, tiledPoolKernel } from "../../kernels/tiled_max_pool.ts";
import { scatterRowsGeometry } from "../../ops/scatter_rows.ts";
import type { TileAttrs, TiledMaxPoolAttrs } from "../../ops/tiled_max_pool.ts";
import { type AnchorTask, type Implementation, sharedKernel, tailPlaces, valuePlace } from "../step.ts";

/** Windows on two axes of pictures with channels last; null: others. */
function shapeOf({ anchor }: AnchorTask, pooled: Value): TiledPoolShape | null {
  const { layout, kernel_shape: taps } = anchor.attrs as unknown as TileAttrs;
  if (layout !== "NHWC" || taps.length !== 2 || elementCount(pooled.type.shape) === 0) return null;
  const [batch, height, width, channels] = pooled.type.shape;
  return { batch, channels, windows: [height, width], taps: [taps[0], taps[1]] };
}

export const implementTiledMaxPool: Implementation = (task) => {
  const { anchor, inputs, name, target, threads } = task;
  const shape = shapeOf(task, task.output);
  if (!shape) return null;
  const isRectified = (anchor.attrs as unknown as TiledMaxPoolAttrs).rectified === 1;
  const kernel = sharedKernel(task, `tiled pool ${JSON.stringify([shape, isRectified])}`, () =>
    tiledPoolKernel(name, shape, isRectified, target, threads),
  );
  return [{ kernel, places: [inputs[0]!, ...anchor.outputs].map(valuePlace) }]; // checked by infer
};

export const implementTiledMaxPoolGrad: Implementation = (task) => {
  const { inputs, name, target, threads, epilogue, epilogueKey } = task;
  const given = inputs as readonly Value[]; // both are there, by infer
  const shape = shapeOf(task, given[0]);
  if (!shape) return null;
  const kernel = sharedKernel(task, `tiled pool gradient ${JSON.stringify(shape)} ${epilogueKey}`, () =>
    tiledPoolGradientKernel(name, shape, epilogue, target, threads),
  );
  return [{ kernel, places: [...given.map(valuePlace), ...tailPlaces(task)] }];
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
