// Products and convolutions that a vendor's library computes, where it is faster than a kernel: bound and launched like one.
import type { SimtKernel, SimtParam } from "./simt.ts";
import type { Slide } from "./slide.ts";

export type OperandType = "f32" | "f16" | "bf16";

/** What is done to the sums before they are stored, in this order. Of what is read or stored for it: a parameter each, before the output's. */
export interface LibraryTail {
  /** A number is added for each column, or output channel. */
  readonly hasBias: boolean;
  /** A tensor like the output is added. */
  readonly hasAdded: boolean;
  readonly isRelu: boolean;
  /** Gelu by tanh of products: of the sums, of the sums that are stored too, or its slope at stored ones, times the sums. */
  readonly gelu?: "value" | "stored" | "slope";
}

export const NO_TAIL: LibraryTail = { hasBias: false, hasAdded: false, isRelu: false };

interface LibraryKernel {
  readonly name: string;
  readonly params: readonly SimtParam[];
  /** Whether float32 operands may be rounded to tf32. */
  readonly roundsF32: boolean;
  readonly tail: LibraryTail;
}

/** out (batch,m,n) = a (batch,m,k) · b (batch,k,n), row-major, sums in float32, of bytes as integers. Parameters: a, b, of float8 numbers the scale of each (a number in float32), what the tail reads (in the output's type), out. */
export interface LibraryGemm extends LibraryKernel {
  readonly library: "gemm";
  readonly type: OperandType | "i8" | "f8e4m3fn";
  /** Of bytes i32. Bytes and float8 numbers have no tail; b is stored as (n,k) then, and a as (m,k). */
  readonly outType: OperandType | "i32";
  readonly batch: number;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Whether a is stored as (k,m), b as (n,k). */
  readonly isLeftTransposed: boolean;
  readonly isRightTransposed: boolean;
  /** Elements between batches; 0: the same matrix for all. */
  readonly leftStride: number;
  readonly rightStride: number;
}

/**
 * A convolution with channels innermost and sums in float32. Parameters: the image, weights (output channel, tap, input channel),
 * what the tail reads (the bias in float32, what is added in the output's type), out.
 * Of bytes sums and bias are i32; if the output is not, its channels have a factor each in float32, a parameter behind the bias: bytes are rounded to nearest even and kept inside of their range.
 */
export interface LibraryConv extends LibraryKernel, Slide {
  readonly library: "conv";
  readonly type: OperandType | "i8";
  readonly outType: OperandType | "i8" | "u8" | "i32";
  readonly images: number;
  /** Of all groups. */
  readonly inChannels: number;
  readonly outChannels: number;
  readonly groups: number;
}

/** What a GPU launches. */
export type GpuKernel = SimtKernel | LibraryGemm | LibraryConv;
export const isLibraryKernel = (kernel: GpuKernel): kernel is LibraryGemm | LibraryConv => "library" in kernel;
