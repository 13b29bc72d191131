// The cells that a pool's threads share, and code that reads them, sleeps on them, wakes those that sleep, and takes turns.
import type { FunctionWriter } from "../../codegen/wasm/index.ts";

/** i32 cells in low memory that all threads share, as byte addresses; each hot one on a cache line of its own. */
export const CONTROL = {
  /** Launches published since the pool began, modulo 2³²; it changes last. A worker that sees it change reads the three cells before it. */
  list: 1024,
  /** Where thread 0's record of launch 0 would be. */
  origin: 1028,
  /** Bytes from one thread's records to the next one's. */
  stride: 1032,
  end: 1036,
  /** Threads asleep that wait for parts. */
  sleepers: 1152,
  /** 0 free, 1 taken, 2 taken and waited for. */
  lock: 1216,
  /** Changes to wake idle workers. */
  wake: 1280,
  idleSleepers: 1284,
  /** Messages sent to each worker so far: it leaves its loop to receive them. */
  mail: 1344,
  /** Not 0: some thread failed, the others leave. */
  failed: 1348,
  /** For each thread two lines: launches of which its part was claimed, and of which it is done. */
  parts: 4096,
} as const;
export const PART = { claimed: 0, done: 64, bytes: 128 } as const;

export type Writer = FunctionWriter;
const FOREVER = -1;

export const load = (f: Writer, address: number): void => {
  f.i32(address);
  f.op("i32.atomic.load", 0);
};
export const add = (f: Writer, address: number, value: number): void => {
  f.i32(address);
  f.i32(value);
  f.op("i32.atomic.rmw.add", 0);
  f.op("drop");
};
/** Sleeps while the cell holds the value, which `push` puts on the stack after the address. */
export function sleep(f: Writer, push: () => void, nanoseconds: number, offset = 0): void {
  push();
  f.op("i64.const", nanoseconds);
  f.op("memory.atomic.wait32", offset);
  f.op("drop");
}
/** Wakes threads that sleep at the address on the stack. */
export function notify(f: Writer, count: number, offset = 0): void {
  f.i32(count);
  f.op("memory.atomic.notify", offset);
  f.op("drop");
}
export const EVERYONE = 0x7fffffff;

/** A mutex around the job: synchronous and asynchronous runs take turns. */
export function lockJob(f: Writer, mayBlock: number): void {
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
  f.i32(CONTROL.lock);
  sleep(f, () => f.i32(2), FOREVER);
  f.op("br", 0);
  f.op("end");
  f.op("end");
  f.op("end");
}

export function unlockJob(f: Writer): void {
  f.i32(CONTROL.lock);
  f.i32(0);
  f.op("i32.atomic.rmw.xchg", 0);
  f.i32(2);
  f.op("i32.eq");
  f.op("if");
  f.i32(CONTROL.lock);
  notify(f, 1);
  f.op("end");
}
