// ScatterRows to its kernels: one that compares places once a row of the result, or three that sort them first.
import type { Node } from "../../ir/graph.ts";
import type { GpuKernel } from "../../ir/library_kernel.ts";
import type { SimtKernel, SimtTarget } from "../../ir/simt.ts";
import { fitsScatterRows, type ScatterRowsShape, scatterRowsKernel } from "../../kernels/simt/scatter_rows.ts";
import { fitsSortedRows, namedRowsKernel, rankedPlacesKernel, sortedRowsKernel } from "../../kernels/simt/sorted_rows.ts";
import { scatterRowsGeometry } from "../../ops/scatter_rows.ts";
import { type KernelCall, type Place, valuePlace } from "../step.ts";
import { type DirectImplementation, single } from "./direct.ts";

export const scatterRows: DirectImplementation = (node, name, target, shared) => {
  const [places, rows] = node.inputs.map((v) => v!.type.dtype); // checked by infer
  const shape = { ...scatterRowsGeometry(node), places, dtype: rows };
  if (!fitsScatterRows(shape)) return null;
  const key = JSON.stringify(shape);
  if (fitsSortedRows(shape, target)) return sortedRows(node, shape, (of, kernel) => shared(`ScatterRows ${of} ${key}`, `${name}_${of}`, (n) => kernel(n, shape, target))); // biome-ignore format: one idea
  return single(
    node,
    shared(`ScatterRows ${key}`, name, (n) => scatterRowsKernel(n, shape, target)),
  );
};

type SortedKernel = (name: string, shape: ScatterRowsShape, target: SimtTarget) => SimtKernel;

/** The rows that are named, places by rank, their sums. */
function sortedRows(
  { inputs, outputs }: Node,
  { count, size }: ScatterRowsShape,
  made: (of: string, kernel: SortedKernel) => SimtKernel,
): readonly KernelCall<GpuKernel>[] {
  const [places, added, result] = [inputs[0]!, inputs[1]!, outputs[0]].map(valuePlace); // checked by infer
  const [rows, sorted, starts, counts] = [count, count, size, size].map((n, id): Place => ({ k: "temporary", id, bytes: 4 * n }));
  return [
    { kernel: made("named", namedRowsKernel), places: [places, rows, counts] },
    { kernel: made("ranked", rankedPlacesKernel), places: [rows, sorted, starts, counts] },
    { kernel: made("sums", sortedRowsKernel), places: [added, sorted, starts, counts, result] },
  ];
}
