// MatMul to a call of the device's library, with as much of the group's tail as the library applies itself; a generated kernel does the rest.

import type { Node, Value } from "../../ir/graph.ts";
import type { LibraryGemm, OperandType } from "../../ir/library_kernel.ts";
import { registerType, type SimtParam, type SimtTarget } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { productGeometry } from "../../ops/matmul.ts";
import { transposed } from "../implement/transposed.ts";

const TYPES: ReadonlySet<string> = new Set(["f32", "f16", "bf16"]);
const isOperand = (dtype: string): dtype is OperandType => TYPES.has(dtype);

/** Products smaller than this are launches, whoever computes them. */
const LEAST_FLOPS = 1 << 24;

export interface LibraryProduct {
  readonly kernel: LibraryGemm;
  readonly left: Value;
  readonly right: Value;
}

/** The product of a MatMul node's operands as values outside of its group; null where the library has none for it, or a kernel is as good. */
export function libraryProduct(name: string, node: Node, left: Value, right: Value, target: SimtTarget): LibraryProduct | null {
  const { dtype } = left.type;
  if (!isOperand(dtype) || right.type.dtype !== dtype || !registerType(dtype)) return null;
  const { m, n, k, batch, batchA, batchB } = productGeometry("MatMul", left.type.shape, right.type.shape);
  const count = elementCount(batch);
  const [ofLeft, ofRight] = [elementCount(batchA), elementCount(batchB)];
  const isFlat = ofRight === 1 && ofLeft === count;
  const isBatched = ofLeft === count && ofRight === count;
  if ((!isFlat && !isBatched) || 2 * count * m * n * k < LEAST_FLOPS) return null;
  const [a, b] = [seenThrough(left), seenThrough(right)];
  const isLeftSeen = a.isTransposed && (isBatched || count === 1);
  const outType = node.outputs[0].type.dtype;
  if (!isOperand(outType)) return null;
  const rows = isFlat ? count * m : m;
  const param = (of: string, elements: number, type: OperandType, access: SimtParam["access"]): SimtParam => ({
    name: of,
    dtype: type,
    elements,
    bytes: elements * target.storedBytes[type]!, // the device keeps all three
    access,
  });
  const batches = isFlat ? 1 : count;
  const kernel: LibraryGemm = {
    library: "gemm",
    name,
    params: [
      param("a", count * m * k, dtype, "read"),
      param("b", ofRight * k * n, dtype, "read"),
      param("out", count * m * n, outType, "write"),
    ],
    batch: batches,
    m: rows,
    n,
    k,
    type: dtype,
    outType,
    biasType: outType,
    isLeftTransposed: isLeftSeen,
    isRightTransposed: b.isTransposed,
    leftStride: batches === 1 ? 0 : m * k,
    rightStride: batches === 1 ? 0 : k * n,
    epilogue: "none",
    isTf32: false,
  };
  return { kernel, left: isLeftSeen ? a.value : left, right: b.value };
}

/** An operand seen through a Transpose of its last two axes. */
function seenThrough(v: Value): { readonly value: Value; readonly isTransposed: boolean } {
  const source = transposed(v);
  const rank = v.type.shape.length;
  const swaps = source?.perm.every((axis, i) => axis === (i === rank - 1 ? rank - 2 : i === rank - 2 ? rank - 1 : i));
  return source && swaps && rank >= 2 ? { value: source.before, isTransposed: true } : { value: v, isTransposed: false };
}
