// ScatterRows: adds rows up at the places that data names, the adjoint of gathering rows.
import { HeddleError } from "../ir/error.ts";
import { defineOp, type Node, type Op, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../ir/tensor.ts";
import { FLOATS, f32, inputType, tensorOf } from "./define.ts";

interface ScatterRowsAttrs {
  /** Rows of the result. */
  readonly size: number;
}

/** Sizes of a node: `count` rows of `width` elements go to `size` rows. */
export interface ScatterRowsGeometry {
  readonly count: number;
  readonly width: number;
  readonly size: number;
}

function geometryOf(inputs: readonly (Value | null)[], { size }: ScatterRowsAttrs): ScatterRowsGeometry {
  const indices = inputType("ScatterRows", inputs, 0, ["i32", "i64"]).shape;
  const { shape } = inputType("ScatterRows", inputs, 1, FLOATS);
  if (shape.slice(0, indices.length).join() !== indices.join())
    throw new HeddleError("bad-model", `ScatterRows: rows (${shape}) do not begin with the axes of the indices (${indices})`);
  const count = elementCount(indices);
  if (!(size >= 1 || (size === 0 && count === 0))) throw new HeddleError("bad-model", `ScatterRows: ${count} rows for ${size} places`);
  return { count, width: elementCount(shape.slice(indices.length)), size };
}

/** Geometry of a node of ScatterRows. */
export const scatterRowsGeometry = (node: Node): ScatterRowsGeometry => geometryOf(node.inputs, node.attrs as unknown as ScatterRowsAttrs);

/** Places count from the end when negative, and are limited to the axis, as those of Gather are. */
function added(places: Float64Array, rows: TensorData, { width, size }: ScatterRowsGeometry): Float64Array {
  const from = toNumbers(rows);
  const sums = new Float64Array(size * width);
  for (let i = 0; i < places.length; i++) {
    const place = Math.min(Math.max(places[i] < 0 ? places[i] + size : places[i], 0), size - 1);
    for (let k = 0; k < width; k++) sums[place * width + k] += from[i * width + k];
  }
  return sums;
}

/** indices (…) · rows (…, rest) → (size, rest). */
export const ScatterRows: Op = defineOp<ScatterRowsAttrs>({
  name: "ScatterRows",
  kind: "opaque",
  own: true,
  attrs: { size: { type: "int" } },
  infer(inputs, attrs) {
    geometryOf(inputs, attrs);
    const { dtype, shape } = inputs[1]!.type; // geometryOf has seen both
    return [{ dtype, shape: [attrs.size, ...shape.slice(inputs[0]!.type.shape.length)] }];
  },
  evaluate([indices, rows], node) {
    const { dtype, shape } = node.outputs[0].type;
    return [fromNumbers(dtype, shape, added(toNumbers(indices!), rows!, geometryOf(node.inputs, node.attrs)))]; // checked by infer
  },
  vjp: ({ build, grad }, { inputs: [indices] }) => [null, build.op("Gather", [grad(0), indices], { axis: 0 })],
  flops: (node) => elementCount(node.inputs[1]!.type.shape),
  samples: [
    { inputs: [tensorOf("i64", [0, -1, 3, 3], [2, 2]), f32(2, 2, 7)], attrs: { size: 5 } },
    { inputs: [tensorOf("i32", [4, 0, 1, 4, 4]), f32(5, 3, 29)], attrs: { size: 6 } },
    { inputs: [tensorOf("i64", [1, 1, 0]), f32(3)], attrs: { size: 2 } },
    { inputs: [tensorOf("i64", [-1], []), f32(4)], attrs: { size: 3 } },
  ],
});

export const scatterRowsOps: readonly Op[] = [ScatterRows];
