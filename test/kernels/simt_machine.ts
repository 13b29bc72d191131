// Runs SIMT kernels in JavaScript, workgroup by workgroup: for what no GPU of this machine has, such as matrix fragments and late copies.
import { DTYPES } from "../../src/ir/dtype.ts";
import type { Value } from "../../src/ir/graph.ts";
import type { GpuKernel } from "../../src/ir/library_kernel.ts";
import type { SimtKernel, SimtTarget } from "../../src/ir/simt.ts";
import { elementCount } from "../../src/ir/tensor.ts";
import type { Schedule } from "../../src/run/schedule.ts";
import { type Arrival, scriptOf } from "./simt_script.ts";

export type { Arrival };

/** Runs all workgroups. Shared memory begins as NaN: what is read was written. */
export function runKernel(kernel: SimtKernel, buffers: readonly Float64Array[], arrival: Arrival): void {
  const g = kernel.grid;
  const count = elementCount(kernel.workgroup);
  const script = scriptOf(kernel);
  for (let id = 0; id < elementCount(g); id++) {
    const group = [id % g[0], Math.floor(id / g[0]) % g[1], Math.floor(id / g[0] / g[1])];
    const perSet = buffers.length / (kernel.sets ?? 1);
    script({
      buffers: kernel.sets ? buffers.slice(group[2] * perSet, (group[2] + 1) * perSet) : buffers,
      group,
      shared: kernel.shared.map((s) => new Float64Array(s.elements).fill(Number.NaN)),
      copies: [],
      arrival,
      common: {},
      fragments: Array.from({ length: Math.ceil(count / 32) }, () => []),
    });
  }
}

/** Runs a program's kernels; values in memory, with what was given. */
export function runSchedule(
  { steps, owners }: Schedule<GpuKernel>,
  given: ReadonlyMap<Value, Float64Array>,
): ReadonlyMap<Value, Float64Array> {
  const values = new Map(given);
  for (const { calls } of steps) {
    const temporaries = new Map<number, Float64Array>();
    for (const { kernel, places } of calls ?? []) {
      const { params } = kernel as SimtKernel; // there is no library
      const buffers = places.map((place, i) => {
        const known =
          place.k === "value"
            ? values.get(owners.get(place.value) ?? place.value)
            : place.k === "temporary"
              ? temporaries.get(place.id)
              : undefined;
        const buffer = known ?? new Float64Array(params[i].elements);
        if (place.k === "value") values.set(owners.get(place.value) ?? place.value, buffer);
        if (place.k === "temporary") temporaries.set(place.id, buffer);
        return buffer;
      });
      runKernel(kernel as SimtKernel, buffers, "late");
    }
  }
  return values;
}

/** What kernels are generated for, without libraries. */
export const H200: SimtTarget = {
  name: "cuda",
  subgroup: 32,
  maxThreads: 1024,
  sharedBytes: 227 << 10,
  units: 132,
  maxGroups: 65535,
  maxBuffers: 64,
  hasSets: true,
  fragments: ["f16", "bf16"],
  opensFragments: true,
  storedBytes: Object.fromEntries(Object.entries(DTYPES).map(([dtype, { bytes }]) => [dtype, bytes])),
};
