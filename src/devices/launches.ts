// Checks a launch list against its kernels: what every CPU device does before it builds one.
import { HeddleError, invariant } from "../ir/error.ts";
import type { Kernel } from "../ir/kernel.ts";
import type { CompiledKernel, Launch } from "./cpu.ts";

/** What launching needs to know of a kernel. */
export const compiledKernel = ({ name, threads, params }: Kernel, entry: number): CompiledKernel => ({
  name,
  threads,
  params: params.map((p) => (p.access === "scratch" ? p.bytes : null)),
  entry,
});

/** Bytes of the largest scratch buffer. */
export const scratchBytes = (kernels: readonly CompiledKernel[]): number =>
  Math.max(0, ...kernels.flatMap((k) => k.params.map((p) => p ?? 0)));

/** Throws where a launch does not fit its kernel, or a kernel the number of threads. */
export function checkLaunches(kernels: readonly CompiledKernel[], launches: readonly Launch[], threads: number): void {
  for (const { name, threads: wanted } of kernels)
    invariant(wanted === threads || wanted === 1, `${name} is built for ${wanted} threads, the device has ${threads}`);
  launches.forEach((launch, i) => {
    const kernel = kernels[launch.kernel];
    invariant(kernel, `launch ${i}: no kernel ${launch.kernel}`);
    const wanted = kernel.params.filter((p) => p === null).length;
    invariant(launch.args.length === wanted, `launch ${i}: ${kernel.name} takes ${wanted} buffers, got ${launch.args.length}`);
  });
}

/** Throws where a run asks for launches that are not there. */
export function checkRange(from: number, to: number, length: number): void {
  if (!(Number.isInteger(from) && Number.isInteger(to) && from >= 0 && from <= to && to <= length))
    throw new HeddleError("bad-argument", `launch list: range ${from}..${to} of ${length} launches`);
}

/** Launches of one thread that follow each other are a chain, in which threads do not meet: from each launch on, how many there are of it; 0: it is of several threads. */
export function chainsOf(launched: readonly Pick<CompiledKernel, "threads">[]): number[] {
  const chains = launched.map(({ threads }) => Number(threads === 1));
  for (let i = chains.length - 2; i >= 0; i--) if (chains[i] > 0) chains[i] += chains[i + 1];
  return chains;
}
