// A product that a vendor's library computes, where it is faster than a kernel: bound and launched like one.
import type { SimtKernel, SimtParam } from "./simt.ts";

export type OperandType = "f32" | "f16" | "bf16";

/** out (batch,m,n) = a (batch,m,k) · b (batch,k,n), row-major, sums in float32. Parameters: a, b, out. */
export interface LibraryGemm {
  readonly library: "gemm";
  readonly name: string;
  readonly params: readonly SimtParam[];
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly type: OperandType;
  readonly outType: OperandType;
  /** Whether a is stored as (k,m), b as (n,k). */
  readonly isLeftTransposed: boolean;
  readonly isRightTransposed: boolean;
  /** Elements between batches; 0: the same matrix for all. */
  readonly leftStride: number;
  readonly rightStride: number;
}

/** What a GPU launches. */
export type GpuKernel = SimtKernel | LibraryGemm;
export const isLibraryGemm = (kernel: GpuKernel): kernel is LibraryGemm => "library" in kernel;
