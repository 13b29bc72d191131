// A graph on a device → the first node whose kernels compute something other than the reference does from the same inputs.
import { setImmediate as nextTurn } from "node:timers/promises";
import { type Device, isGpu } from "../devices/open.ts";
import { invariant } from "../ir/error.ts";
import type { Graph, Value } from "../ir/graph.ts";
import type { Precision } from "../ir/precision.ts";
import type { TensorData } from "../ir/tensor.ts";
import type { Tensors } from "../model.ts";
import { evaluateNode } from "../ops/index.ts";
import { constantOf, inputName } from "../ops/source.ts";
import { compile } from "../run/compile.ts";
import { describeNode } from "../run/describe.ts";
import { compileForGpu } from "../run/gpu/program.ts";
import { compareTensors } from "./agreement.ts";
import { short } from "./units.ts";

export interface Divergence {
  /** The node's name in the file. */
  readonly node: string;
  readonly operator: string;
  readonly kernels: readonly string[];
  readonly maxAbs: number | null;
  /** Largest difference over the node's largest value. */
  readonly maxScaled: number | null;
  readonly detail: string;
}

/** Of a node's largest value: long sums cancel, so that small results have no relative accuracy of their own. Sums that are rounded to less may end one step apart. */
const TOLERANCE: Readonly<Record<Precision, number>> = { f32: 1e-4, tf32: 2 ** -9, f16: 2 ** -9, bf16: 2 ** -6, f8: 2 ** -3 };

/** Null: every node agrees. Each node is evaluated on what the device computed before it, so that errors do not add up. */
export async function firstDivergence(
  graph: Graph,
  device: Device,
  inputs: Tensors,
  progress: (text: string) => void,
  precision: Precision = "f32",
): Promise<Divergence | null> {
  const program = await (isGpu(device)
    ? compileForGpu(graph, { device, separateTensors: true, precision, storesNarrow: true })
    : compile(graph, { device, separateTensors: true, precision, storesNarrow: true }));
  try {
    await program.run(inputs);
    const known = new KnownValues(inputs, await program.values());
    const { steps } = program.schedule;
    for (const [i, { node, calls }] of steps.entries()) {
      progress(`node ${i + 1} of ${steps.length}`);
      await nextTurn(); // evaluating takes long: Ctrl-C must get through
      const wanted = evaluateNode(
        node,
        node.inputs.map((v) => (v ? known.of(v) : null)),
      );
      for (const [o, value] of node.outputs.entries()) {
        const { maxAbs, maxScaled, reason } = compareTensors("", known.of(value), wanted[o]);
        if (maxAbs === 0 || (maxScaled !== null && maxScaled <= TOLERANCE[precision])) continue;
        const { name, operator } = describeNode(node);
        const detail = reason ?? `largest difference ${short(maxAbs ?? 0)}, ${short(maxScaled ?? 0)} of the largest value`;
        return { node: name, operator, kernels: (calls ?? []).map((c) => c.kernel.name), maxAbs, maxScaled, detail };
      }
    }
    return null;
  } finally {
    program.free();
  }
}

/** What the device computed; values that no kernel stores (a transpose that its reader sees through) are computed from those. */
class KnownValues {
  private readonly tensors: Map<Value, TensorData>;

  constructor(
    private readonly inputs: Tensors,
    computed: readonly { readonly value: Value; readonly tensor: TensorData }[],
  ) {
    this.tensors = new Map(computed.map(({ value, tensor }) => [value, tensor]));
  }

  of(value: Value): TensorData {
    const known =
      this.tensors.get(value) ?? constantOf(value) ?? (value.node.inputs.length === 0 ? this.inputs[inputName(value)] : undefined);
    if (known) return known;
    const { node } = value;
    const outputs = evaluateNode(
      node,
      node.inputs.map((v) => (v ? this.of(v) : null)),
    );
    for (const [i, o] of node.outputs.entries()) this.tensors.set(o, outputs[i]);
    const result = this.tensors.get(value);
    invariant(result, `${node.op.name}: a value that was not computed`);
    return result;
  }
}
