// Products of dequantized float8 numbers, and with `--precision f8` those with known weights, become products of float8, where a device has a library for them.
import { DTYPES, type DType } from "../ir/dtype.ts";
import { FLOAT8, float8ToNumber, numberToFloat8 } from "../ir/float8.ts";
import { apply, type Builder, type Graph, type Node, type Pass, rewriteGraph, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, toNumbers } from "../ir/tensor.ts";
import { builder } from "../ops/build.ts";
import { Float8MatMul } from "../ops/float8_product.ts";
import { QuantizeLinear } from "../ops/quantize.ts";
import { constantOf, constantValue } from "../ops/source.ts";
import { integerConvolutions } from "./integer_convolutions.ts";
import { madeBy } from "./match.ts";

const TYPE = "f8e4m3fn";
const LARGEST = float8ToNumber(TYPE, FLOAT8[TYPE].largest);
/** Scale of operands that are all zeros. */
const LEAST_SCALE = 2 ** -100;

/** A value as codes times one scale. */
interface Scaled {
  readonly codes: Value;
  readonly scale: Value;
}

/** What a value is the dequantized form of; a transposed one of two axes: with its codes transposed. */
function scaledOf(build: Builder, v: Value): Scaled | null {
  const transposed = madeBy(v, "Transpose");
  if (transposed && v.type.shape.length === 2) {
    const before = scaledOf(build, transposed.inputs[0]!); // it has one
    return before && { ...before, codes: build.op("Transpose", [before.codes], transposed.attrs) };
  }
  const [codes, scale] = madeBy(v, "DequantizeLinear")?.inputs ?? [];
  if (!codes || !scale || codes.type.dtype !== TYPE || elementCount(scale.type.shape) !== 1) return null;
  return { codes, scale: build.cast(scale, "f32") };
}

/** The product, where there is a kernel for it. `right`: (N,K). */
function product(node: Node, left: Scaled, right: Scaled, to: DType, keeps: (node: Node) => boolean): Value | null {
  const [made] = apply(Float8MatMul, [left.codes, left.scale, right.codes, right.scale], { to: DTYPES[to].onnx }, node.from);
  return keeps(made.node) ? made : null;
}

/** Products of values that a file dequantizes. Wants a graph as it was read: folding would make numbers of known weights. */
function float8Products(keeps: (node: Node) => boolean): Pass {
  const rule = (node: Node, [a, b, c]: readonly (Value | null)[]): readonly Value[] | null => {
    const {
      transA = 0,
      transB = 0,
      alpha = 1,
      beta = 1,
    } = node.attrs as { transA?: number; transB?: number; alpha?: number; beta?: number }; // Gemm's
    const isGemm = node.op.name === "Gemm";
    if ((node.op.name !== "MatMul" && !isGemm) || !a || b?.type.shape.length !== 2 || a.type.shape.length < 2) return null;
    if (transA !== 0 || alpha !== 1 || beta !== 1) return null;
    const build = builder(node.from);
    const [left, right] = [scaledOf(build, a), scaledOf(build, b)];
    if (!left || !right) return null;
    const codes = transB ? right.codes : build.op("Transpose", [right.codes], { perm: [1, 0] });
    const made = product(node, left, { ...right, codes }, node.outputs[0].type.dtype, keeps);
    return made && [isGemm && c ? build.op("Add", [made, c]) : made];
  };
  return { name: "float8Products", run: (graph: Graph) => rewriteGraph(graph, rule) };
}

/** Passes for what files multiply in 8 bits. */
export const narrowProducts = (keeps: (node: Node) => boolean): readonly Pass[] => [float8Products(keeps), integerConvolutions(keeps)];

/** Products with known weights: a scale of theirs, and one that the device finds for the other operand each time. Results are rounded to bfloat16. */
export function float8Weights(keeps: (node: Node) => boolean): Pass {
  return {
    name: "float8Weights",
    run(graph: Graph) {
      const activations = new Map<Value, Scaled>();
      const weights = new Map<Value, Scaled>();
      return rewriteGraph(graph, (node, [a, b]) => {
        if (node.op.name !== "MatMul" || !a || !b || !isFit(a, b)) return null;
        const build = builder(node.from);
        const left = known(activations, a, () => measured(build, a));
        const right = known(weights, b, () => encoded(b, node.from));
        const made = product(node, left, right, "bf16", keeps);
        return made && [build.cast(made, "f32")];
      });
    },
  };
}

/** Columns of results from which a scale and codes take less time than they save. */
const LEAST_COLUMNS = 4096;

const isFit = (a: Value, b: Value): boolean =>
  b.type.shape[1] >= LEAST_COLUMNS &&
  b.type.dtype === "f32" &&
  b.type.shape.length === 2 &&
  a.type.shape.length >= 2 &&
  constantOf(b) !== undefined &&
  !constantOf(a);

function known<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const value = map.get(key) ?? make();
  map.set(key, value);
  return value;
}

/** Quantized by its largest size; read as bfloat16, so that the device need not store it in float32. */
function measured(build: Builder, x: Value): Scaled {
  const read = build.cast(build.cast(x, "bf16"), "f32");
  const largest = build.op("ReduceMax", [build.op("Abs", [read])], { keepdims: 0 });
  const scale = build.op("Max", [build.op("Mul", [largest, build.constant("f32", 1 / LARGEST)]), build.constant("f32", LEAST_SCALE)]);
  return { codes: build.op(QuantizeLinear, [read, scale], { output_dtype: DTYPES[TYPE].onnx }), scale };
}

/** Weights (K,N) as codes (N,K). */
function encoded(w: Value, from: string): Scaled {
  const [k, n] = w.type.shape;
  const numbers = toNumbers(constantOf(w)!); // isFit has seen it
  const scale = Math.fround(Math.max(numbers.reduce((most, v) => Math.max(most, Math.abs(v)), 0) / LARGEST, LEAST_SCALE));
  const turned = new Float32Array(k * n);
  for (let p = 0; p < k; p++) for (let j = 0; j < n; j++) turned[j * k + p] = numbers[p * n + j] / scale;
  const codes = constantValue({ dtype: TYPE, shape: [n, k], data: Uint8Array.from(turned, (x) => numberToFloat8(TYPE, x, true)) }, from);
  return { codes, scale: constantValue(fromNumbers("f32", [], [scale]), from) };
}
