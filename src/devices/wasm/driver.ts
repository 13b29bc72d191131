// Writes what walks launch lists inside WebAssembly. A launch has a part for each thread; whoever claims a part runs it, as on x86 (x86/driver.ts says why that is safe).
import { buildModule, FunctionWriter, type WasmFunction } from "../../codegen/wasm/index.ts";
import { add, CONTROL, EVERYONE, load, lockJob, notify, PART, sleep, unlockJob, type Writer } from "./control.ts";

/** Launch records: u32 table slot, u32 address of the argument addresses, u32 further launches of its chain. */
export const RECORD = 12;
const FURTHER = 8;

/** Exports of a list's module: `walkAlone`, and `walk` and `run` where memory is shared. mayBlock: 0 on a browser's main thread, which must not sleep. */
export interface ListExports {
  /** Runs parts of launches up to `end`; thread 0 until all are done, others until none is left to be claimed for them. */
  walk(end: number, tid: number, mayBlock: number): void;
  /** The same for one thread: runs records [from, to). */
  walkAlone(from: number, to: number): void;
  /** Takes the lock, hands the job (thread 0's records [from, to) and their counterparts) to the other threads and takes part; isAlone: they have nothing to do, and are not told. */
  run(list: number, from: number, to: number, stride: number, isAlone: number, mayBlock: number): void;
}

/** A thread that sleeps while it waits for parts looks up so often, to see whether another one failed; nanoseconds. */
const NAP = 1e8;
/** Looks before a thread runs what another one has not begun: about 2 µs. */
const PATIENCE = 2000;

/** The type of kernels is the module's first, as they are its first functions. */
const KERNEL_TYPE = 0;

/** Calls the function of the record at `record` with its arguments and the number of the thread that the part belongs to. */
function callRecord(f: Writer, record: number, pushThread: () => void): void {
  f.get(record);
  f.op("i32.load", 4);
  pushThread();
  f.get(record);
  f.op("i32.load", 0);
  f.op("call_indirect", KERNEL_TYPE);
}

/** The only thread's walk. */
function walkAlone(): WasmFunction {
  const f = new FunctionWriter(["i32", "i32"]);
  const [from, to] = [0, 1];
  f.op("loop");
  callRecord(f, from, () => f.i32(0));
  f.get(from);
  f.i32(RECORD);
  f.op("i32.add");
  f.op("local.tee", from);
  f.get(to);
  f.op("i32.lt_u");
  f.op("br_if", 0);
  f.op("end");
  return { params: f.params, results: [], body: f.finish(), exportName: "walkAlone" };
}

/** Claims launch `launch` of the part at `at`; pushes whether nobody had. */
function claim(f: Writer, at: number, launch: number): void {
  f.get(at);
  f.get(launch);
  f.get(launch);
  f.i32(1);
  f.op("i32.add");
  f.op("i32.atomic.rmw.cmpxchg", PART.claimed);
  f.get(launch);
  f.op("i32.eq");
}

function walkTogether(threads: number, polls: number): WasmFunction {
  const f = new FunctionWriter(["i32", "i32", "i32"]);
  const [end, tid, mayBlock] = [0, 1, 2];
  const [mine, next, launch, at, seen, looks] = Array.from({ length: 6 }, () => f.local("i32"));
  const leaveAtEnd = (): void => {
    f.get(next);
    f.get(end);
    f.op("i32.sub");
    f.i32(0);
    f.op("i32.ge_s");
    f.op("if");
    f.op("return");
    f.op("end");
  };
  f.get(tid);
  f.i32(PART.bytes);
  f.op("i32.mul");
  f.i32(CONTROL.parts);
  f.op("i32.add");
  f.set(mine);
  f.op("loop");
  f.get(mine);
  f.op("i32.atomic.load", PART.claimed);
  f.set(next);
  f.get(tid);
  f.op("if");
  leaveAtEnd();
  f.op("end");
  f.op("block"); // left with a part claimed
  awaitParts(f, threads, polls, mayBlock, { next, launch, at, seen, looks });
  leaveAtEnd();
  f.get(mine);
  f.set(at);
  f.get(next);
  f.set(launch);
  claim(f, at, launch);
  f.op("i32.eqz");
  f.op("br_if", 1);
  f.op("end");
  runPart(f, { launch, at, end, record: seen, until: looks });
  f.op("br", 0);
  f.op("end");
  return { params: f.params, results: [], body: f.finish(), exportName: "walk" };
}

interface Looking {
  readonly next: number;
  readonly launch: number;
  readonly at: number;
  readonly seen: number;
  readonly looks: number;
}

/** Waits until all parts of the launches before `next` are done, or leaves the block around with one of them claimed that its thread has not begun. */
function awaitParts(f: Writer, threads: number, polls: number, mayBlock: number, { next, launch, at, seen, looks }: Looking): void {
  f.i32(CONTROL.parts);
  f.set(at);
  f.i32(0);
  f.set(looks);
  f.op("loop");
  f.get(at);
  f.op("i32.atomic.load", PART.done);
  f.op("local.tee", seen);
  f.get(next);
  f.op("i32.sub");
  f.i32(0);
  f.op("i32.lt_s");
  f.op("if");
  load(f, CONTROL.failed);
  f.op("if");
  f.op("return");
  f.op("end");
  f.get(looks);
  f.i32(1);
  f.op("i32.add");
  f.op("local.tee", looks);
  f.i32(Math.min(PATIENCE, polls));
  f.op("i32.lt_u");
  f.op("br_if", 1);
  f.get(at);
  f.op("i32.atomic.load", PART.claimed);
  f.get(seen);
  f.op("i32.eq");
  f.op("if");
  f.get(seen); // the launch before `next`, or where its chain begins
  f.set(launch);
  claim(f, at, launch);
  f.op("br_if", 3);
  f.op("end");
  f.get(looks);
  f.i32(polls);
  f.op("i32.lt_u");
  f.op("br_if", 1);
  f.get(mayBlock);
  f.op("i32.eqz");
  f.op("br_if", 1);
  add(f, CONTROL.sleepers, 1);
  f.get(at);
  sleep(f, () => f.get(seen), NAP, PART.done);
  add(f, CONTROL.sleepers, -1);
  f.op("br", 1);
  f.op("end");
  f.get(at);
  f.i32(PART.bytes);
  f.op("i32.add");
  f.op("local.tee", at);
  f.i32(CONTROL.parts + threads * PART.bytes);
  f.op("i32.lt_u");
  f.op("br_if", 0);
  f.op("end");
}

interface Claimed {
  readonly launch: number;
  readonly at: number;
  readonly end: number;
  readonly record: number;
  readonly until: number;
}

/** Runs a launch of the part at `at` and what is chained to it as far as the job goes, all of which it claims first, and says that it is done. */
function runPart(f: Writer, { launch, at, end, record, until }: Claimed): void {
  const pushThread = (): void => {
    f.get(at);
    f.i32(CONTROL.parts);
    f.op("i32.sub");
    f.i32(PART.bytes);
    f.op("i32.div_u");
  };
  pushThread();
  load(f, CONTROL.stride);
  f.op("i32.mul");
  f.get(launch);
  f.i32(RECORD);
  f.op("i32.mul");
  f.op("i32.add");
  load(f, CONTROL.origin);
  f.op("i32.add");
  f.set(record);
  f.get(record);
  f.op("i32.load", FURTHER);
  f.i32(1);
  f.op("i32.add");
  f.get(launch);
  f.op("i32.add");
  f.set(until);
  f.get(end);
  f.get(until);
  f.get(until);
  f.get(end);
  f.op("i32.sub");
  f.i32(0);
  f.op("i32.ge_s");
  f.op("select");
  f.set(until);
  f.get(at);
  f.get(until);
  f.op("i32.atomic.store", PART.claimed); // nobody claims the next before this one is done
  f.op("loop");
  callRecord(f, record, pushThread);
  f.get(record);
  f.i32(RECORD);
  f.op("i32.add");
  f.set(record);
  f.get(launch);
  f.i32(1);
  f.op("i32.add");
  f.op("local.tee", launch);
  f.get(until);
  f.op("i32.ne");
  f.op("br_if", 0);
  f.op("end");
  f.get(at);
  f.get(until);
  f.op("i32.atomic.store", PART.done);
  load(f, CONTROL.sleepers);
  f.op("if");
  f.get(at);
  notify(f, EVERYONE, PART.done);
  f.op("end");
}

/** Takes turns; hands the job out, if there is somebody with something to do, and walks the list. */
function runFunction(walk: number, alone: number): WasmFunction {
  const f = new FunctionWriter(["i32", "i32", "i32", "i32", "i32", "i32"]);
  const [list, from, to, stride, isAlone, mayBlock] = [0, 1, 2, 3, 4, 5];
  lockJob(f, mayBlock);
  f.get(isAlone);
  f.op("if");
  f.get(from);
  f.get(to);
  f.op("call", alone);
  f.op("else");
  publish(f, list, from, to, stride);
  load(f, CONTROL.end);
  f.i32(0);
  f.get(mayBlock);
  f.op("call", walk);
  f.op("end");
  unlockJob(f);
  return { params: f.params, results: [], body: f.finish(), exportName: "run" };
}

/** All parts of all launches before are done: nobody reads what changes here before `end` does. */
function publish(f: Writer, list: number, from: number, to: number, stride: number): void {
  const next = f.local("i32");
  load(f, CONTROL.parts + PART.claimed);
  f.set(next);
  const store = (address: number, push: () => void): void => {
    f.i32(address);
    push();
    f.op("i32.atomic.store", 0);
  };
  store(CONTROL.list, () => f.get(list));
  store(CONTROL.stride, () => f.get(stride));
  store(CONTROL.origin, () => {
    f.get(from);
    f.get(next);
    f.i32(RECORD);
    f.op("i32.mul");
    f.op("i32.sub");
  });
  store(CONTROL.end, () => {
    f.get(to);
    f.get(from);
    f.op("i32.sub");
    f.i32(RECORD);
    f.op("i32.div_u");
    f.get(next);
    f.op("i32.add");
  });
  load(f, CONTROL.idleSleepers);
  f.op("if");
  add(f, CONTROL.wake, 1);
  f.i32(CONTROL.wake);
  notify(f, EVERYONE);
  f.op("end");
}

/** Kernels, then a function that does nothing (for threads that a single-threaded kernel has no use for) and those that walk lists. polls: how often a thread that waits for others looks before it sleeps. */
export function listModule(
  kernels: readonly WasmFunction[],
  threads: number,
  polls: number,
  sharedMemory: boolean,
): Uint8Array<ArrayBuffer> {
  const idle: WasmFunction = { params: ["i32", "i32"], results: [], body: new FunctionWriter(["i32", "i32"]).finish() };
  const alone = kernels.length + 1;
  const together = sharedMemory ? [walkTogether(threads, polls), runFunction(alone + 1, alone)] : [];
  return buildModule([...kernels, idle, walkAlone(), ...together], { sharedMemory });
}

/** The module that idle workers poll for jobs with. */
export function pollModule(): Uint8Array<ArrayBuffer> {
  const f = new FunctionWriter(["i32", "i32"]);
  const [seen, left] = [0, 1];
  const now = f.local("i32");
  f.op("block");
  f.op("loop");
  load(f, CONTROL.end);
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
