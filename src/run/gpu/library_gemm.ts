// MatMul to a call of the device's library, with what follows it in its group; what the library has not is a kernel of its own.
import type { DType, TypedArray } from "../../ir/dtype.ts";
import { cast } from "../../ir/expr.ts";
import { loadReader } from "../../ir/expr_interpreter.ts";
import type { Reader, Value } from "../../ir/graph.ts";
import { type GpuKernel, type LibraryGemm, type LibraryTail, NO_TAIL, type OperandType } from "../../ir/library_kernel.ts";
import type { SimtParam, SimtTarget } from "../../ir/simt.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../../ir/tensor.ts";
import { lowerSimtReaders } from "../../lower/simt_group.ts";
import { productGeometry } from "../../ops/matmul.ts";
import { transposed } from "../implement/transposed.ts";
import { constantPlace, type KernelCall, type Place, valuePlace } from "../step.ts";
import { type MatchedTail, matchedTail } from "./library_tail.ts";
import { type GpuTask, tailOf } from "./product_calls.ts";

const TYPES: ReadonlySet<string> = new Set(["f32", "f16", "bf16"]);
const isOperand = (dtype: string): dtype is OperandType => TYPES.has(dtype);

/** Smaller products are as fast with the tail in the same kernel; float32 that may be rounded is far faster on matrix units, which our kernels do not give it. */
export const LEAST_FLOPS = 2 ** 30;
const LEAST_ROUNDED_FLOPS = 2 ** 28;

/** With fewer rows and columns our float32 kernels for matrix units have little to share. */
const LEAST_SIDE = 32;

interface LibraryProduct {
  readonly kernel: LibraryGemm;
  readonly left: Value;
  readonly right: Value;
}

/** What matrix units want columns of a tail to be multiples of. */
const COLUMNS = 8;
export const fitsTail = (columns: number): boolean => columns % COLUMNS === 0;

/** Launches of a large product by the library; null where it has none for it, or a kernel is as good. */
export function libraryProducts(task: GpuTask): readonly KernelCall<GpuKernel>[] | null {
  const { anchor, inputs, output, epilogueInputs, epilogueKey, target, shared, name } = task;
  const [left, right] = inputs as readonly [Value, Value]; // MatMul's inputs are never absent
  const matched = matchedTail(output, true);
  const isBare = matched !== null && isEmpty(matched); // at most another type
  if (matched && !isBare) {
    const withTail = tailedProduct(task, left, right, matched);
    if (withTail) return withTail;
  }
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

const isEmpty = ({ hasBias, hasAdded, isRelu, gelu }: MatchedTail): boolean => !hasBias && !hasAdded && !isRelu && !gelu;

/** The product with all of its tail in one kernel; null where operands are float32, whose products gain less, or the library has no such tail. */
function tailedProduct(task: GpuTask, left: Value, right: Value, matched: MatchedTail): readonly KernelCall<GpuKernel>[] | null {
  const { output } = task;
  const { dtype, shape } = output.type;
  const { hasBias, hasAdded, isRelu, gelu, bias, learned, added } = matched;
  if (left.type.dtype === "f32" || !fitsTail(shape[shape.length - 1]) || left.type.shape.length < 2 || right.type.shape.length < 2)
    return null;
  const product = libraryProduct(task, left, right, dtype, { hasBias, hasAdded, isRelu, ...(gelu && { gelu }) });
  if (!product) return null;
  const columns = shape[shape.length - 1];
  const read = learned ? biasCalls(task, learned, dtype) : { place: bias && constantPlace(spread(bias, columns, dtype)), calls: [] };
  const places = [valuePlace(product.left), valuePlace(product.right), read.place, added && valuePlace(added), valuePlace(output)];
  return [...read.calls, { kernel: product.kernel, places: places.filter((p) => p !== null) }];
}

/** One number for each column, in a library's type. */
function spread(bias: TensorData, columns: number, dtype: DType): TypedArray {
  const numbers = toNumbers(bias);
  return fromNumbers(dtype, [columns], numbers.length === columns ? numbers : new Float64Array(columns).fill(numbers[0])).data;
}

/** Where a bias lies in a library's type, after a call that rounds it where it is another. */
export function biasCalls(
  { name, target, shared }: Pick<GpuTask, "name" | "target" | "shared">,
  bias: Value,
  dtype: DType,
): { readonly place: Place; readonly calls: readonly KernelCall<GpuKernel>[] } {
  if (bias.type.dtype === dtype) return { place: valuePlace(bias), calls: [] };
  const type = { dtype, shape: [elementCount(bias.type.shape)] };
  const from = loadReader({ ...bias.type, shape: type.shape }, 0);
  const rounded: Reader = { type, at: (index) => cast(dtype, from.at(index)) };
  const kernel = shared(`bias ${bias.type.dtype} ${dtype} ${type.shape}`, `${name}_bias`, (n) =>
    lowerSimtReaders(n, [rounded], [from.type], target),
  );
  const place: Place = { k: "temporary", id: 0, bytes: kernel.params[1].bytes };
  return { place, calls: [{ kernel, places: [valuePlace(bias), place] }] };
}

/** Whether our kernels multiply float32 on matrix units, three products of tf32 for one: 48 to 67 TFLOP/s on an H200, where cuBLAS keeps to plain cores and 34 to 54. */
const isOnUnits = (sizes: readonly [m: number, n: number, k: number], { fragments }: SimtTarget): boolean =>
  fragments.includes("f32") && Math.min(sizes[0], sizes[1]) >= LEAST_SIDE && sizes.every((size) => size % 4 === 0);

/** The product of two operands as values outside of a group. */
export function libraryProduct(
  { name, target, roundsF32 }: Pick<GpuTask, "name" | "target" | "roundsF32">,
  left: Value,
  right: Value,
  outType: DType,
  tail: LibraryTail = NO_TAIL,
): LibraryProduct | null {
  const { dtype } = left.type;
  const isRounded = roundsF32 && dtype === "f32";
  if (!isOperand(dtype) || right.type.dtype !== dtype || !isOperand(outType)) return null;
  const { m, n, k, batch, batchA, batchB } = productGeometry("MatMul", left.type.shape, right.type.shape);
  if (dtype === "f32" && !isRounded && isOnUnits([m, n, k], target)) return null;
  const count = elementCount(batch);
  const [ofLeft, ofRight] = [elementCount(batchA), elementCount(batchB)];
  const isFlat = ofRight === 1 && ofLeft === count;
  const isBatched = ofLeft === count && ofRight === count;
  if ((!isFlat && !isBatched) || 2 * count * m * n * k < (isRounded ? LEAST_ROUNDED_FLOPS : LEAST_FLOPS)) return null;
  const [a, b] = [seenThrough(left), seenThrough(right)];
  const isLeftSeen = a.isTransposed && (isBatched || count === 1);
  const rows = isFlat ? count * m : m;
  const param = (of: string, elements: number, type: OperandType, access: SimtParam["access"]): SimtParam => ({
    name: of,
    dtype: type,
    elements,
    bytes: elements * target.storedBytes[type]!, // the device keeps all three
    access,
  });
  const batches = isFlat ? 1 : count;
  const results = count * m * n;
  const kernel: LibraryGemm = {
    library: "gemm",
    name,
    params: [
      param("a", count * m * k, dtype, "read"),
      param("b", ofRight * k * n, dtype, "read"),
      ...(tail.hasBias ? [param("bias", n, outType, "read")] : []),
      ...(tail.hasAdded ? [param("added", results, outType, "read")] : []),
      ...(tail.gelu === "stored" || tail.gelu === "slope"
        ? [param("sums", results, outType, tail.gelu === "slope" ? "read" : "write")]
        : []),
      param("out", results, outType, "write"),
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
    tail,
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
