// Operands of products as matrices (rows, depth), however they lie in memory: by strides, or gathered from images.
import { DTYPES, type DType } from "../../ir/dtype.ts";
import { fn, product, type Reg, type SimtBuilder, sum } from "../../ir/simt.ts";

/** Where an element lies, and whether there is one: without, it is zero. Null: always. */
export interface Spot {
  readonly at: Reg;
  readonly isInside: Reg | null;
}

/** The left operand of a product, or the right one turned: its rows are the result's columns. */
export interface Operand {
  readonly dtype: DType;
  readonly elements: number;
  readonly rows: number;
  readonly depth: number;
  /** The axis whose neighbours are neighbours in memory, `run` of them from each multiple of `run` on, at a multiple of `run`. */
  readonly along: "row" | "depth";
  readonly run: number;
  /** What a spot has from its row, and from its depth: each is computed once for many spots. Both may lie beyond the matrix. */
  rowParts(b: SimtBuilder, batch: Reg, row: Reg): readonly Reg[];
  depthParts(b: SimtBuilder, depth: Reg): readonly Reg[];
  spot(row: readonly Reg[], depth: readonly Reg[]): Spot;
}

/** An axis of a strided operand. */
export interface Axis {
  readonly extent: number;
  readonly stride: number;
}

/** Bytes of the widest loads. */
const VECTOR_BYTES = 16;

/** Elements, a power of two, that start at multiples of themselves wherever an axis has stride 1 and the others are these. */
export function runOf(dtype: DType, extent: number, otherStrides: readonly number[]): number {
  let run = VECTOR_BYTES / DTYPES[dtype].bytes;
  while (run > 1 && [extent, ...otherStrides].some((n) => n % run !== 0)) run /= 2;
  return run;
}

/** An operand that lies by strides; batch axes outermost first. */
export function stridedOperand(dtype: DType, elements: number, batch: readonly Axis[], row: Axis, depth: Axis): Operand {
  const outer = batch.map((a) => a.stride);
  const alongRow = row.stride === 1 ? runOf(dtype, row.extent, [...outer, depth.stride]) : 0;
  const alongDepth = depth.stride === 1 ? runOf(dtype, depth.extent, [...outer, row.stride]) : 0;
  return {
    dtype,
    elements,
    rows: row.extent,
    depth: depth.extent,
    along: alongRow > alongDepth ? "row" : "depth",
    run: Math.max(1, alongRow, alongDepth),
    rowParts: (b, number, r) => [b.let(sum(batchOffset(b, number, batch), product(r, row.stride)))],
    depthParts: (b, d) => [b.let(product(d, depth.stride))],
    spot: ([r], [d]) => ({ at: sum(r, d), isInside: null }),
  };
}

/** Offset of a batch from its row-major number. */
function batchOffset(b: SimtBuilder, number: Reg, axes: readonly Axis[]): Reg {
  let rest = number;
  let offset = sum(0);
  for (const [i, { extent, stride }] of [...joined(axes).entries()].reverse()) {
    offset = sum(offset, product(i === 0 ? rest : fn("rem", rest, extent), stride));
    if (i > 0) rest = b.let(fn("div", rest, extent));
  }
  return offset;
}

/** Neighbouring axes as one, where they run through memory as one. */
export function joined(axes: readonly Axis[]): readonly Axis[] {
  const all: Axis[] = [];
  for (const axis of axes) {
    const last = all[all.length - 1];
    if (axis.extent === 1) continue;
    if (last && last.stride === axis.stride * axis.extent) all[all.length - 1] = { extent: last.extent * axis.extent, stride: axis.stride };
    else all.push(axis);
  }
  return all;
}
