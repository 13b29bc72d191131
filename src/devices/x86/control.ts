// The cells that a pool's threads share, and code that waits on them, wakes those that wait, and takes turns.
import { type Assembler, CC, I, R9, R10, R15, RAX, RCX, RDI, RDX, RSI } from "../../codegen/x86/assembler.ts";

export const MAX_THREADS = 256;

/**
 * The control block of a pool, byte offsets. What one side polls lies 128 bytes from what others write, because processors fetch cache lines in pairs.
 * Launches are counted from the pool's first on. A job is launches up to `end`, which changes last: whoever sees it sees where their records are.
 */
export const CONTROL = {
  job: 0, // u32: changes with every job and with `leave`; what workers sleep on
  leave: 4, // u32: not 0 when workers shall leave
  origin: 8, // u64: where thread 0's record of launch 0 would be
  stride: 16, // u64: bytes from a thread's records to the next one's
  end: 24, // u64
  threads: 40, // u32, constant like all up to `sleepers`
  barrierPolls: 44, // u32: before a thread that waits for others offers its core to them
  napSeconds: 64, // u64, u64: a timespec
  napNanoseconds: 72,
  spinTicks: 80, // u64
  sleepers: 128, // u32
  lock: 256, // u32: 0 free, 1 held, 2 held and waited for
  parts: 512,
} as const;
export const PART_SHIFT = 8;
/** The parts of one thread, u64 each: launches of which they were claimed, and of which they are done. Only the second is polled as a rule. */
export const PART = { claimed: 0, done: 128 } as const;

export const controlBytes = (threads: number): number => CONTROL.parts + (threads << PART_SHIFT);

/** Linux system calls and futex operations (futex(2), process-private). They overwrite rax, rcx and r11. */
export const SCHED_YIELD = 24;
const FUTEX = 202;
export const FUTEX_WAIT = 128;
const FUTEX_WAKE = 129;
const SYSCALL = { ...I.rdtsc, name: "syscall", opcode: 0x05 };

const LOCK_POLLS = 1000;

/** The register that says where the cells are. Kernels preserve it. */
export const CONTROL_AT = R15;
export const control = (asm: Assembler, offset: number): number => asm.at(CONTROL_AT, offset);
export const constant = (asm: Assembler, register: number, value: number): void => asm.op(I.mov_const32, register, 0, value);

export function systemCall(asm: Assembler, number: number): void {
  constant(asm, RAX, number);
  asm.op(SYSCALL);
}

/** Address of the futex word in rdi, operation in esi, value in edx. */
export function futex(asm: Assembler, offset: number, operation: number): void {
  asm.op(I.lea, RDI, control(asm, offset));
  constant(asm, RSI, operation);
  systemCall(asm, FUTEX);
}

/** A mutex on a futex (U. Drepper, "Futexes are tricky", 2011): runs of several threads of the process take turns. */
export function lock(asm: Assembler): void {
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

export function unlock(asm: Assembler): void {
  const free = asm.label();
  constant(asm, RAX, 0);
  asm.op(I.xchg32, RAX, control(asm, CONTROL.lock));
  asm.unary(I.cmp32_imm8, RAX, 2);
  asm.jcc(CC.ne, free);
  constant(asm, RDX, 1);
  futex(asm, CONTROL.lock, FUTEX_WAKE);
  asm.bind(free);
}

/** xchg orders what was written before the look at sleepers: see the nap for the other half. */
export function wakeAll(asm: Assembler): void {
  const done = asm.label();
  asm.op(I.mov32, RAX, control(asm, CONTROL.job));
  asm.unary(I.inc32, RAX);
  asm.op(I.xchg32, RAX, control(asm, CONTROL.job));
  asm.unary(I.cmp32_imm8, control(asm, CONTROL.sleepers), 0);
  asm.jcc(CC.e, done);
  constant(asm, RDX, 0x7fffffff);
  futex(asm, CONTROL.job, FUTEX_WAKE);
  asm.bind(done);
}
