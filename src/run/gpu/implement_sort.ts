// TopK to sorted lines: one kernel where lines fit shared memory, passes over what is left of them elsewhere.
import type { Node } from "../../ir/graph.ts";
import { elementCount } from "../../ir/tensor.ts";
import { isSortable, type SortedLines, sortKernel, sortPasses, wordsLeft } from "../../kernels/simt/sort.ts";
import { type Place, valuePlace } from "../step.ts";
import type { DirectImplementation } from "./direct.ts";

/** Null: values that no key of 32 bits orders. */
export const topK: DirectImplementation = (node, name, target, shared) => {
  const x = node.inputs[0]!; // checked by infer
  const lines = linesOf(node);
  if (!isSortable(lines.dtype)) return null;
  const passes = sortPasses(lines);
  const bytes = 4 * Math.max(...passes.map(wordsLeft));
  const between = (i: number): Place => ({ k: "temporary", id: i % 2, bytes });
  return passes.map((pass, i) => {
    const { isFirst, isLast } = pass;
    const kernel = shared(`sort ${JSON.stringify(pass)}`, isLast ? name : `${name}_${i}`, (n) => sortKernel(n, pass, target));
    return {
      kernel,
      places: [
        ...(isFirst || isLast ? [valuePlace(x)] : []),
        ...(isFirst ? [] : [between(i - 1)]),
        ...(isLast ? node.outputs.map(valuePlace) : [between(i)]),
      ],
    };
  });
};

function linesOf(node: Node): SortedLines {
  const { dtype, shape } = node.inputs[0]!.type; // checked by infer
  const attrs = node.attrs as unknown as { readonly axis: number; readonly largest: number }; // TopK's
  const axis = attrs.axis < 0 ? attrs.axis + shape.length : attrs.axis;
  return {
    dtype,
    outer: elementCount(shape.slice(0, axis)),
    n: shape[axis],
    inner: elementCount(shape.slice(axis + 1)),
    k: node.outputs[0].type.shape[axis],
    isLargest: attrs.largest !== 0,
  };
}
