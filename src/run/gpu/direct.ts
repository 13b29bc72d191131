// Operators with kernels of their own, whatever is around them: what such an implementation is, and random words.
import type { Node } from "../../ir/graph.ts";
import type { GpuKernel } from "../../ir/library_kernel.ts";
import type { SimtKernel, SimtTarget } from "../../ir/simt.ts";
import { fitsRandomWords, randomWordsKernel } from "../../kernels/simt/random_words.ts";
import type { RandomWordsAttrs } from "../../ops/random_words.ts";
import { type KernelCall, valuePlace } from "../step.ts";
import type { Shared } from "./product_calls.ts";

/** Calls for a node; null: not for these shapes or types. */
export type DirectImplementation = (
  node: Node,
  name: string,
  target: SimtTarget,
  shared: Shared,
) => readonly KernelCall<GpuKernel>[] | null;

/** One call of a kernel that gets the node's inputs and outputs, which are all there. */
export const single = (node: Node, kernel: SimtKernel): readonly KernelCall<GpuKernel>[] => [
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
