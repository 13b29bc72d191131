// Weights in the order in which a kernel reads them: put so when compiling where they are known, by a kernel of their own elsewhere.
import { interpret } from "../../ir/expr_interpreter.ts";
import type { Reader, Value } from "../../ir/graph.ts";
import type { SimtKernel } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { lowerSimtReaders } from "../../lower/simt_group.ts";
import { constantOf } from "../../ops/source.ts";
import { constantPlace, type KernelCall, type Place, packedPlace, valuePlace } from "../step.ts";
import type { GpuTask } from "./product_calls.ts";

export interface Ordered {
  readonly place: Place;
  readonly calls: readonly KernelCall<SimtKernel>[];
}

/** `ordered` reads w as its input 0; `order` is equal for readers that do the same to weights of equal types. */
export function reordered(task: Pick<GpuTask, "name" | "target" | "shared">, w: Value, ordered: Reader, order: string): Ordered {
  const known = knownPlace(task, w, ordered);
  if (known) return { place: known, calls: [] };
  const { dtype, shape } = ordered.type;
  const kernel = task.shared(`weights ${order} ${w.type.dtype}[${w.type.shape}]`, `${task.name}_weights`, (n) =>
    lowerSimtReaders(n, [ordered], [w.type], task.target),
  );
  const place: Place = { k: "temporary", id: 1, bytes: elementCount(shape) * (task.target.storedBytes[dtype] ?? 0) };
  return { place, calls: [{ kernel, places: [valuePlace(w), place] }] };
}

/** Constant weights are put in order when compiling: float32, and others where the device keeps them as the host does. */
function knownPlace({ target }: Pick<GpuTask, "target">, w: Value, ordered: Reader): Place | undefined {
  const tensor = constantOf(w);
  if (!tensor) return undefined;
  if (tensor.dtype === "f32") return packedPlace((out) => out.set(interpret(ordered, [tensor]).data as Float32Array)); // as its type is
  return target.name === "cuda" ? constantPlace(interpret(ordered, [tensor]).data) : undefined;
}
