// Emits the two loops around all kernels, once a process: the caller's, which publishes a job and takes part, and the workers', which wait for jobs.
// A launch has a part for each thread. Whoever claims a part runs it: its own thread as a rule, another one where that thread is late.
// Launches of one thread that follow each other are a chain, which is claimed and done as a whole: threads meet before and after it only.
import { Assembler, CC, I, R8, R9, R10, R12, R13, R14, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP } from "../../codegen/x86/assembler.ts";
import {
  CONTROL,
  CONTROL_AT,
  constant,
  control,
  FUTEX_WAIT,
  futex,
  lock,
  PART,
  PART_SHIFT,
  SCHED_YIELD,
  systemCall,
  unlock,
  wakeAll,
} from "./control.ts";

/** A launch list in memory: u64 bytes of records a thread, padded to a header; then for each thread its records {u64 function, u64 arguments, u64 further launches of its chain}. */
export const LIST_HEADER = 64;
export const RECORD = 32;
const RECORD_SHIFT = 5;
const FUNCTION = 0;
const ARGUMENTS = 8;
const FURTHER = 16;
/** The list that tells workers to leave. */
export const NO_LIST = 0;

/** Polls (1 to 3 µs) before a thread runs what another one has not begun: as a rule that comes at once, and finds its data in its caches. */
const PATIENCE = 64;
/** Idle workers offer their core to others once in so many polls. */
const POLLS_PER_YIELD = 256;

/** Registers through both loops. Kernels preserve them. RUNNING: the part that a thread runs, whoever's it is; NEXT: the launch that its own is next for, or the record that it runs. */
const [RUNNING, NEXT, LIMIT, TID, MINE] = [RBX, RBP, R12, R13, R14];
const SAVED = [RUNNING, NEXT, LIMIT, TID, MINE, CONTROL_AT];

export interface DriverCode {
  readonly code: Uint8Array;
  /** Offset of run(control, list, from, to) → 0: runs a job as thread 0; from and to in bytes of records. NO_LIST sends the workers away. */
  readonly run: number;
  /** Offset of the same for jobs in which no other thread has anything to do: they are not told. */
  readonly runAlone: number;
  /** Offset of worker(control, tid): runs jobs; returns 1 on NO_LIST, and 0 after a nap without work. */
  readonly worker: number;
}

export function driverCode(): DriverCode {
  const asm = new Assembler();
  const begin = (emit: (asm: Assembler) => void): number => {
    asm.align(64);
    const { offset } = asm;
    emit(asm);
    return offset;
  };
  const [run, runAlone, worker] = [emitRun, emitRunAlone, emitWorker].map(begin);
  return { code: asm.finish(), run, runAlone, worker };
}

/** Six registers and the return address leave rsp 8 away from the 16 that calls want. */
function enter(asm: Assembler): void {
  for (const r of SAVED) asm.op(I.push, r);
  asm.unary(I.sub_imm8, RSP, 8);
}
function leave(asm: Assembler): void {
  asm.unary(I.add_imm8, RSP, 8);
  for (const r of SAVED.toReversed()) asm.op(I.pop, r);
  asm.op(I.ret);
}

/** Saves what run() was called with, and waits for its turn. */
function beginRun(asm: Assembler): void {
  enter(asm);
  asm.op(I.mov, CONTROL_AT, RDI);
  asm.op(I.mov, RUNNING, RSI); // list, from and to, for the moment
  asm.op(I.mov, NEXT, RDX);
  asm.op(I.mov, LIMIT, RCX);
  lock(asm);
}

function endRun(asm: Assembler): void {
  unlock(asm);
  constant(asm, RAX, 0);
  leave(asm);
}

function emitRun(asm: Assembler): void {
  const quit = asm.label();
  const end = asm.label();
  beginRun(asm);
  asm.op(I.test, RUNNING, RUNNING);
  asm.jcc(CC.e, quit);
  asm.op(I.lea, MINE, control(asm, CONTROL.parts));
  asm.op(I.xor32, TID, TID);
  publish(asm);
  emitWalk(asm, "to the end");
  asm.jmp(end);
  asm.bind(quit);
  constant(asm, RAX, 1);
  asm.op(I.mov32_store, RAX, control(asm, CONTROL.leave));
  wakeAll(asm);
  asm.bind(end);
  endRun(asm);
}

function emitRunAlone(asm: Assembler): void {
  beginRun(asm);
  emitWalkAlone(asm);
  endRun(asm);
}

/** Writes where the job's records are, and then that there is a job. All parts of all launches before it are done, so nobody reads what changes. */
function publish(asm: Assembler): void {
  const [list, from, to] = [RUNNING, NEXT, LIMIT];
  asm.op(I.mov, RAX, asm.at(list));
  asm.op(I.mov_store, RAX, control(asm, CONTROL.stride));
  asm.op(I.sub, to, from);
  asm.op(I.lea, list, asm.at(list, LIST_HEADER, from));
  asm.op(I.mov, RCX, asm.at(MINE, PART.claimed));
  asm.op(I.mov, RAX, RCX);
  asm.unary(I.shl, RAX, RECORD_SHIFT);
  asm.op(I.sub, list, RAX);
  asm.op(I.mov_store, list, control(asm, CONTROL.origin));
  asm.unary(I.shr, to, RECORD_SHIFT);
  asm.op(I.add, RCX, to);
  asm.op(I.mov_store, RCX, control(asm, CONTROL.end));
  wakeAll(asm);
}

/** Without other threads: calls every record's function(arguments, 0). */
function emitWalkAlone(asm: Assembler): void {
  const [at, from, to] = [RUNNING, NEXT, LIMIT];
  const done = asm.label();
  asm.op(I.lea, to, asm.at(at, LIST_HEADER, to));
  asm.op(I.lea, at, asm.at(at, LIST_HEADER, from));
  const launch = asm.here();
  asm.op(I.cmp, at, to);
  asm.jcc(CC.ae, done);
  asm.op(I.mov, RDI, asm.at(at, ARGUMENTS));
  constant(asm, RSI, 0);
  asm.unary(I.call, asm.at(at, FUNCTION));
  asm.unary(I.add_imm8, at, RECORD);
  asm.jmp(launch);
  asm.bind(done);
}

/**
 * Runs parts of launches, each once all parts of the launches before it are done. The caller stays until everything is; workers until nothing
 * is left to be claimed for them: a worker that the system stops between two launches holds nobody up, and finds its way when it comes back.
 * A claim that succeeds tells that its launch is of the job that `origin` is of: a job ends, and its memory may go, when all its parts are done.
 */
function emitWalk(asm: Assembler, until: "to the end" | "for its own part"): void {
  const next = asm.label();
  const run = asm.label();
  const done = asm.label();
  asm.bind(next);
  asm.op(I.mov, NEXT, asm.at(MINE, PART.claimed));
  if (until === "for its own part") leaveAtEnd(asm, done);
  awaitParts(asm, run);
  if (until === "to the end") leaveAtEnd(asm, done);
  asm.op(I.mov, R10, MINE);
  asm.op(I.mov, R8, TID);
  asm.op(I.mov, RAX, NEXT);
  claim(asm);
  asm.jcc(CC.ne, next);
  // rax: launch · r8: whose part · r10: where it is
  asm.bind(run);
  runClaimed(asm);
  asm.jmp(next);
  asm.bind(done);
}

/** Launch rax of part r10 of thread r8, and what is chained to it as far as the job goes: claimed as well before it runs, done when all of it is. */
function runClaimed(asm: Assembler): void {
  const isWithin = asm.label();
  asm.op(I.mov, RUNNING, R10);
  asm.op(I.mov, NEXT, control(asm, CONTROL.stride));
  asm.op(I.imul, NEXT, R8);
  asm.op(I.mov, RCX, RAX);
  asm.unary(I.shl, RCX, RECORD_SHIFT);
  asm.op(I.add, NEXT, RCX);
  asm.op(I.add, NEXT, control(asm, CONTROL.origin));
  asm.op(I.mov, LIMIT, control(asm, CONTROL.end));
  asm.op(I.sub, LIMIT, RAX);
  asm.op(I.mov, RCX, asm.at(NEXT, FURTHER));
  asm.unary(I.add_imm8, RCX, 1);
  asm.op(I.cmp, LIMIT, RCX);
  asm.jcc(CC.be, isWithin);
  asm.op(I.mov, LIMIT, RCX);
  asm.bind(isWithin);
  asm.op(I.add, RAX, LIMIT);
  asm.op(I.mov_store, RAX, asm.at(RUNNING, PART.claimed)); // nobody claims the next before this one is done
  const launch = asm.here();
  asm.op(I.mov, RDI, asm.at(NEXT, ARGUMENTS));
  asm.op(I.lea, RSI, asm.at(RUNNING, -CONTROL.parts));
  asm.op(I.sub, RSI, CONTROL_AT);
  asm.unary(I.shr, RSI, PART_SHIFT);
  asm.unary(I.call, asm.at(NEXT, FUNCTION));
  asm.unary(I.add_imm8, NEXT, RECORD);
  asm.unary(I.dec32, LIMIT);
  asm.jcc(CC.ne, launch);
  asm.op(I.mov, RAX, asm.at(RUNNING, PART.claimed));
  asm.op(I.mov_store, RAX, asm.at(RUNNING, PART.done));
}

function leaveAtEnd(asm: Assembler, done: number): void {
  asm.op(I.cmp, NEXT, control(asm, CONTROL.end));
  asm.jcc(CC.ae, done);
}

/** Claims launch rax of the part at r10; "equal" if nobody had. Keeps rax. */
function claim(asm: Assembler): void {
  asm.op(I.lea, RCX, asm.at(RAX, 1));
  asm.op(I.lock_cmpxchg, RCX, asm.at(R10, PART.claimed));
}

/**
 * Waits until all parts of the launches before NEXT are done, or goes to `run` with one of them claimed that its thread has not begun.
 * x86 keeps stores and loads in order, so nothing is fenced. r10, r8: part and thread looked at · rax: what of it is done · r9: polls.
 */
function awaitParts(asm: Assembler, run: number): void {
  const isDone = asm.label();
  const relax = asm.label();
  const isClaimed = asm.label();
  asm.op(I.lea, R10, control(asm, CONTROL.parts));
  constant(asm, R8, 0);
  constant(asm, R9, 0);
  const look = asm.here();
  asm.op(I.mov, RAX, asm.at(R10, PART.done));
  asm.op(I.cmp, NEXT, RAX);
  asm.jcc(CC.be, isDone);
  asm.unary(I.inc32, R9);
  asm.unary(I.cmp32_imm8, R9, PATIENCE);
  asm.jcc(CC.b, relax);
  asm.op(I.cmp, RAX, asm.at(R10, PART.claimed)); // the launch before NEXT, or where its chain begins
  asm.jcc(CC.ne, isClaimed);
  claim(asm);
  asm.jcc(CC.e, run);
  asm.bind(isClaimed);
  asm.op(I.cmp32, R9, control(asm, CONTROL.barrierPolls));
  asm.jcc(CC.b, relax);
  systemCall(asm, SCHED_YIELD);
  constant(asm, R9, PATIENCE);
  asm.jmp(look);
  asm.bind(relax);
  asm.op(I.pause);
  asm.jmp(look);
  asm.bind(isDone);
  asm.unary(I.inc32, R8);
  asm.op(I.lea, R10, asm.at(R10, 1 << PART_SHIFT));
  asm.op(I.cmp32, R8, control(asm, CONTROL.threads));
  asm.jcc(CC.b, look);
}

/** rax ← time-stamp counter. */
function readTicks(asm: Assembler): void {
  asm.op(I.rdtsc);
  asm.unary(I.shl, RDX, 32);
  asm.op(I.or, RAX, RDX);
}

function emitWorker(asm: Assembler): void {
  const job = asm.label();
  const quit = asm.label();
  const out = asm.label();
  enter(asm);
  asm.op(I.mov, CONTROL_AT, RDI);
  asm.op(I.mov, TID, RSI);
  asm.op(I.mov, RAX, RSI);
  asm.unary(I.shl, RAX, PART_SHIFT);
  asm.op(I.lea, MINE, asm.at(CONTROL_AT, CONTROL.parts, RAX));
  const wait = asm.here();
  awaitJob(asm, job, quit);
  nap(asm, job, quit);
  constant(asm, RAX, 0);
  asm.jmp(out);
  asm.bind(job);
  emitWalk(asm, "for its own part");
  asm.jmp(wait);
  asm.bind(quit);
  constant(asm, RAX, 1);
  asm.bind(out);
  leave(asm);
}

/** Jumps if there is a launch that this thread's part was not claimed of, or if it shall leave. */
function lookForJob(asm: Assembler, job: number, quit: number): void {
  asm.op(I.mov, RAX, asm.at(MINE, PART.claimed));
  asm.op(I.cmp, RAX, control(asm, CONTROL.end));
  asm.jcc(CC.b, job);
  asm.unary(I.cmp32_imm8, control(asm, CONTROL.leave), 0);
  asm.jcc(CC.ne, quit);
}

/** Polls for `spinTicks`; falls through when nothing came. r12: deadline · rbx: polls up to the next yield. */
function awaitJob(asm: Assembler, job: number, quit: number): void {
  readTicks(asm);
  asm.op(I.add, RAX, control(asm, CONTROL.spinTicks));
  asm.op(I.mov, R12, RAX);
  const fresh = asm.here();
  constant(asm, RBX, POLLS_PER_YIELD);
  const poll = asm.here();
  const idle = asm.label();
  lookForJob(asm, job, quit);
  asm.op(I.pause);
  readTicks(asm);
  asm.op(I.cmp, RAX, R12);
  asm.jcc(CC.ae, idle);
  asm.unary(I.dec32, RBX);
  asm.jcc(CC.ne, poll);
  systemCall(asm, SCHED_YIELD);
  asm.jmp(fresh);
  asm.bind(idle);
}

/**
 * Sleeps until the job's number changes, at most one nap. The worker counts itself as a sleeper before it reads the number, and looks once more
 * afterwards; the caller publishes before it changes the number, and looks for sleepers after that: one of the two sees the other.
 */
function nap(asm: Assembler, job: number, quit: number): void {
  const awake = asm.label();
  asm.unary(I.lock_inc32, control(asm, CONTROL.sleepers));
  asm.op(I.mov32, RDX, control(asm, CONTROL.job));
  lookForJob(asm, awake, awake);
  asm.op(I.lea, R10, control(asm, CONTROL.napSeconds));
  futex(asm, CONTROL.job, FUTEX_WAIT);
  asm.bind(awake);
  asm.unary(I.lock_dec32, control(asm, CONTROL.sleepers));
  lookForJob(asm, job, quit);
}
