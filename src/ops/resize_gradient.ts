// The gradient of resizing: sums over blocks where elements were repeated, else a product with each axis' matrix of weights.
import type { Builder, TensorType, Value } from "../ir/graph.ts";
import { type TensorData, toNumbers } from "../ir/tensor.ts";
import { throughAxis } from "./gradient.ts";

/** How often each element was repeated in a row, when that is all that a matrix (size, out) does; else 0. */
function repeats(matrix: TensorData | null): number {
  if (!matrix) return 1;
  const [size, out] = matrix.shape;
  const times = out / size;
  const isBlock =
    Number.isInteger(times) && toNumbers(matrix).every((v, i) => v === Number(Math.floor((i % out) / times) === Math.floor(i / out)));
  return isBlock ? times : 0;
}

/** `matrices` has (size, out) of each axis that changes. */
export function resizeGradient(build: Builder, dy: Value, x: TensorType, matrices: readonly (TensorData | null)[]): Value {
  const times = matrices.map(repeats);
  const spatial = times.slice(2);
  const isOfPlanes = spatial.length > 0 && times.every((n, axis) => n > 0 && (axis >= 2 || n === 1));
  if (isOfPlanes) {
    const window = { kernel_shape: spatial, strides: spatial, dilations: spatial.map(() => 1), pads: spatial.map(() => 0) };
    return build.op("GatherWindows", [dy], { ...window, size: x.shape.slice(2) });
  }
  return matrices.reduce<Value>(
    (dx, matrix, axis) => (matrix ? throughAxis(build, dx, axis, build.constant(x.dtype, [...toNumbers(matrix)], matrix.shape)) : dx),
    dy,
  );
}
