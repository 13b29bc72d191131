// The context of each GPU: current whenever one of its devices calls the driver or a library.
import { HeddleError } from "../../ir/error.ts";
import type { CudaApi, Handle } from "./driver.ts";

/** CUresult of calls into a context that is no more. */
const CONTEXT_IS_DESTROYED = 709;

/** The driver's calls for one GPU, whichever another device called it for before. */
export interface CudaContext {
  readonly cuda: CudaApi;
  /** A kernel failed, as this error says. The driver runs nothing more in this process then, on any GPU, and there is nothing to free. */
  fail(error: HeddleError): HeddleError;
  /** Whether no kernel failed. */
  works(): boolean;
  /** Throws where one did. */
  assertWorks(): void;
  close(): void;
}

/** What ended the use of GPUs in this process. */
let failure: HeddleError | undefined;
/** The context that this thread's calls go to. */
let current: Handle = 0n;

function assertWorks(): void {
  if (failure)
    throw new HeddleError("io", `${failure.message}; the driver runs nothing more in this process: start it again`, { cause: failure });
}

export function openContext(cuda: CudaApi, device: number): CudaContext {
  assertWorks();
  const handle = cuda.handle("cuDevicePrimaryCtxRetain", device);
  return {
    cuda: within(cuda, handle),
    works: () => !failure,
    assertWorks,
    fail(error) {
      failure ??= error;
      return error;
    },
    close() {
      cuda.attempt("cuDevicePrimaryCtxRelease_v2", device);
      current = 0n; // it may have been the last use of it
    },
  };
}

function within(cuda: CudaApi, context: Handle): CudaApi {
  const enter = (): void => {
    assertWorks();
    if (current === context) return;
    cuda.driver("cuCtxSetCurrent", context);
    current = context;
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
    attempt: (name, ...args) => (failure ? CONTEXT_IS_DESTROYED : inside(cuda.attempt)(name, ...args)),
    library(names, table) {
      const found = cuda.library(names, table);
      return found && new Map([...found].map(([name, call]) => [name, inside(call)]));
    },
  };
}
