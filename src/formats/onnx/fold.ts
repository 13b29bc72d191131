// Values whose inputs are all known while importing → constants, so that shape arithmetic is concrete before any pass runs.
import { HeddleError } from "../../ir/error.ts";
import type { Node, Value } from "../../ir/graph.ts";
import { elementCount, type TensorData, zeros } from "../../ir/tensor.ts";
import { evaluateNode } from "../../ops/evaluate.ts";
import { constantOf, constantValue } from "../../ops/source.ts";

/** Larger results are left to the passes, which run compiled code. */
const MAX_OUTPUT = 65536;
const MAX_INPUT = 1 << 18;
/** Multiplications and the like that one node and one whole import may spend: plain loops do some ten million a second. */
const MAX_NODE_WORK = 1 << 22;
const MAX_TOTAL_WORK = 1 << 23;

/** Work that one import has done so far. */
export interface FoldBudget {
  work: number;
}

/** The node's outputs, as constants where they can be known cheaply. */
export function foldNode(node: Node, budget: FoldBudget): readonly Value[] {
  const known = node.op.fold?.(node.inputs, node.attrs) ?? empty(node) ?? evaluated(node, budget);
  return known ? known.map((tensor) => constantValue(tensor, node.from)) : node.outputs;
}

/** Tensors without elements are known, whatever the inputs are: no kernel has to be made for nothing. */
function empty({ outputs }: Node): readonly TensorData[] | undefined {
  return outputs.every((o) => elementCount(o.type.shape) === 0) ? outputs.map(({ type }) => zeros(type.dtype, type.shape)) : undefined;
}

function evaluated(node: Node, budget: FoldBudget): readonly TensorData[] | undefined {
  if (node.op.kind === "source" || !(node.op.evaluate || node.op.lower || node.op.expand)) return undefined;
  const inputs: (TensorData | null)[] = [];
  for (const value of node.inputs) {
    const tensor = constantOf(value);
    if (value && !tensor) return undefined;
    inputs.push(tensor ?? null);
  }
  const outputSize = node.outputs.reduce((n, o) => n + elementCount(o.type.shape), 0);
  const inputSize = inputs.reduce((n, t) => n + (t ? elementCount(t.shape) : 0), 0);
  const work = Math.max(outputSize + inputSize, node.op.flops?.(node) ?? 0);
  if (outputSize > MAX_OUTPUT || inputSize > MAX_INPUT || work > MAX_NODE_WORK || budget.work + work > MAX_TOTAL_WORK) return undefined;
  budget.work += work;
  try {
    return evaluateNode(node, inputs);
  } catch (e) {
    if (e instanceof HeddleError && e.code === "unsupported") return undefined; // it says so again where it must run
    throw e;
  }
}
