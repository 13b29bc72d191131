// What layouts cost on a GPU: moving an image, and working on one with its channels first.
import type { Node, TensorType } from "../ir/graph.ts";
import { elementCount } from "../ir/tensor.ts";
import type { LayoutCosts } from "../passes/layout_plan.ts";
import { byteSize, flopsOf, tensorBytes } from "./cost.ts";

/** Measured on an H200 (docs/decisions.md): nanoseconds of a kernel more, and bytes in one. */
const GPU_KERNEL = 1500;
const GPU_MOVED = { toLast: 2500, toFirst: 1100 };
/** Operations in a nanosecond, of convolutions: with channels first they take twice as long. */
const GPU_OPERATIONS = 40_000;
/** Of convolutions of bytes, which matrix units do with channels innermost only. */
const GPU_BYTE_OPERATIONS = 10_000;
/** Bytes in a nanosecond by which pools are slower: they read single elements. */
const GPU_POOLED = 6800;
/** Images with so few channels in front are read where they lie. */
const READ_IN_FRONT = 3;

export const gpuLayoutCosts: LayoutCosts = {
  move({ dtype, shape }: TensorType, toLast: boolean): number {
    if (toLast && shape[1] <= READ_IN_FRONT) return 0;
    return GPU_KERNEL + (2 * tensorBytes({ dtype, shape })) / GPU_MOVED[toLast ? "toLast" : "toFirst"];
  },
  loss(node: Node): number {
    if (node.op.kind === "contract") return flopsOf(node) / GPU_OPERATIONS;
    if (node.op.name === "Int8Conv") return flopsOf(node) / GPU_BYTE_OPERATIONS;
    if (node.op.name === "AveragePool") return 0;
    const touched = [...node.inputs, ...node.outputs].reduce((n, v) => n + (v && elementCount(v.type.shape) > 0 ? byteSize(v) : 0), 0);
    return touched / GPU_POOLED;
  },
};
