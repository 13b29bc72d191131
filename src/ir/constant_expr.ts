// A scalar expression without loop variables → its value: for the tiny tensors of shape arithmetic, where compiling a loop would take longer than all they hold.
import { DTYPES, type DType } from "./dtype.ts";
import type { Expr } from "./expr.ts";
import type { Reader } from "./graph.ts";
import { constIndex, type Index, isConstIndex } from "./index_expr.ts";
import { elementCount, type TensorData, zeros } from "./tensor.ts";

/** Tensors of more elements are computed by loops. */
const MAX_ELEMENTS = 16;

/** Elements as they are stored: bigint for 64-bit integers. */
type Element = number | bigint;

/** Stored bits are no numbers, so they cannot be converted here. */
const isHalf = (t: DType): boolean => t === "f16" || t === "bf16";
const isFloating = (t: DType): boolean => DTYPES[t].kind === "float";

/** The tensor that a reader describes, where it only moves, selects and converts whole numbers of `inputs`; else undefined. */
export function moveElements({ type, at }: Reader, inputs: readonly (TensorData | null)[]): TensorData | undefined {
  const { dtype, shape } = type;
  const count = elementCount(shape);
  if (count > MAX_ELEMENTS) return undefined;
  const out = zeros(dtype, shape);
  const index = new Array<number>(shape.length).fill(0);
  for (let i = 0; i < count; i++) {
    const value = elementOf(at(index.map(constIndex)), inputs);
    if (value === undefined) return undefined;
    out.data[i] = value;
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis] === shape[axis]; axis--) index[axis] = 0;
  }
  return out;
}

function elementOf(e: Expr, inputs: readonly (TensorData | null)[]): Element | undefined {
  switch (e.k) {
    case "const":
      return isFloating(e.dtype) || !Number.isSafeInteger(e.value) ? undefined : stored(e.dtype, e.value);
    case "load":
      return isConstIndex(e.at) && !isHalf(e.dtype) ? inputs[e.input]?.data[e.at.lo] : undefined;
    case "cast": {
      const value = isFloating(e.dtype) || isFloating(e.a.dtype) ? undefined : elementOf(e.a, inputs);
      return value === undefined ? undefined : e.dtype === "bool" ? Number(Number(value) !== 0) : stored(e.dtype, value);
    }
    case "index":
      return isConstIndex(e.at) && !isFloating(e.dtype) ? stored(e.dtype, e.at.lo) : undefined;
    case "within":
      return inRange(e.at, e.lo, e.hi);
    case "select": {
      const cond = elementOf(e.cond, inputs);
      return cond === undefined ? undefined : elementOf(cond ? e.a : e.b, inputs);
    }
    case "call":
    case "reduce":
      return undefined;
    default:
      return e satisfies never;
  }
}

const inRange = (at: Index, lo: number, hi: number): number | undefined =>
  isConstIndex(at) ? Number(at.lo >= lo && at.lo < hi) : undefined;

/** A whole number in the bits of its type, as typed arrays store it: modulo 2^bits. */
function stored(dtype: DType, value: Element): Element {
  const { array, bytes } = DTYPES[dtype];
  const cell = new array(1);
  cell[0] = bytes === 8 ? BigInt(value) : typeof value === "bigint" ? Number(BigInt.asIntN(32, value)) : value;
  return cell[0];
}
