// The program of a pool's threads, as text: plain JavaScript with no imports of its own, so that it starts alike from TypeScript sources and from a bundle.

/** What a worker is told. `state` has one cell a thread: see WorkerState. */
export interface WorkerData {
  readonly koffi: string;
  /** Address of the driver's worker loop, and its two arguments. */
  readonly entry: number;
  readonly control: number;
  readonly tid: number;
  readonly state: Int32Array;
  /** CPU mask to bind the thread to; null: wherever the system puts it. */
  readonly mask: Uint8Array | null;
}

export const WorkerState = { starting: 0, ready: 1, failed: 2 } as const;

/** The loop returns 0 now and then, so that a thread that is being terminated gets out, and 1 when the pool closes. */
export const WORKER_SOURCE = `
const { workerData: w, parentPort } = require("node:worker_threads");
const report = (state) => { Atomics.store(w.state, w.tid, state); Atomics.notify(w.state, w.tid); };
try {
  const koffi = require(w.koffi);
  const libc = koffi.load(null); // koffi has no stack for calls before its first load()
  if (w.mask) libc.func("sched_setaffinity", "int", ["int", "int64", "void *"])(0, w.mask.length, w.mask);
  const loop = koffi.decode(w.entry, koffi.proto("int64 (int64, int64, int64, int64)"));
  report(${WorkerState.ready});
  parentPort.postMessage("ready");
  while (loop(w.control, w.tid, 0, 0) === 0);
} catch (error) {
  report(${WorkerState.failed});
  throw error;
}
`;
