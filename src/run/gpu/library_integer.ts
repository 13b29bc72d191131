// MatMulInteger with known weights to a product of signed bytes by the device's library, and what zero points add to it.
import { call, cast, constant, type Expr } from "../../ir/expr.ts";
import { loadReader } from "../../ir/expr_interpreter.ts";
import type { Node, Reader, TensorType, Value } from "../../ir/graph.ts";
import { constIndex, type Index } from "../../ir/index_expr.ts";
import { type GpuKernel, type LibraryGemm, NO_TAIL } from "../../ir/library_kernel.ts";
import type { SimtParam, SimtTarget } from "../../ir/simt.ts";
import { elementCount, toNumbers } from "../../ir/tensor.ts";
import { lowerSimtReaders } from "../../lower/simt_group.ts";
import { constantOf } from "../../ops/source.ts";
import { constantPlace, type KernelCall, type Place, valuePlace } from "../step.ts";
import type { DirectImplementation } from "./direct.ts";

/** Fewer operations are done as float32 before the library's kernels have begun. */
const LEAST_FLOPS = 2 ** 28;
/** Matrix units want rows of bytes, and of sums, of a multiple of so many. */
const MULTIPLE = 16;

/** Weights whose zero point is the middle of their type: as signed bytes it is 0. */
interface IntegerProduct {
  readonly a: Value;
  readonly aZero: Value | null;
  readonly rows: number;
  readonly k: number;
  readonly n: number;
  /** (n,k), and their sums along k. */
  readonly weights: Int8Array;
  readonly sums: Int32Array;
}

const middleOf = (dtype: string): number => (dtype === "u8" ? 128 : 0);

/** Whether the library is to compute a node. */
export const fitsIntegerProduct = (node: Node, _: unknown, { hasGemm }: SimtTarget): boolean => hasGemm === true && isFit(node);

function isFit({ inputs: [a, b, aZero, bZero] }: Node): boolean {
  if (!a || !b || !constantOf(b) || b.type.shape.length !== 2 || a.type.shape.length < 2) return false;
  const [k, n] = b.type.shape;
  if (k % MULTIPLE !== 0 || n % MULTIPLE !== 0 || 2 * elementCount(a.type.shape) * n < LEAST_FLOPS) return false;
  if (aZero && elementCount(aZero.type.shape) !== 1) return false;
  const zeros = bZero ? constantOf(bZero) : null;
  const middle = middleOf(b.type.dtype);
  return zeros ? toNumbers(zeros).every((z) => z === middle) : !bZero && middle === 0;
}

function integerProduct({ inputs }: Node): IntegerProduct {
  const [a, b, aZero = null] = inputs as readonly [Value, Value, Value?]; // isFit has seen them
  const [k, n] = b.type.shape;
  const given = toNumbers(constantOf(b)!);
  const middle = middleOf(b.type.dtype);
  const weights = new Int8Array(n * k);
  const sums = new Int32Array(n);
  for (let j = 0; j < n; j++)
    for (let p = 0; p < k; p++) {
      const w = given[p * n + j] - middle;
      weights[j * k + p] = w;
      sums[j] += w;
    }
  return { a, aZero, rows: elementCount(a.type.shape) / k, k, n, weights, sums };
}

/** An element's value from the middle of its type. */
const signed = (e: Expr): Expr => {
  const middle = middleOf(e.dtype);
  return middle === 0 ? cast("i32", e) : call("sub", cast("i32", e), constant("i32", middle));
};

export const integerProductCalls: DirectImplementation = (node, name, target, shared) => {
  const product = integerProduct(node);
  const { a, aZero, rows, k, n, weights, sums } = product;
  const [output] = node.outputs;
  const left: Place = a.type.dtype === "i8" ? valuePlace(a) : { k: "temporary", id: 1, bytes: rows * k };
  const isBare = aZero === null && middleOf(a.type.dtype) === 0;
  const between: Place = isBare ? valuePlace(output) : { k: "temporary", id: 0, bytes: 4 * rows * n };
  const calls: KernelCall<GpuKernel>[] = [{ kernel: gemm(name, product, target), places: [left, constantPlace(weights), between] }];
  if (a.type.dtype === "u8") {
    const moved: Reader = {
      type: { dtype: "i8", shape: a.type.shape },
      at: (index) => cast("i8", signed(loadReader(a.type, 0).at(index))),
    };
    const kernel = shared(`signed ${a.type.shape}`, `${name}_signed`, (to) => lowerSimtReaders(to, [moved], [a.type], target));
    calls.unshift({ kernel, places: [valuePlace(a), left] });
  }
  if (isBare) return calls;
  const types: TensorType[] = [output.type, { dtype: "i32", shape: [n] }, ...(aZero ? [aZero.type] : [])];
  const [products, columns, zero] = types.map((type, i) => loadReader(type, i));
  // Without a zero point of its own an unsigned operand's is 0.
  const zeroAt = (): Expr => (zero ? signed(zero.at(zero.type.shape.map(() => constIndex(0)))) : constant("i32", -middleOf(a.type.dtype)));
  const joined: Reader = {
    type: output.type,
    at: (index) => call("sub", products.at(index), call("mul", zeroAt(), columns.at([index[index.length - 1] as Index]))),
  };
  const kernel = shared(`centred ${JSON.stringify(types)} ${a.type.dtype}`, `${name}_centred`, (to) => lowerSimtReaders(to, [joined], types, target)); // biome-ignore format: short
  return [...calls, { kernel, places: [between, constantPlace(sums), ...(aZero ? [valuePlace(aZero)] : []), valuePlace(output)] }];
};

function gemm(name: string, { rows, k, n }: IntegerProduct, { storedBytes }: SimtTarget): LibraryGemm {
  const param = (of: string, elements: number, dtype: "i8" | "i32", access: SimtParam["access"]): SimtParam => ({ name: of, dtype, elements, bytes: elements * storedBytes[dtype]!, access }); // biome-ignore format: such devices keep both
  return {
    library: "gemm",
    name,
    params: [param("a", rows * k, "i8", "read"), param("b", n * k, "i8", "read"), param("out", rows * n, "i32", "write")],
    type: "i8",
    outType: "i32",
    roundsF32: false,
    tail: NO_TAIL,
    batch: 1,
    m: rows,
    n,
    k,
    isLeftTransposed: false,
    isRightTransposed: true,
    leftStride: 0,
    rightStride: 0,
  };
}
