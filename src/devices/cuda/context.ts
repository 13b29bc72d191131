// The context of each GPU: current whenever one of its devices calls the driver or a library, and made anew after a kernel failed in it.
import { HeddleError } from "../../ir/error.ts";
import type { CudaApi, Handle } from "./driver.ts";

/** CUresult of calls into a context that is no more. */
const CONTEXT_IS_DESTROYED = 709;

/** The driver's calls for one GPU, whichever another device called it for before. */
export interface CudaContext {
  readonly cuda: CudaApi;
  /** A kernel failed: nothing works in the context any more, for any of its devices. */
  fail(): void;
  /** Throws where a kernel failed. */
  assertWorks(): void;
  close(): void;
}

interface Primary {
  readonly handle: Handle;
  hasFailed: boolean;
}

/** By number of the GPU. */
const primaries = new Map<number, Primary>();
/** The one that this thread's calls go to. */
let current: Primary | undefined;

export function openContext(cuda: CudaApi, device: number): CudaContext {
  if (primaries.get(device)?.hasFailed) {
    cuda.attempt("cuDevicePrimaryCtxReset_v2", device);
    primaries.delete(device);
    current = undefined;
  }
  const out = new BigUint64Array(1);
  const code = cuda.attempt("cuDevicePrimaryCtxRetain", out, device);
  if (code !== 0) throw new HeddleError("io", `device cuda:${device}: it cannot be opened, in this process: ${cuda.errorText(code)}`);
  const [handle] = out;
  const primary = primaries.get(device) ?? { handle, hasFailed: false };
  primaries.set(device, primary);
  const assertWorks = (): void => {
    if (primary.hasFailed) throw new HeddleError("io", `device cuda:${device}: a kernel failed on it before; load the model again`);
  };
  return {
    cuda: within(cuda, primary, assertWorks),
    assertWorks,
    fail: () => {
      primary.hasFailed = true;
    },
    close: () => {
      if (primary.hasFailed) return; // it is reset before it is used again
      cuda.attempt("cuDevicePrimaryCtxRelease_v2", device);
      current = undefined; // it may have been the last
    },
  };
}

function within(cuda: CudaApi, primary: Primary, assertWorks: () => void): CudaApi {
  const enter = (): void => {
    assertWorks();
    if (current === primary) return;
    cuda.driver("cuCtxSetCurrent", primary.handle);
    current = primary;
  };
  const inside =
    <A extends readonly unknown[], R>(call: (...args: A) => R) =>
    (...args: A): R => {
      enter();
      return call(...args);
    };
  return {
    ...cuda,
    driver: inside(cuda.driver),
    handle: inside(cuda.handle),
    attempt: (name, ...args) => (primary.hasFailed ? CONTEXT_IS_DESTROYED : inside(cuda.attempt)(name, ...args)),
    library(names, table) {
      const found = cuda.library(names, table);
      return found && new Map([...found].map(([name, call]) => [name, inside(call)]));
    },
  };
}
