// MatMul to a call of the device's library; what follows it in its group is a kernel of its own.
import type { DType } from "../../ir/dtype.ts";
import { loadReader } from "../../ir/expr_interpreter.ts";
import type { Value } from "../../ir/graph.ts";
import { type GpuKernel, type LibraryGemm, NO_TAIL, type OperandType } from "../../ir/library_kernel.ts";
import type { SimtParam } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { lowerSimtReaders } from "../../lower/simt_group.ts";
import { productGeometry } from "../../ops/matmul.ts";
import { transposed } from "../implement/transposed.ts";
import { type KernelCall, type Place, valuePlace } from "../step.ts";
import { matchedTail } from "./library_tail.ts";
import { type GpuTask, tailOf } from "./product_calls.ts";

const TYPES: ReadonlySet<string> = new Set(["f32", "f16", "bf16"]);
const isOperand = (dtype: string): dtype is OperandType => TYPES.has(dtype);

/** Smaller products are as fast with the tail in the same kernel; float32 that may be rounded is far faster on matrix units, which our kernels do not give it. */
const LEAST_FLOPS = 2 ** 30;
const LEAST_ROUNDED_FLOPS = 2 ** 28;

interface LibraryProduct {
  readonly kernel: LibraryGemm;
  readonly left: Value;
  readonly right: Value;
}

/** Launches of a large product by the library; null where it has none for it, or a kernel is as good. */
export function libraryProducts(task: GpuTask): readonly KernelCall<GpuKernel>[] | null {
  const { anchor, inputs, output, epilogueInputs, epilogueKey, target, shared, name } = task;
  const [left, right] = inputs as readonly [Value, Value]; // MatMul's inputs are never absent
  const matched = matchedTail(output);
  const isBare = matched !== null && !matched.hasBias && !matched.hasAdded && !matched.isRelu; // at most another type
  const product = libraryProduct(task, left, right, (isBare ? output : anchor.outputs[0]).type.dtype);
  if (!product) return null;
  const operands = [product.left, product.right].map(valuePlace);
  const { type } = anchor.outputs[0];
  if (isBare) return [{ kernel: product.kernel, places: [...operands, valuePlace(output)] }];
  const tail = tailOf(task);
  const sums = loadReader(type, tail.inputs.length);
  const kernel = shared(`tail ${epilogueKey} ${type.shape}`, `${name}_tail`, (n) =>
    lowerSimtReaders(n, [tail.compose(sums)], [...tail.inputs, type], target),
  );
  const { params } = product.kernel;
  const between: Place = { k: "temporary", id: 0, bytes: params[params.length - 1].bytes };
  return [
    { kernel: product.kernel, places: [...operands, between] },
    { kernel, places: [...epilogueInputs.map(valuePlace), between, valuePlace(output)] },
  ];
}

/** The product of a MatMul node's operands as values outside of its group. */
function libraryProduct({ name, target, roundsF32 }: GpuTask, left: Value, right: Value, outType: DType): LibraryProduct | null {
  const { dtype } = left.type;
  const isRounded = roundsF32 && dtype === "f32";
  if (!isOperand(dtype) || right.type.dtype !== dtype) return null;
  const { m, n, k, batch, batchA, batchB } = productGeometry("MatMul", left.type.shape, right.type.shape);
  const count = elementCount(batch);
  const [ofLeft, ofRight] = [elementCount(batchA), elementCount(batchB)];
  const isFlat = ofRight === 1 && ofLeft === count;
  const isBatched = ofLeft === count && ofRight === count;
  if ((!isFlat && !isBatched) || 2 * count * m * n * k < (isRounded ? LEAST_ROUNDED_FLOPS : LEAST_FLOPS)) return null;
  const [a, b] = [seenThrough(left), seenThrough(right)];
  const isLeftSeen = a.isTransposed && (isBatched || count === 1);
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
    roundsF32: isRounded,
    isLeftTransposed: isLeftSeen,
    isRightTransposed: b.isTransposed,
    leftStride: batches === 1 ? 0 : m * k,
    rightStride: batches === 1 ? 0 : k * n,
    tail: NO_TAIL,
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
