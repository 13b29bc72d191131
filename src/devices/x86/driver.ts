// Emits the two loops around all kernels, once a process: the caller's, which publishes a job and takes part, and the workers', which wait for jobs.
import { Assembler, CC, I, R8, R9, R10, R12, R13, R14, R15, RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP } from "../../codegen/x86/assembler.ts";

/** A launch list in memory: u64 bytes of records a thread, padded to a header; then for each thread its records {u64 function, u64 arguments}. */
export const LIST_HEADER = 64;
export const RECORD = 16;
/** The list that tells workers to leave. */
export const NO_LIST = 0;
/** A thread's line has room for 8 barrier rounds. */
export const MAX_THREADS = 256;

/**
 * The control block of a pool, byte offsets. What one side polls lies 128 bytes from what others write, because processors fetch cache lines in pairs.
 * The first line is the job: its number changes last, so whoever sees a new number sees the new job.
 */
export const CONTROL = {
  job: 0, // u32
  list: 8, // u64
  from: 16, // u64, bytes into the records
  to: 24, // u64
  threads: 40, // u32, constant like all up to `sleepers`
  barrierPolls: 44, // u32: before a thread at a barrier offers its core to others
  napSeconds: 64, // u64, u64: a timespec
  napNanoseconds: 72,
  spinTicks: 80, // u64
  sleepers: 128, // u32
  lock: 256, // u32: 0 free, 1 held, 2 held and waited for
  lines: 512,
} as const;
const LINE_SHIFT = 7;
/** A thread's own line: u32 of each barrier round, then what it must remember between jobs. */
const LINE = { rounds: 0, seenJob: 32, epoch: 36 } as const;

export const controlBytes = (threads: number): number => CONTROL.lines + (threads << LINE_SHIFT);

/** Linux system calls and futex operations (futex(2), process-private). They overwrite rax, rcx and r11. */
const SCHED_YIELD = 24;
const FUTEX = 202;
const FUTEX_WAIT = 128;
const FUTEX_WAKE = 129;
const SYSCALL = { ...I.rdtsc, name: "syscall", opcode: 0x05 };

const LOCK_POLLS = 1000;
/** Idle workers offer their core to others once in so many polls. */
const POLLS_PER_YIELD = 256;

/** Registers through both loops. Kernels preserve them. */
const [RECORD_AT, RECORD_END, TID, MINE, CONTROL_AT, EPOCH] = [RBX, R12, R13, R14, R15, RBP];
const SAVED = [RBX, RBP, R12, R13, R14, R15];

export interface DriverCode {
  readonly code: Uint8Array;
  /** Offset of run(control, list, from, to) → 0: runs a job as thread 0; from and to in bytes of records. NO_LIST only publishes. */
  readonly run: number;
  /** Offset of worker(control, tid): runs jobs; returns 1 on NO_LIST, and 0 after a nap without work. */
  readonly worker: number;
}

export function driverCode(): DriverCode {
  const asm = new Assembler();
  emitRun(asm);
  asm.align(64);
  const worker = asm.offset;
  emitWorker(asm);
  return { code: asm.finish(), run: 0, worker };
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

const control = (asm: Assembler, offset: number): number => asm.at(CONTROL_AT, offset);
const constant = (asm: Assembler, register: number, value: number): void => asm.op(I.mov_const32, register, 0, value);

function systemCall(asm: Assembler, number: number): void {
  constant(asm, RAX, number);
  asm.op(SYSCALL);
}

/** Address of the futex word in rdi, operation in esi, value in edx. */
function futex(asm: Assembler, offset: number, operation: number): void {
  asm.op(I.lea, RDI, control(asm, offset));
  constant(asm, RSI, operation);
  systemCall(asm, FUTEX);
}

function emitRun(asm: Assembler): void {
  const alone = asm.label();
  const unlock = asm.label();
  enter(asm);
  asm.op(I.mov, CONTROL_AT, RDI);
  asm.op(I.mov, RECORD_AT, RSI);
  asm.op(I.mov, RECORD_END, RDX);
  asm.op(I.mov, TID, RCX); // `to`, for the moment
  lock(asm);
  asm.unary(I.cmp32_imm8, control(asm, CONTROL.threads), 1);
  asm.jcc(CC.e, alone);
  publish(asm, alone);
  asm.bind(alone);
  asm.op(I.test, RECORD_AT, RECORD_AT);
  asm.jcc(CC.e, unlock);
  asm.op(I.lea, MINE, control(asm, CONTROL.lines));
  asm.op(I.mov32, EPOCH, asm.at(MINE, LINE.epoch));
  // Thread 0's records come first: from = list + header + from, end = list + header + to.
  asm.op(I.mov, RAX, RECORD_AT);
  asm.op(I.lea, RECORD_AT, asm.at(RAX, LIST_HEADER, RECORD_END));
  asm.op(I.lea, RECORD_END, asm.at(RAX, LIST_HEADER, TID));
  asm.op(I.xor32, TID, TID);
  emitWalk(asm);
  asm.op(I.mov32_store, EPOCH, asm.at(MINE, LINE.epoch));
  asm.bind(unlock);
  emitUnlock(asm);
  constant(asm, RAX, 0);
  leave(asm);
}

/** A mutex on a futex (U. Drepper, "Futexes are tricky", 2011): runs of several threads of the process take turns. */
function lock(asm: Assembler): void {
  const held = asm.label();
  constant(asm, R9, LOCK_POLLS);
  const poll = asm.here();
  constant(asm, RAX, 0);
  constant(asm, RCX, 1);
  asm.op(I.lock_cmpxchg32, RCX, control(asm, CONTROL.lock));
  asm.jcc(CC.e, held);
  asm.op(I.pause);
  asm.unary(I.dec32, R9);
  asm.jcc(CC.ne, poll);
  const sleep = asm.here();
  constant(asm, RAX, 2);
  asm.op(I.xchg32, RAX, control(asm, CONTROL.lock));
  asm.op(I.test32, RAX, RAX);
  asm.jcc(CC.e, held);
  constant(asm, RDX, 2);
  constant(asm, R10, 0);
  futex(asm, CONTROL.lock, FUTEX_WAIT);
  asm.jmp(sleep);
  asm.bind(held);
}

function emitUnlock(asm: Assembler): void {
  const free = asm.label();
  constant(asm, RAX, 0);
  asm.op(I.xchg32, RAX, control(asm, CONTROL.lock));
  asm.unary(I.cmp32_imm8, RAX, 2);
  asm.jcc(CC.ne, free);
  constant(asm, RDX, 1);
  futex(asm, CONTROL.lock, FUTEX_WAKE);
  asm.bind(free);
}

/** Writes the job, its number last, and wakes sleepers. xchg orders the number before the look at sleepers: see the nap for the other half. */
function publish(asm: Assembler, done: number): void {
  asm.op(I.mov_store, RECORD_AT, control(asm, CONTROL.list));
  asm.op(I.mov_store, RECORD_END, control(asm, CONTROL.from));
  asm.op(I.mov_store, TID, control(asm, CONTROL.to));
  asm.op(I.mov32, RAX, control(asm, CONTROL.job));
  asm.unary(I.inc32, RAX);
  asm.op(I.xchg32, RAX, control(asm, CONTROL.job));
  asm.unary(I.cmp32_imm8, control(asm, CONTROL.sleepers), 0);
  asm.jcc(CC.e, done);
  constant(asm, RDX, 0x7fffffff);
  futex(asm, CONTROL.job, FUTEX_WAKE);
}

/** Calls every record's function(arguments, tid), each followed by a barrier. */
function emitWalk(asm: Assembler): void {
  const next = asm.label();
  const done = asm.label();
  asm.op(I.cmp, RECORD_AT, RECORD_END);
  asm.jcc(CC.ae, done);
  const launch = asm.here();
  asm.op(I.mov, RDI, asm.at(RECORD_AT, 8));
  asm.op(I.mov, RSI, TID);
  asm.unary(I.call, asm.at(RECORD_AT));
  asm.op(I.mov32, RSI, control(asm, CONTROL.threads));
  asm.unary(I.cmp32_imm8, RSI, 1);
  asm.jcc(CC.e, next);
  barrier(asm);
  asm.bind(next);
  asm.unary(I.add_imm8, RECORD_AT, RECORD);
  asm.op(I.cmp, RECORD_AT, RECORD_END);
  asm.jcc(CC.b, launch);
  asm.bind(done);
}

/**
 * Dissemination barrier (Hensgen, Finkel and Manber 1988): in round r a thread shows its epoch and waits for that of the thread 2^r before it.
 * Two threads need one round, n need ⌈log2 n⌉. Epochs only grow, so nothing is reset; x86 keeps stores and loads in order, so nothing is fenced.
 * rsi: number of threads. rdi: distance 2^r · r8: 4·r · r10: what is polled · r9: polls left.
 */
function barrier(asm: Assembler): void {
  asm.unary(I.inc32, EPOCH);
  constant(asm, RDI, 1);
  constant(asm, R8, 0);
  const round = asm.here();
  const partner = asm.label();
  const passed = asm.label();
  asm.op(I.mov32_store, EPOCH, asm.at(MINE, LINE.rounds, R8));
  asm.op(I.mov, RAX, TID);
  asm.op(I.sub, RAX, RDI);
  asm.jcc(CC.ns, partner);
  asm.op(I.add, RAX, RSI);
  asm.bind(partner);
  asm.unary(I.shl, RAX, LINE_SHIFT);
  asm.op(I.add, RAX, CONTROL_AT);
  asm.op(I.lea, R10, asm.at(RAX, CONTROL.lines + LINE.rounds, R8));
  const fresh = asm.here();
  asm.op(I.mov32, R9, control(asm, CONTROL.barrierPolls));
  const poll = asm.here();
  asm.op(I.mov32, RAX, asm.at(R10));
  asm.op(I.cmp32, RAX, EPOCH);
  asm.jcc(CC.ns, passed); // difference ≥ 0 as a signed number: right also when epochs wrap
  asm.op(I.pause);
  asm.unary(I.dec32, R9);
  asm.jcc(CC.ne, poll);
  systemCall(asm, SCHED_YIELD);
  asm.jmp(fresh);
  asm.bind(passed);
  asm.unary(I.add_imm8, R8, 4);
  asm.op(I.add, RDI, RDI);
  asm.op(I.cmp, RDI, RSI);
  asm.jcc(CC.b, round);
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
  asm.unary(I.shl, RAX, LINE_SHIFT);
  asm.op(I.lea, MINE, asm.at(CONTROL_AT, CONTROL.lines, RAX));
  asm.op(I.mov32, EPOCH, asm.at(MINE, LINE.epoch));
  const wait = asm.here();
  awaitJob(asm, job);
  nap(asm, job);
  constant(asm, RAX, 0);
  asm.jmp(out);

  asm.bind(job); // eax: its number
  asm.op(I.mov32_store, RAX, asm.at(MINE, LINE.seenJob));
  asm.op(I.mov, RAX, control(asm, CONTROL.list));
  asm.op(I.test, RAX, RAX);
  asm.jcc(CC.e, quit);
  // Records start at list + header + tid · (bytes of records a thread).
  asm.op(I.mov, RDX, asm.at(RAX));
  asm.op(I.imul, RDX, TID);
  asm.op(I.lea, RAX, asm.at(RAX, LIST_HEADER, RDX));
  asm.op(I.mov, RECORD_AT, control(asm, CONTROL.from));
  asm.op(I.add, RECORD_AT, RAX);
  asm.op(I.mov, RECORD_END, control(asm, CONTROL.to));
  asm.op(I.add, RECORD_END, RAX);
  emitWalk(asm);
  asm.op(I.mov32_store, EPOCH, asm.at(MINE, LINE.epoch));
  asm.jmp(wait);

  asm.bind(quit);
  constant(asm, RAX, 1);
  asm.bind(out);
  leave(asm);
}

/** eax ← the job's number; jumps if it is new. */
function lookForJob(asm: Assembler, job: number): void {
  asm.op(I.mov32, RAX, control(asm, CONTROL.job));
  asm.op(I.cmp32, RAX, asm.at(MINE, LINE.seenJob));
  asm.jcc(CC.ne, job);
}

/** Polls for `spinTicks`; falls through when nothing came. r12: deadline · rbx: polls up to the next yield. */
function awaitJob(asm: Assembler, job: number): void {
  readTicks(asm);
  asm.op(I.add, RAX, control(asm, CONTROL.spinTicks));
  asm.op(I.mov, R12, RAX);
  const fresh = asm.here();
  constant(asm, RBX, POLLS_PER_YIELD);
  const poll = asm.here();
  const idle = asm.label();
  lookForJob(asm, job);
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
 * Sleeps until the job's number changes, at most one nap. The worker counts itself as a sleeper before the kernel compares the number; the caller
 * changes the number before it looks for sleepers: one of the two sees the other.
 */
function nap(asm: Assembler, job: number): void {
  asm.unary(I.lock_inc32, control(asm, CONTROL.sleepers));
  asm.op(I.mov32, RDX, asm.at(MINE, LINE.seenJob));
  asm.op(I.lea, R10, control(asm, CONTROL.napSeconds));
  futex(asm, CONTROL.job, FUTEX_WAIT);
  asm.unary(I.lock_dec32, control(asm, CONTROL.sleepers));
  lookForJob(asm, job);
}
