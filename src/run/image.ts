// What a compiled program is as plain data: memories, launches with places in them, code; the form in which it is loaded and kept on disk.
import type { Compiled, Slot } from "../devices/cpu.ts";
import type { DType, TypedArray } from "../ir/dtype.ts";
import { HeddleError, invariant } from "../ir/error.ts";
import { elementCount, type TensorData } from "../ir/tensor.ts";
import type { SparseRates } from "./implement/sparse_cost.ts";

/** Which of the program's memories, and how many bytes into it. */
export type Address = readonly [memory: number, offset: number];

export interface MemoryNeed {
  readonly bytes: number;
  /** Filled when the program is loaded, and never written again. */
  readonly isConstant: boolean;
  /** The input that lives in it, where the caller gave the memory. */
  readonly given?: string;
}

/**
 * An input or output. No address: an input that nothing reads. `slots`: the arguments of launches that are all its uses,
 * so that they may as well be pointed at the user's array; null: it must be where `at` says.
 */
export interface PlacedTensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly at: Address | null;
  readonly slots: readonly Slot[] | null;
}

/** A constant in the host's form. */
export interface PlacedConstant {
  readonly at: Address;
  readonly dtype: DType;
  readonly data: TypedArray;
}

export interface PlacedLaunch {
  readonly kernel: number;
  readonly args: readonly Address[];
}

/** A stretch of the program: launches [from, to), or a step in JavaScript. */
export type Segment = { readonly k: "launch"; readonly from: number; readonly to: number } | { readonly k: "host"; readonly step: number };

/** Longest stretch that runs without letting the event loop turn, milliseconds; by estimate, until the program has run. */
export const STRETCH_MS = 20;

/** All of a program but its code. */
export interface ProgramPlan {
  readonly inputs: readonly PlacedTensor[];
  readonly outputs: readonly PlacedTensor[];
  /** Inputs that keep their values from run to run. */
  readonly states: readonly PlacedTensor[];
  readonly memories: readonly MemoryNeed[];
  /** Bytes for all that is computed. */
  readonly arenaBytes: number;
  readonly launches: readonly PlacedLaunch[];
  readonly segments: readonly Segment[];
  /** What kernels for sparse weights were chosen by, where there are such weights. */
  readonly sparseRates?: SparseRates;
}

export interface ProgramImage extends ProgramPlan {
  readonly compiled: Compiled;
}

/** Whether the image is the whole program: nothing of it runs in JavaScript, where it would need the graph. */
export const isComplete = (image: ProgramPlan): boolean => image.segments.every((s) => s.k === "launch");

/** Bytes of all that a program allocates: the arena, what kernels keep partial results in, constants; without states whose memory was given. */
export const ownBytesOf = ({ memories }: ProgramPlan): number =>
  memories.reduce((n, { bytes, given }) => (given === undefined ? n + bytes : n), 0);

/** A program is joined only with the schedule that it was made from. */
export function assertSamePlan({ launches, memories }: Pick<ProgramPlan, "launches" | "memories">, own: ProgramPlan): void {
  const isSame = launches.length === own.launches.length && memories.every((m, i) => m.bytes === own.memories[i].bytes);
  invariant(isSame, "a program joined with a schedule of another");
}

/** Throws HeddleError("bad-input") where a tensor is not what the place is for. */
export function assertFits(what: string, { dtype, shape }: PlacedTensor, given: TensorData): void {
  if (given.dtype !== dtype || given.shape.join() !== shape.join() || given.data.length !== elementCount(shape))
    throw new HeddleError("bad-input", `${what}: got ${given.dtype}[${given.shape}], wanted ${dtype}[${shape}]`);
}
