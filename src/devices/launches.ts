// Checks a launch list against its kernels: what every CPU device does before it builds one.
import { HeddleError, invariant } from "../ir/error.ts";
import type { Kernel } from "../ir/kernel.ts";
import type { Launch } from "./cpu.ts";

export const isScratch = (p: Kernel["params"][number]): boolean => p.access === "scratch";

/** Throws where a launch does not fit its kernel, or a kernel the number of threads. */
export function checkLaunches(kernels: readonly Kernel[], launches: readonly Launch[], threads: number): void {
  for (const { name, threads: wanted } of kernels)
    invariant(wanted === threads || wanted === 1, `${name} is built for ${wanted} threads, the device has ${threads}`);
  launches.forEach((launch, i) => {
    const kernel = kernels[launch.kernel];
    invariant(kernel, `launch ${i}: no kernel ${launch.kernel}`);
    const wanted = kernel.params.filter((p) => !isScratch(p)).length;
    invariant(launch.args.length === wanted, `launch ${i}: ${kernel.name} takes ${wanted} buffers, got ${launch.args.length}`);
  });
}

/** Throws where a run asks for launches that are not there. */
export function checkRange(from: number, to: number, length: number): void {
  if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= length))
    throw new HeddleError("bad-argument", `launch list: range ${from}..${to} of ${length} launches`);
}
