// A kernel with its arguments to what the driver is given at each launch, prepared once.
import { sharedPlaces, startsEarly } from "../../codegen/cuda/index.ts";
import type { SimtKernel } from "../../ir/simt.ts";
import type { CudaApi, Handle } from "./driver.ts";

/** Number of cuFuncSetAttribute: most shared memory that is given at a launch. */
const DYNAMIC_SHARED_BYTES = 8;
/** Of a CUlaunchAttribute: the kernel may start before those before it in the stream have ended, and waits for them by itself. */
const PROGRAMMATIC_STREAM_SERIALIZATION = 6;

export interface LaunchCode {
  launch(): void;
  free(): void;
}

/** The driver takes addresses of arguments, which are addresses of memory: the arrays stay where they are as long as they live. */
export function kernelLaunch(
  cuda: CudaApi,
  stream: Handle,
  kernel: SimtKernel,
  f: Handle,
  addresses: readonly Handle[],
  /** Kernels that start early wait by themselves for what was computed before. */
  isOverlapped: boolean,
): LaunchCode {
  const values = BigUint64Array.from(addresses);
  const base = cuda.addressOf(values);
  const { grid, workgroup, sets } = kernel;
  // Sets are one argument: a table of addresses.
  const params = BigUint64Array.from(sets ? addresses.slice(0, 1) : addresses, (_, i) => base + BigInt(8 * i));
  const shared = sharedPlaces(kernel);
  const dynamicBytes = shared.isDynamic ? shared.bytes : 0;
  if (dynamicBytes > 0) cuda.driver("cuFuncSetAttribute", f, DYNAMIC_SHARED_BYTES, dynamicBytes);
  const free = (): void => void values.fill(0n);
  if (!isOverlapped || !startsEarly(kernel))
    return { launch: () => cuda.driver("cuLaunchKernel", f, ...grid, ...workgroup, dynamicBytes, stream, params, null), free };
  const config = overlappedConfig(cuda, [...grid, ...workgroup, dynamicBytes], stream);
  return { launch: () => cuda.driver("cuLaunchKernelEx", config.words, f, params, null), free };
}

/** A CUlaunchConfig, and the one CUlaunchAttribute that it points to. */
function overlappedConfig(cuda: CudaApi, sizes: readonly number[], stream: Handle): { words: Uint32Array; attribute: Uint32Array } {
  const attribute = new Uint32Array(18);
  attribute[0] = PROGRAMMATIC_STREAM_SERIALIZATION;
  attribute[2] = 1;
  const words = new Uint32Array(14);
  words.set(sizes);
  const pointers = new BigUint64Array(words.buffer);
  pointers[4] = stream;
  pointers[5] = cuda.addressOf(attribute);
  words[12] = 1;
  return { words, attribute };
}
