// Products of float8 numbers to calls of the device's library.
import { DTYPES } from "../../ir/dtype.ts";
import type { Node } from "../../ir/graph.ts";
import { type LibraryGemm, NO_TAIL, type OperandType } from "../../ir/library_kernel.ts";
import type { SimtParam, SimtTarget } from "../../ir/simt.ts";
import { elementCount } from "../../ir/tensor.ts";
import { valuePlace } from "../step.ts";
import type { DirectImplementation } from "./direct.ts";

/** Fewer operations are done before two more kernels, for the scale and the codes, have begun. */
const LEAST_FLOPS = 2 ** 28;
/** Bytes that matrix units want rows to be multiples of. */
const ROW_BYTES = 16;

export function fitsFloat8Product({ inputs, outputs: [out] }: Node, _: unknown, { hasFloat8 }: SimtTarget): boolean {
  const [a, , b] = inputs;
  if (!hasFloat8 || !a || !b || !["f32", "f16", "bf16"].includes(out.type.dtype)) return false;
  const [n, k] = b.type.shape;
  return k % ROW_BYTES === 0 && (n * DTYPES[out.type.dtype].bytes) % ROW_BYTES === 0 && 2 * elementCount(a.type.shape) * n >= LEAST_FLOPS;
}

export const float8ProductCalls: DirectImplementation = (node, name, target) => {
  const [a, aScale, b, bScale] = node.inputs.map((v) => v!); // checked by infer
  const [out] = node.outputs;
  const [n, k] = b.type.shape;
  const m = elementCount(a.type.shape) / k;
  const kernel = float8Gemm(name, { m, n, k, outType: out.type.dtype as OperandType }, target); // fitsFloat8Product has seen it
  return [{ kernel, places: [a, b, aScale, bScale, out].map(valuePlace) }];
};

/** Rows of a (m,k) by rows of b (n,k). */
export function float8Gemm(name: string, shape: Pick<LibraryGemm, "m" | "n" | "k" | "outType">, { storedBytes }: SimtTarget): LibraryGemm {
  const { m, n, k, outType } = shape;
  const param = (of: string, elements: number, dtype: SimtParam["dtype"], access: SimtParam["access"] = "read"): SimtParam => ({ name: of, dtype, elements, bytes: elements * storedBytes[dtype]!, access }); // biome-ignore format: such devices keep all of them
  return {
    library: "gemm",
    name,
    params: [
      param("a", m * k, "f8e4m3fn"),
      param("b", n * k, "f8e4m3fn"),
      param("aScale", 1, "f32"),
      param("bScale", 1, "f32"),
      param("out", m * n, outType, "write"),
    ],
    type: "f8e4m3fn",
    outType,
    roundsF32: false,
    tail: NO_TAIL,
    batch: 1,
    m,
    n,
    k,
    isLeftTransposed: false,
    isRightTransposed: true,
    leftStride: 0,
    rightStride: 0,
  };
}
