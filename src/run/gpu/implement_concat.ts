// Concat of more tensors than a kernel has buffers for: as many at a time as there may be, then what came of them.
import { loadReader } from "../../ir/expr_interpreter.ts";
import { apply, type Graph, type Node, type TensorType, type Value } from "../../ir/graph.ts";
import type { SimtKernel } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { composeReaders } from "../../lower/compose.ts";
import { lowerSimtReaders } from "../../lower/simt_group.ts";
import { input } from "../../ops/source.ts";
import { type KernelCall, type Place, valuePlace } from "../step.ts";
import type { GpuTask } from "./product_calls.ts";

interface Part {
  readonly type: TensorType;
  readonly place: Place;
}

/** Null: something else than floats that are joined. */
export function concatInTurns(
  node: Node,
  body: Graph,
  reads: readonly Value[],
  { name, target, shared }: Pick<GpuTask, "name" | "target" | "shared">,
): readonly KernelCall<SimtKernel>[] | null {
  const { node: concat, type } = body.outputs[0].value;
  const inputs = concat.inputs.map((v) => body.inputs.indexOf(v!)); // a Concat's are all there
  if (body.outputs.length !== 1 || concat.op.name !== "Concat" || inputs.includes(-1) || !["f32", "f16", "bf16"].includes(type.dtype))
    return null;
  const most = target.maxBuffers - 1;
  const calls: KernelCall<SimtKernel>[] = [];
  const joined = (parts: readonly Part[], to: Place | null): Part => {
    const values = parts.map((p, i) => input(`in${i}`, p.type));
    const [value] = apply(concat.op, values, concat.attrs, node.from);
    const place = to ?? { k: "temporary", id: calls.length, bytes: elementCount(value.type.shape) * target.storedBytes[type.dtype]! }; // implement has looked
    const types = parts.map((p) => p.type);
    const kernel = shared(`concat ${JSON.stringify([types, concat.attrs])}`, `${name}_${calls.length}`, (n) =>
      lowerSimtReaders(
        n,
        composeReaders({ inputs: values, outputs: [{ name: "out", value }] }, (i, t) => loadReader(t, i)),
        types,
        target,
      ),
    );
    calls.push({ kernel, places: [...parts.map((p) => p.place), place] });
    return { type: value.type, place };
  };
  let parts: Part[] = inputs.map((i) => ({ type: reads[i].type, place: valuePlace(reads[i]) }));
  while (parts.length > most) {
    const chunks = Array.from({ length: Math.ceil(parts.length / most) }, (_, i) => parts.slice(i * most, (i + 1) * most));
    parts = chunks.map((chunk) => (chunk.length === 1 ? chunk[0] : joined(chunk, null)));
  }
  joined(parts, valuePlace(node.outputs[0]));
  return calls;
}
