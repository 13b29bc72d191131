// QLinearConv and ConvInteger with known weights become convolutions of signed bytes, where a device has a library for them: zero points go to the bias and the border.
import { DTYPES } from "../ir/dtype.ts";
import { apply, type Builder, type Graph, type Node, type Pass, rewriteGraph, type Value } from "../ir/graph.ts";
import { elementCount, toNumbers } from "../ir/tensor.ts";
import { builder } from "../ops/build.ts";
import { convGeometry } from "../ops/conv.ts";
import { Int8Conv } from "../ops/int8_conv.ts";
import { QuantizeLinear } from "../ops/quantize.ts";
import { constantOf } from "../ops/source.ts";
import { numberOf } from "./match.ts";

/** What a convolution is made of, all but x known. */
interface Known {
  readonly x: Value;
  readonly xZero: number;
  /** Around the middle of their type. */
  readonly weights: Float64Array;
  readonly shape: readonly number[];
  readonly bias: readonly number[];
}

const middleOf = (v: Value): number => (v.type.dtype === "u8" ? 128 : 0);

/** Null where something is not known, or the weights' zero point is not the middle of their type. */
function knownOf(x: Value, xZero: Value | null, w: Value, wZero: Value | null, bias: Value | null): Known | null {
  const [weights, added] = [constantOf(w), constantOf(bias)];
  const zero = xZero ? numberOf(xZero) : 0;
  const middle = middleOf(w);
  const zeros = wZero ? constantOf(wZero) : null;
  const isCentred = wZero ? zeros && toNumbers(zeros).every((z) => z === middle) : middle === 0;
  if (!weights || zero === undefined || !isCentred || (bias && !added)) return null;
  return {
    x,
    xZero: zero,
    weights: toNumbers(weights).map((v) => v - middle),
    shape: w.type.shape,
    bias: added ? [...toNumbers(added)] : new Array<number>(w.type.shape[0]).fill(0),
  };
}

/** Σ(x − z)·w + b = Σ(x' − z')·w + b, as bytes around 0: z' goes to the bias, and around the image, where it is not 0. */
function convolution(build: Builder, node: Node, known: Known, factor: readonly number[] | null, to: number): Value {
  const { x, weights, shape, bias } = known;
  const middle = middleOf(x);
  const zero = known.xZero - middle;
  const image = middle === 0 ? x : build.cast(build.op("Sub", [build.cast(x, "i32"), build.constant("i32", middle)]), "i8");
  const depth = elementCount(shape.slice(1));
  const moved = bias.map((b, m) => b - zero * weights.subarray(m * depth, (m + 1) * depth).reduce((a, v) => a + v, 0));
  const extra = [build.constant("i8", [...weights], shape), build.constant("i32", moved), factor && build.constant("f32", factor)];
  const made = (from: Value, attrs: object): Value => apply(Int8Conv, [from, ...extra], { ...attrs, to }, node.from)[0];
  const whole = made(image, node.attrs);
  const { padsBegin, padsEnd } = convGeometry(whole.node);
  const pads = [0, 0, ...padsBegin, 0, 0, ...padsEnd];
  if (zero === 0 || pads.every((p) => p === 0)) return whole;
  const { auto_pad: _, pads: __, ...rest } = node.attrs as { auto_pad?: unknown; pads?: unknown }; // Int8Conv's defaults are none
  return made(build.op("Pad", [image, build.ints(...pads), build.constant("i8", zero)]), rest);
}

function ofFloats(node: Node, keeps: (node: Node) => boolean, inputs: readonly (Value | null)[]): readonly Value[] | null {
  const [x, xScale, xZero, w, wScale, wZero, yScale, yZero, bias = null] = inputs as readonly Value[]; // infer has seen the first eight
  const known = knownOf(x, xZero, w, wZero, bias);
  const [a, y, zero] = [xScale, yScale, yZero].map(numberOf);
  const scales = constantOf(wScale);
  if (!known || !scales || a === undefined || y === undefined || zero === undefined) return null;
  const build = builder(node.from);
  const list = toNumbers(scales);
  const factors = known.bias.map((_, m) => Math.fround(Math.fround(a * list[list.length === 1 ? 0 : m]) / y));
  const made = convolution(build, node, known, factors, DTYPES[zero === 0 ? yZero.type.dtype : "f32"].onnx);
  if (!keeps(made.node)) return null;
  return [zero === 0 ? made : build.op(QuantizeLinear, [made, build.constant("f32", 1), build.reshape(yZero, [])])];
}

function ofIntegers(node: Node, keeps: (node: Node) => boolean, inputs: readonly (Value | null)[]): readonly Value[] | null {
  const [x, w, xZero = null, wZero = null] = inputs;
  const known = knownOf(x!, xZero, w!, wZero, null); // infer has seen both
  const made = known && convolution(builder(node.from), node, known, null, DTYPES.i32.onnx);
  return made && keeps(made.node) ? [made] : null;
}

/** Wants a graph whose operators are not expanded yet. `keeps`: whether there is a kernel for a node. */
export function integerConvolutions(keeps: (node: Node) => boolean): Pass {
  return {
    name: "integerConvolutions",
    run: (graph: Graph) =>
      rewriteGraph(graph, (node, inputs) => {
        if ((node.attrs as { group?: number }).group !== 1) return null;
        return node.op.name === "QLinearConv" ? ofFloats(node, keeps, inputs) : node.op.name === "ConvInteger" ? ofIntegers(node, keeps, inputs) : null; // biome-ignore format: short
      }),
  };
}
