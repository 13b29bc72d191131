// Products of small integers: ConvInteger, MatMulInteger, QLinearConv, QLinearMatMul, as products of floats that hold the integers exactly, over as much of the depth as their sums are exact.
import type { DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { apply, type Builder, defineOp, type Op, type Value } from "../ir/graph.ts";
import { elementCount, type Shape, toNumbers } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { Conv, type ConvAttrs } from "./conv.ts";
import { emittable, inputType, scalarOf, tensorOf, u8 } from "./define.ts";
import { MatMul, productGeometry } from "./matmul.ts";
import { integerRange, QuantizeLinear } from "./quantize.ts";
import { constantOf, input } from "./source.ts";
import { SLIDE_ATTRS, slideAttrs } from "./spatial.ts";

const BYTES: readonly DType[] = ["u8", "i8"];

/** Largest |x − zero point| that can occur. */
function reach(x: Value, zero: Value | null): number {
  const range = (v: Value) => {
    const known = constantOf(v);
    if (!known) return integerRange(v.type.dtype);
    const numbers = toNumbers(known);
    return { lo: numbers.reduce((a, b) => Math.min(a, b), 0), hi: numbers.reduce((a, b) => Math.max(a, b), 0) };
  };
  const [a, z] = [range(x), zero ? range(zero) : { lo: 0, hi: 0 }];
  return Math.max(a.hi - z.lo, z.hi - a.lo);
}

/** Of how many products float32 holds every sum exactly. */
const exactCount = (a: number, b: number): number => Math.ceil(2 ** 24 / Math.max(1, a * b)) - 1;

/** The sum of `part(from, to)` over parts of at most `most`: of one its own, of several as integers. */
function sumOfParts(build: Builder, depth: number, most: number, part: (from: number, to: number) => Value): Value {
  const count = Math.max(1, Math.ceil(depth / most));
  const size = Math.ceil(depth / count);
  const parts = Array.from({ length: count }, (_, i) => part(i * size, Math.min(depth, (i + 1) * size)));
  return parts.length === 1 ? parts[0] : parts.map((p) => build.cast(p, "i32")).reduce((sum, p) => build.op("Add", [p, sum]));
}

/** All of an axis, or elements [from, to) of it. */
const along = (build: Builder, x: Value, axis: number, from: number, to: number): Value =>
  from === 0 && to === x.type.shape[axis] ? x : build.op("Slice", [x, build.ints(from), build.ints(to), build.ints(axis)]);

/** x − zero point, as floats; `shape` is what a zero point with one axis becomes. */
function centered(build: Builder, x: Value, zero: Value | null, dtype: DType, shape: (count: number) => Shape): Value {
  const wide = build.cast(x, dtype);
  return zero ? build.op("Sub", [wide, build.cast(spread(build, zero, shape), dtype)]) : wide;
}

/** A list of numbers, as the shape in which it broadcasts; scalars and others as they are. */
const spread = (build: Builder, v: Value, shape: (count: number) => Shape): Value =>
  v.type.shape.length === 1 ? build.reshape(v, v.type.shape[0] === 1 ? [] : shape(v.type.shape[0])) : v;

const asRow = (count: number): Shape => [count];
const asColumn = (count: number): Shape => [count, 1];
const asWeights =
  (rank: number) =>
  (count: number): Shape => [count, ...new Array<number>(rank - 1).fill(1)];
const asChannels =
  (rank: number) =>
  (count: number): Shape => [count, ...new Array<number>(rank - 2).fill(1)];

function checkZero(op: string, inputs: readonly (Value | null)[], i: number, dtype: DType, lengths: readonly number[]): void {
  if (!inputs[i]) return;
  const { shape } = inputType(op, inputs, i, [dtype]);
  checkLength(op, i, shape, lengths);
}

function checkLength(op: string, i: number, shape: Shape, lengths: readonly number[]): void {
  if (shape.length > 1 || (shape.length === 1 && shape[0] !== 1 && !lengths.includes(shape[0])))
    throw new HeddleError(
      "bad-model",
      `${op}: input ${i} is (${shape}), wanted one number${lengths.length ? ` or ${lengths.join(", ")}` : ""}`,
    );
}

/** a − its zero point, times b − its own: as float32, or as integers. */
function matMulExact(build: Builder, [a, aZero, b, bZero]: readonly [Value, Value | null, Value, Value | null]): Value {
  const [left, right] = [centered(build, a, aZero, "f32", asColumn), centered(build, b, bZero, "f32", asRow)];
  const [inner, outer] = [a.type.shape.length - 1, Math.max(0, b.type.shape.length - 2)];
  return sumOfParts(build, a.type.shape[inner], exactCount(reach(a, aZero), reach(b, bZero)), (from, to) =>
    build.op(MatMul, [along(build, left, inner, from, to), along(build, right, outer, from, to)]),
  );
}

const MatMulInteger: Op = defineOp<object>({
  name: "MatMulInteger",
  kind: "opaque",
  attrs: {},
  infer(inputs) {
    const [a, b] = [0, 1].map((i) => inputType("MatMulInteger", inputs, i, BYTES));
    const g = productGeometry("MatMulInteger", a.shape, b.shape);
    checkZero("MatMulInteger", inputs, 2, a.dtype, [g.m]);
    checkZero("MatMulInteger", inputs, 3, b.dtype, [g.n]);
    return [{ dtype: "i32", shape: g.shape }];
  },
  expand([a, b, aZero, bZero], _, node) {
    const build = builder(node.from);
    return [build.cast(matMulExact(build, [a!, aZero ?? null, b!, bZero ?? null]), "i32")]; // checked by infer
  },
  flops: (node) => 2 * elementCount(node.outputs[0].type.shape) * (node.inputs[0]!.type.shape.at(-1) ?? 1),
  samples: [
    { inputs: [u8(3, 5), u8(5, 4)] },
    { inputs: [u8(2, 3, 300), tensorOf("i8", new Array(600).fill(-7), [300, 2]), scalarOf("u8", 12), scalarOf("i8", 1)] },
    { inputs: [u8(2, 3), u8(3, 2), tensorOf("u8", [1, 2]), tensorOf("u8", [3, 4])] },
    { inputs: [tensorOf("u8", new Array(1200).fill(255), [2, 600]), tensorOf("u8", new Array(1800).fill(254), [600, 3])] }, // sums beyond 2²⁴
  ],
});

/** The product in the scale of the output: times one factor, a number that is found once. */
function requantized(build: Builder, product: Value, [a, b, y]: readonly Value[], zero: Value): Value {
  const wide = build.cast(product, "f32");
  const scale = build.op("Mul", [build.cast(a, "f32"), build.cast(b, "f32")]);
  const factor = build.op("Div", [scale, build.cast(build.reshape(y, []), "f32")]);
  return build.op(QuantizeLinear, [build.op("Mul", [wide, factor]), build.constant("f32", 1), build.reshape(zero, [])]);
}

const QLinearMatMul: Op = defineOp<object>({
  name: "QLinearMatMul",
  kind: "opaque",
  attrs: {},
  infer(inputs) {
    const op = "QLinearMatMul";
    const [a, b] = [0, 3].map((i) => inputType(op, inputs, i, BYTES));
    const g = productGeometry(op, a.shape, b.shape);
    checkZero(op, inputs, 2, a.dtype, [g.m]);
    checkZero(op, inputs, 5, b.dtype, [g.n]);
    for (const [i, lengths] of [
      [1, [g.m]],
      [4, [g.n]],
      [6, []],
    ] as const)
      checkLength(op, i, inputType(op, inputs, i, ["f32", "f16", "bf16"]).shape, lengths);
    const zero = inputType(op, inputs, 7, BYTES);
    checkLength(op, 7, zero.shape, []);
    return [{ dtype: zero.dtype, shape: g.shape }];
  },
  expand(inputs, _, node) {
    const build = builder(node.from);
    const [a, aScale, aZero, b, bScale, bZero, yScale, yZero] = inputs.map((v) => v!); // infer has seen all eight
    const product = build.op(MatMulInteger, [a, b, aZero, bZero]);
    return [requantized(build, product, [spread(build, aScale, asColumn), spread(build, bScale, asRow), yScale], yZero)];
  },
  flops: (node) => 2 * elementCount(node.outputs[0].type.shape) * (node.inputs[0]!.type.shape.at(-1) ?? 1),
  samples: [
    {
      inputs: [
        u8(3, 5),
        scalarOf("f32", 0.1),
        scalarOf("u8", 3),
        u8(5, 4),
        scalarOf("f32", 0.2),
        scalarOf("u8", 2),
        scalarOf("f32", 0.5),
        scalarOf("u8", 9),
      ],
    },
  ],
});

const CONV_ATTRS = { ...SLIDE_ATTRS, group: { type: "int", default: 1 } } as const;

/** Output shape of a convolution of these types. Throws as Conv does. */
function convShape(op: string, x: Shape, w: Shape, attrs: ConvAttrs): Shape {
  try {
    return apply(Conv, [input("x", { dtype: "f32", shape: x }), input("w", { dtype: "f32", shape: w })], { ...attrs })[0].type.shape;
  } catch (e) {
    if (!(e instanceof HeddleError)) throw e;
    throw new HeddleError(e.code, e.message.replace(/^Conv:/, `${op}:`), { cause: e });
  }
}

/** x − its zero point, convolved with w − its own: as floats, or as integers; pads hold the zero point, which is 0 here. */
function convExact(build: Builder, [x, xZero, w, wZero]: readonly [Value, Value | null, Value, Value | null], attrs: ConvAttrs): Value {
  const { shape } = w.type;
  const channels = Math.floor(exactCount(reach(x, xZero), reach(w, wZero)) / elementCount(shape.slice(2)));
  // Parts of the channels of several groups are no groups; nor is there a part of one channel.
  const isExact = shape[1] <= channels || (attrs.group === 1 && channels > 0);
  const dtype: DType = isExact ? "f32" : "f64";
  const weights = centered(build, w, wZero, dtype, asWeights(shape.length));
  const image = centered(build, x, xZero, dtype, asRow);
  const axis = attrs.layout === "NHWC" ? x.type.shape.length - 1 : 1;
  return sumOfParts(build, shape[1], isExact ? channels : shape[1], (from, to) => {
    const own = attrs.group === 1 ? along(build, image, axis, from, to) : image;
    return build.op(Conv, [own, along(build, weights, 1, from, to)], { ...attrs });
  });
}

const convFlops = (w: Value, out: Shape): number => 2 * elementCount(out) * elementCount(w.type.shape.slice(1));

export const ConvInteger: Op = defineOp<ConvAttrs>({
  name: "ConvInteger",
  kind: "opaque",
  attrs: CONV_ATTRS,
  infer(inputs, attrs) {
    const [x, w] = [0, 1].map((i) => inputType("ConvInteger", inputs, i, BYTES));
    checkZero("ConvInteger", inputs, 2, x.dtype, []);
    checkZero("ConvInteger", inputs, 3, w.dtype, [w.shape[0]]);
    return [{ dtype: "i32", shape: convShape("ConvInteger", x.shape, w.shape, attrs) }];
  },
  expand([x, w, xZero, wZero], attrs, node) {
    const build = builder(node.from);
    return [build.cast(convExact(build, [x!, xZero ?? null, w!, wZero ?? null], attrs), "i32")]; // checked by infer
  },
  importOnnx: ({ emit, inputs, attrs }) => emit(emittable(ConvInteger), inputs, slideAttrs("ConvInteger", attrs)),
  flops: (node) => convFlops(node.inputs[1]!, node.outputs[0].type.shape),
  samples: [
    { inputs: [u8(1, 2, 5, 5), u8(3, 2, 3, 3), scalarOf("u8", 2)], attrs: { pads: [1, 1, 1, 1] } },
    { inputs: [tensorOf("u8", new Array(600).fill(255), [1, 300, 1, 2]), tensorOf("u8", new Array(1200).fill(253), [2, 300, 1, 2])] },
  ],
});

const QLinearConv: Op = defineOp<ConvAttrs>({
  name: "QLinearConv",
  kind: "opaque",
  attrs: CONV_ATTRS,
  infer(inputs, attrs) {
    const op = "QLinearConv";
    const [x, w] = [0, 3].map((i) => inputType(op, inputs, i, BYTES));
    const shape = convShape(op, x.shape, w.shape, attrs);
    const channels = w.shape[0];
    checkZero(op, inputs, 2, x.dtype, []);
    checkZero(op, inputs, 5, w.dtype, [channels]);
    for (const [i, lengths] of [
      [1, []],
      [4, [channels]],
      [6, []],
    ] as const)
      checkLength(op, i, inputType(op, inputs, i, ["f32"]).shape, lengths);
    const zero = inputType(op, inputs, 7, BYTES);
    checkLength(op, 7, zero.shape, []);
    if (inputs[8] && inputType(op, inputs, 8, ["i32"]).shape.join() !== `${channels}`)
      throw new HeddleError("bad-model", `${op}: bias (${inputs[8].type.shape}) does not fit ${channels} output channels`);
    return [{ dtype: zero.dtype, shape }];
  },
  expand(inputs, attrs, node) {
    const build = builder(node.from);
    const [x, xScale, xZero, w, wScale, wZero, yScale, yZero] = inputs.map((v) => v!); // infer has seen the first eight
    const bias = inputs[8];
    const rank = x.type.shape.length;
    const perChannel = attrs.layout === "NHWC" ? asRow : asChannels(rank);
    const product = convExact(build, [x, xZero, w, wZero], attrs);
    const sum = bias ? build.op("Add", [product, build.cast(spread(build, bias, perChannel), product.type.dtype)]) : product;
    return [requantized(build, sum, [build.reshape(xScale, []), spread(build, wScale, perChannel), yScale], yZero)];
  },
  importOnnx: ({ emit, inputs, attrs }) => emit(emittable(QLinearConv), inputs, slideAttrs("QLinearConv", attrs)),
  flops: (node) => convFlops(node.inputs[3]!, node.outputs[0].type.shape),
  samples: [
    {
      inputs: [
        ...[u8(1, 2, 5, 5), scalarOf("f32", 0.1), scalarOf("u8", 3)],
        ...[u8(3, 2, 3, 3), tensorOf("f32", [0.1, 0.2, 0.3]), tensorOf("u8", [1, 2, 3])],
        ...[scalarOf("f32", 0.5), scalarOf("u8", 100), tensorOf("i32", [5, -7, 20])],
      ],
      attrs: { pads: [1, 1, 1, 1] },
    },
  ],
});

export const quantizedProductOps: readonly Op[] = [MatMulInteger, QLinearMatMul, ConvInteger, QLinearConv];
