// How near a pruned network stays to the dense one, on inputs that neither calibration nor distillation saw.
import type { DeviceOptions } from "../devices/open.ts";
import { isFloat } from "../ir/dtype.ts";
import { type TensorData, toNumbers } from "../ir/tensor.ts";
import { loadModel, type Tensors } from "../model.ts";
import { compareOutputs } from "./agreement.ts";
import type { Inputs } from "./batches.ts";

/** How the pruned network's outputs compare with the dense one's. */
export interface HeldOut {
  readonly batches: number;
  /** The least and the mean of all outputs of all batches. */
  readonly minCosine: number;
  readonly meanCosine: number;
  readonly maxAbs: number | null;
  /** Places at which the largest entry along the last axis is the same. */
  readonly sameClass: number;
}

export type Judge = (pruned: Uint8Array) => Promise<HeldOut>;

/** Runs the dense network on all held-out inputs, once; then each pruned one that comes. Null: there are none. */
export async function judgeOf(dense: Uint8Array, held: readonly Inputs[], device: DeviceOptions, directory: string): Promise<Judge | null> {
  if (held.length === 0) return null;
  const outputs = async (bytes: Uint8Array): Promise<Tensors[]> => {
    using model = await loadModel(bytes, { ...device, directory, cache: false });
    const all: Tensors[] = [];
    for (const inputs of held) all.push(await model.run(inputs));
    return all;
  };
  const wanted = await outputs(dense);
  return async (pruned) => {
    const got = await outputs(pruned);
    const all = wanted.flatMap((tensors, i) => compareOutputs(got[i], tensors));
    const places = wanted.map((tensors, i) => sameClasses(got[i], tensors));
    return {
      batches: held.length,
      minCosine: Math.min(...all.map((a) => a.cosine)),
      meanCosine: all.reduce((sum, a) => sum + a.cosine, 0) / all.length,
      maxAbs: all.some((a) => a.maxAbs === null) ? null : Math.max(...all.map((a) => a.maxAbs ?? 0)),
      sameClass:
        places.reduce((n, p) => n + p.same, 0) /
        Math.max(
          1,
          places.reduce((n, p) => n + p.count, 0),
        ),
    };
  };
}

function sameClasses(got: Tensors, wanted: Tensors): { same: number; count: number } {
  let [same, count] = [0, 0];
  for (const [name, tensor] of Object.entries(wanted)) {
    if (!isFloat(tensor.dtype) || tensor.shape.length === 0) continue;
    const [a, b] = [largest(got[name]), largest(tensor)];
    for (const [i, place] of b.entries()) same += Number(a[i] === place);
    count += b.length;
  }
  return { same, count };
}

/** Where the last axis is largest, for each place along the others. */
function largest(tensor: TensorData): number[] {
  const values = toNumbers(tensor);
  const length = tensor.shape.at(-1)!; // asked for tensors with an axis
  return Array.from({ length: length ? values.length / length : 0 }, (_, i) => {
    let best = 0;
    for (let k = 1; k < length; k++) if (values[i * length + k] > values[i * length + best]) best = k;
    return best;
  });
}
