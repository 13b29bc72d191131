// What every algorithm for sparse times dense is to tests and benchmarks: a matrix in, kernels over prepared arrays out.
import type { Kernel, SimdTarget } from "../../src/ir/kernel.ts";
import type { BsrBlock } from "../../src/sparse/bsr.ts";
import type { Coo } from "../../src/sparse/coo.ts";

export type Numbers = Float32Array | Int32Array | Uint32Array | Uint16Array | Uint8Array | Int8Array;

/** An array, memory that kernels share among themselves (the same object: the same memory), or the dense operand (columns, n) or result (rows, n). */
export type Operand = Numbers | { readonly bytes: number } | "x" | "y";

export interface Step {
  readonly kernel: Kernel;
  /** One for each parameter but scratch. */
  readonly operands: readonly Operand[];
}

/** Two of four neighbours left, or square blocks. */
export type Pruning = "2:4" | BsrBlock;

export interface Machine {
  readonly target: SimdTarget;
  readonly threads: number;
}

export interface Algorithm {
  readonly name: string;
  /** The pruning that it is made for, of single elements where none is named; of 2:4 it takes no other. */
  readonly suits?: Pruning;
  /** The matrix with the values that it multiplies by, where it rounds them. */
  rounded?(w: Coo): Coo;
  /** W·X with X of n columns; W has float32 values. Preprocessing happens here. */
  steps(w: Coo, n: number, machine: Machine): readonly Step[];
}

/** Float32 values of a matrix. */
export const floats = ({ values }: { readonly values: unknown }): Float32Array => values as Float32Array; // algorithms are given float32

/** values[place[i]], zero where the place is negative. */
export const ordered = (values: Float32Array, place: Int32Array): Float32Array => Float32Array.from(place, (p) => (p < 0 ? 0 : values[p]));
