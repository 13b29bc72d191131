// Operators with kernels of their own, whatever is around them: random words, scattered rows.
import type { Node } from "../../ir/graph.ts";
import type { GpuKernel } from "../../ir/library_kernel.ts";
import type { SimtKernel, SimtTarget } from "../../ir/simt.ts";
import { fitsRandomWords, randomWordsKernel } from "../../kernels/simt/random_words.ts";
import { fitsScatterRows, type ScatterRowsShape, scatterRowsKernel } from "../../kernels/simt/scatter_rows.ts";
import { fitsSortedRows, namedRowsKernel, rankedPlacesKernel, sortedRowsKernel } from "../../kernels/simt/sorted_rows.ts";
import type { RandomWordsAttrs } from "../../ops/random_words.ts";
import { scatterRowsGeometry } from "../../ops/scatter_rows.ts";
import { type KernelCall, type Place, valuePlace } from "../step.ts";
import type { Shared } from "./product_calls.ts";

/** Calls for a node; null: not for these shapes or types. */
export type DirectImplementation = (
  node: Node,
  name: string,
  target: SimtTarget,
  shared: Shared,
) => readonly KernelCall<GpuKernel>[] | null;

/** One call of a kernel that gets the node's inputs and outputs, which are all there. */
const single = (node: Node, kernel: SimtKernel): readonly KernelCall<GpuKernel>[] => [
  { kernel, places: [...node.inputs.map((v) => v!), ...node.outputs].map(valuePlace) },
];

/** Null where the device's grid is too small. */
export const randomWords: DirectImplementation = (node, name, target, shared) => {
  const { count, fractions } = node.attrs as unknown as RandomWordsAttrs; // the operator's
  const shape = { count, isFraction: fractions === 1 };
  if (!fitsRandomWords(shape, target)) return null;
  return single(
    node,
    shared(`RandomWords ${count} ${fractions}`, name, (n) => randomWordsKernel(n, shape, target)),
  );
};

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
