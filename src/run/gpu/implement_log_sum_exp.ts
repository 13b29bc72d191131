// ReduceLogSumExp over long lines, which may be the first columns of longer ones in 16 bits, to its kernel.
import type { Graph, Node, Value } from "../../ir/graph.ts";
import type { GpuKernel } from "../../ir/library_kernel.ts";
import type { SimtTarget } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { fitsLogSumExp, type LogSumExpShape, logSumExpKernel } from "../../kernels/simt/log_sum_exp.ts";
import { numbersOf } from "../../passes/match.ts";
import { type KernelCall, valuePlace } from "../step.ts";
import type { Shared } from "./product_calls.ts";

/** The calls for a node over what `body` computes of `reads`; null: it is something else, or lines are short. */
export function logSumExp(
  node: Node,
  body: Graph,
  reads: readonly Value[],
  { name, target, shared }: { readonly name: string; readonly target: SimtTarget; readonly shared: Shared },
): readonly KernelCall<GpuKernel>[] | null {
  const found = linesOf(body);
  if (!found || !fitsLogSumExp(found.shape, target)) return null;
  const kernel = shared(`LogSumExp ${JSON.stringify(found.shape)}`, name, (n) => logSumExpKernel(n, found.shape, target));
  return [{ kernel, places: [valuePlace(reads[body.inputs.indexOf(found.x)]), valuePlace(node.outputs[0])] }];
}

/** The lines that a body's only output is the logarithm of, and which of its inputs they lie in. */
function linesOf({ inputs, outputs }: Graph): { readonly x: Value; readonly shape: LogSumExpShape } | null {
  const [{ value }] = outputs;
  const { op, inputs: reduced } = value.node;
  if (outputs.length !== 1 || op.name !== "ReduceLogSumExp" || value.type.dtype !== "f32") return null;
  const { shape } = reduced[0]!.type; // checked by infer
  const axes = numbersOf(reduced[1]);
  const last = shape.length - 1;
  const width = shape[last];
  if (axes?.length !== 1 || (axes[0] !== last && axes[0] !== -1)) return null;
  let x = reduced[0]!;
  if (x.node.op.name === "Cast") x = x.node.inputs[0]!; // it has one
  if (x.node.op.name === "Slice" && isFirstColumns(x.node)) x = x.node.inputs[0]!;
  const { dtype } = x.type;
  if (!inputs.includes(x) || (dtype !== "f32" && dtype !== "bf16" && dtype !== "f16")) return null;
  return { x, shape: { rows: elementCount(shape.slice(0, -1)), width, stride: x.type.shape[last], dtype } };
}

/** Whether a Slice takes all of its input but the last columns. */
function isFirstColumns({ inputs: [x, starts], outputs: [y] }: Node): boolean {
  const [from, to] = [x!.type.shape, y.type.shape]; // checked by infer
  const isRest = from.every((d, i) => d === to[i] || (i === from.length - 1 && d > to[i]));
  return isRest && numbersOf(starts)?.every((start) => start === 0) === true;
}
