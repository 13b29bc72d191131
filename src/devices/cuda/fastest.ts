// Which of several calls that compute the same is the fastest, by the GPU's clock.
import type { CudaApi, Handle } from "./driver.ts";

/** A library's call, ready to be queued on its stream; its objects live as long as it does. */
export interface LibraryCall {
  call(): void;
  free(): void;
}

const TRIALS = 3;

/** Its number, by a few runs of each, after one that does not count. */
export function fastestOf(cuda: CudaApi, stream: Handle, calls: readonly Pick<LibraryCall, "call">[]): number {
  if (calls.length < 2) return 0;
  const [from, to] = [cuda.handle("cuEventCreate", 0), cuda.handle("cuEventCreate", 0)];
  const elapsed = new Float32Array(1);
  const times = calls.map(({ call }) => {
    call();
    cuda.driver("cuEventRecord", from, stream);
    for (let i = 0; i < TRIALS; i++) call();
    cuda.driver("cuEventRecord", to, stream);
    cuda.driver("cuStreamSynchronize", stream);
    cuda.driver("cuEventElapsedTime", elapsed, from, to);
    return elapsed[0];
  });
  for (const event of [from, to]) cuda.driver("cuEventDestroy_v2", event);
  return times.indexOf(Math.min(...times));
}
