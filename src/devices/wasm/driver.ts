// Writes what walks launch lists inside WebAssembly: every thread calls the kernels of its records, with a barrier after each that spins, then sleeps.
import { buildModule, FunctionWriter, type WasmFunction } from "../../codegen/wasm/index.ts";

/** i32 cells in low memory that all threads share, as byte addresses; each hot one on a cache line of its own. */
export const CONTROL = {
  /** Counts jobs; a worker that sees it change reads the four cells of the job. */
  job: 1024,
  jobList: 1028,
  jobFrom: 1032,
  jobTo: 1036,
  /** Bytes from one thread's records to the next one's. */
  jobStride: 1040,
  /** Threads that have arrived at the barrier. */
  arrived: 1088,
  /** Counts barriers passed. */
  generation: 1152,
  /** Threads asleep at the barrier. */
  barrierSleepers: 1156,
  /** 0 free, 1 taken, 2 taken and waited for. */
  lock: 1216,
  /** Changes to wake idle workers. */
  wake: 1280,
  idleSleepers: 1284,
  /** Messages sent to each worker so far: it leaves its loop to receive them. */
  mail: 1344,
  /** Not 0: some thread failed, the others leave. */
  failed: 1348,
} as const;

/** Launch records: u32 table slot, u32 address of the argument addresses, u32 whether a barrier must follow. */
export const RECORD = 16;

/** Exports of a list's module. mayBlock: 0 on a browser's main thread, which must not sleep. */
export interface ListExports {
  /** Runs thread tid's records [from, to). */
  walk(from: number, to: number, tid: number, mayBlock: number): void;
  /** Takes the lock, hands the job to the other threads and walks thread 0's records. */
  run(list: number, from: number, to: number, stride: number, mayBlock: number): void;
}
export interface PollExports {
  /** Polls the job counter until it is no longer `seen`, at most `times`; gives what it is then. */
  poll(seen: number, times: number): number;
}

type Writer = FunctionWriter;
const FOREVER = -1;

const load = (f: Writer, address: number): void => {
  f.i32(address);
  f.op("i32.atomic.load", 0);
};
const add = (f: Writer, address: number, value: number): void => {
  f.i32(address);
  f.i32(value);
  f.op("i32.atomic.rmw.add", 0);
};
const addAndDrop = (f: Writer, address: number, value: number): void => {
  add(f, address, value);
  f.op("drop");
};
/** Sleeps while the cell holds the value on the stack of `push`. */
function sleep(f: Writer, address: number, push: () => void): void {
  f.i32(address);
  push();
  f.op("i64.const", FOREVER);
  f.op("memory.atomic.wait32", 0);
  f.op("drop");
}
function notify(f: Writer, address: number, count: number): void {
  f.i32(address);
  f.i32(count);
  f.op("memory.atomic.notify", 0);
  f.op("drop");
}
const EVERYONE = 0x7fffffff;

/** Waits until all threads are here. */
function barrier(f: Writer, threads: number, polls: number, mayBlock: number, generation: number, left: number): void {
  load(f, CONTROL.generation);
  f.set(generation);
  add(f, CONTROL.arrived, 1);
  f.i32(threads - 1);
  f.op("i32.eq");
  f.op("if");
  f.i32(CONTROL.arrived);
  f.i32(0);
  f.op("i32.atomic.store", 0);
  addAndDrop(f, CONTROL.generation, 1);
  load(f, CONTROL.barrierSleepers);
  f.op("if");
  notify(f, CONTROL.generation, EVERYONE);
  f.op("end");
  f.op("else");
  f.i32(polls);
  f.set(left);
  f.op("block");
  // A thread that failed before the generation was read has counted it up already.
  load(f, CONTROL.failed);
  f.op("br_if", 0);
  f.op("loop");
  load(f, CONTROL.generation);
  f.get(generation);
  f.op("i32.ne");
  f.op("br_if", 1);
  f.get(left);
  f.i32(1);
  f.op("i32.sub");
  f.op("local.tee", left);
  f.op("br_if", 0);
  f.get(mayBlock);
  f.op("i32.eqz");
  f.op("br_if", 0);
  addAndDrop(f, CONTROL.barrierSleepers, 1);
  sleep(f, CONTROL.generation, () => f.get(generation));
  addAndDrop(f, CONTROL.barrierSleepers, -1);
  f.op("br", 0);
  f.op("end");
  f.op("end");
  f.op("end");
}

/** The type of kernels is the module's first, as they are its first functions. */
const KERNEL_TYPE = 0;

function walkFunction(threads: number, polls: number): WasmFunction {
  const f = new FunctionWriter(["i32", "i32", "i32", "i32"]);
  const [from, to, tid, mayBlock] = [0, 1, 2, 3];
  const [mustWait, generation, left] = [f.local("i32"), f.local("i32"), f.local("i32")];
  f.op("loop");
  f.get(from);
  f.op("i32.load", 8);
  f.set(mustWait);
  f.get(from);
  f.op("i32.load", 4);
  f.get(tid);
  f.get(from);
  f.op("i32.load", 0);
  f.op("call_indirect", KERNEL_TYPE);
  f.get(from);
  f.i32(RECORD);
  f.op("i32.add");
  f.op("local.tee", from);
  if (threads > 1) {
    f.get(to);
    f.op("i32.ge_u");
    f.get(mustWait);
    f.op("i32.or");
    f.op("if");
    barrier(f, threads, polls, mayBlock, generation, left);
    load(f, CONTROL.failed);
    f.op("if");
    f.op("return");
    f.op("end");
    f.op("end");
    f.get(from);
  }
  f.get(to);
  f.op("i32.lt_u");
  f.op("br_if", 0);
  f.op("end");
  return { params: f.params, results: [], body: f.finish(), exportName: "walk" };
}

/** A mutex around the job: synchronous and asynchronous runs take turns. */
function lockJob(f: Writer, mayBlock: number): void {
  f.i32(CONTROL.lock);
  f.i32(0);
  f.i32(1);
  f.op("i32.atomic.rmw.cmpxchg", 0);
  f.op("if");
  f.op("block");
  f.op("loop");
  f.i32(CONTROL.lock);
  f.i32(2);
  f.op("i32.atomic.rmw.xchg", 0);
  f.op("i32.eqz");
  f.op("br_if", 1);
  f.get(mayBlock);
  f.op("i32.eqz");
  f.op("br_if", 0);
  sleep(f, CONTROL.lock, () => f.i32(2));
  f.op("br", 0);
  f.op("end");
  f.op("end");
  f.op("end");
}

function unlockJob(f: Writer): void {
  f.i32(CONTROL.lock);
  f.i32(0);
  f.op("i32.atomic.rmw.xchg", 0);
  f.i32(2);
  f.op("i32.eq");
  f.op("if");
  notify(f, CONTROL.lock, 1);
  f.op("end");
}

function runFunction(threads: number, walk: number): WasmFunction {
  const f = new FunctionWriter(["i32", "i32", "i32", "i32", "i32"]);
  const [list, from, to, stride, mayBlock] = [0, 1, 2, 3, 4];
  lockJob(f, mayBlock);
  if (threads > 1) {
    for (const [address, value] of [
      [CONTROL.jobList, list],
      [CONTROL.jobFrom, from],
      [CONTROL.jobTo, to],
      [CONTROL.jobStride, stride],
    ]) {
      f.i32(address);
      f.get(value);
      f.op("i32.atomic.store", 0);
    }
    addAndDrop(f, CONTROL.job, 1);
    load(f, CONTROL.idleSleepers);
    f.op("if");
    addAndDrop(f, CONTROL.wake, 1);
    notify(f, CONTROL.wake, EVERYONE);
    f.op("end");
  }
  f.get(from);
  f.get(to);
  f.i32(0);
  f.get(mayBlock);
  f.op("call", walk);
  unlockJob(f);
  return { params: f.params, results: [], body: f.finish(), exportName: "run" };
}

/** Kernels, then a function that does nothing (for threads that a single-threaded kernel has no use for), walk and run. polls: how often a thread looks before it sleeps at a barrier. */
export function listModule(
  kernels: readonly WasmFunction[],
  threads: number,
  polls: number,
  sharedMemory: boolean,
): Uint8Array<ArrayBuffer> {
  const idle: WasmFunction = { params: ["i32", "i32"], results: [], body: new FunctionWriter(["i32", "i32"]).finish() };
  const own = sharedMemory ? [walkFunction(threads, polls), runFunction(threads, kernels.length + 1)] : [walkFunction(threads, polls)];
  return buildModule([...kernels, idle, ...own], { sharedMemory });
}

/** The module that idle workers poll for jobs with. */
export function pollModule(): Uint8Array<ArrayBuffer> {
  const f = new FunctionWriter(["i32", "i32"]);
  const [seen, left] = [0, 1];
  const now = f.local("i32");
  f.op("block");
  f.op("loop");
  load(f, CONTROL.job);
  f.op("local.tee", now);
  f.get(seen);
  f.op("i32.ne");
  f.op("br_if", 1);
  f.get(left);
  f.i32(1);
  f.op("i32.sub");
  f.op("local.tee", left);
  f.op("br_if", 0);
  f.op("end");
  f.op("end");
  f.get(now);
  return buildModule([{ params: f.params, results: ["i32"], body: f.finish(), exportName: "poll" }], { sharedMemory: true });
}
