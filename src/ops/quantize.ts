// Between floats and small integers, or float8 numbers: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear; one scale for all, for each slice of an axis, or for each block.
import { DTYPES, type DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { call, cast, constant, type Expr } from "../ir/expr.ts";
import { FLOAT8_TYPES, isFloat8 } from "../ir/float8.ts";
import { type AttrSpec, defineOp, type Op, type Reader, type Value } from "../ir/graph.ts";
import { constIndex, divIndex, type Index } from "../ir/index_expr.ts";
import { elementCount, type Shape } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { dtypeAttribute } from "./cast.ts";
import { checkDType, FLOATS, f32, inputType, normalizeAxis, scalarOf, tensorOf, the, u8 } from "./define.ts";
import { checkZero, fromFloat8, toFloat8 } from "./float8.ts";

const SMALL: readonly DType[] = ["u8", "i8", "u16", "i16", ...FLOAT8_TYPES];

/** Least and largest value of an integer type. */
export function integerRange(dtype: DType): { lo: number; hi: number } {
  const { bytes, kind } = DTYPES[dtype];
  const bits = 8 * bytes;
  return kind === "uint" ? { lo: 0, hi: 2 ** bits - 1 } : { lo: -(2 ** (bits - 1)), hi: 2 ** (bits - 1) - 1 };
}

interface ScaleAttrs {
  readonly axis: number;
  readonly block_size: number;
  /** Whether a float8 that would be too large is the largest. */
  readonly saturate: number;
}

const SCALE_ATTRS: Readonly<Record<string, AttrSpec>> = {
  axis: { type: "int", default: 1 },
  block_size: { type: "int", default: 0 },
  saturate: { type: "int", default: 1 },
  output_dtype: { type: "int", default: 0 },
  precision: { type: "int", default: 0 },
};

const isSingle = (shape: Shape): boolean => elementCount(shape) === 1 && shape.length <= 1;

/** Where the scale of element `index` of x is. */
function scaleIndex(index: readonly Index[], scale: Shape, x: Shape, { axis, block_size }: ScaleAttrs): Index[] {
  if (isSingle(scale)) return scale.map(() => constIndex(0));
  const at = axis < 0 ? axis + x.length : axis;
  if (scale.length === 1) return [index[at]];
  return index.map((i, a) => (a === at ? divIndex(i, block_size) : i));
}

function checkScale(op: string, inputs: readonly (Value | null)[], x: Shape, { axis, block_size }: ScaleAttrs): void {
  const { shape } = inputType(op, inputs, 1, FLOATS);
  const zero = inputs[2]?.type.shape;
  const bad = (why: string) => new HeddleError("bad-model", `${op}: the scale is (${shape}), x is (${x}): ${why}`);
  if (zero && zero.join() !== shape.join() && !(isSingle(zero) && isSingle(shape))) throw bad(`the zero point is (${zero})`);
  checkZero(inputs, bad);
  if (isSingle(shape)) return;
  const at = normalizeAxis(op, axis, x.length);
  if (block_size > 0) {
    const blocks = x.with(at, Math.ceil(x[at] / block_size));
    if (shape.join() !== blocks.join()) throw bad(`wanted (${blocks}) for blocks of ${block_size}`);
  } else if (shape.length !== 1 || shape[0] !== x[at]) throw bad(`wanted one number, or ${x[at]} for axis ${at}`);
}

/** round(x / scale) + zero point, kept inside of the type; float8 numbers have no zero point. */
function quantized(x: Expr, scale: Expr, zero: Expr | null, to: DType, saturate: number): Expr {
  const dtype: DType = scale.dtype === "f64" ? "f64" : "f32";
  // The quotient is rounded to its type first (nothing to do but in the float64 reference): quotients just beside a half become one.
  const quotient: Expr = { k: "cast", dtype, a: call("div", cast(dtype, x), cast(dtype, scale)) };
  if (isFloat8(to)) return toFloat8(quotient, to, saturate, false);
  const steps = call("round", quotient);
  const moved = zero ? call("add", steps, cast(dtype, zero)) : steps;
  const { lo, hi } = integerRange(to);
  return cast(to, call("min", call("max", moved, constant(dtype, lo)), constant(dtype, hi)));
}

function resultType(inputs: readonly (Value | null)[], output_dtype: number): DType {
  const asked = output_dtype ? dtypeAttribute("QuantizeLinear", output_dtype) : undefined;
  const zero = inputs[2]?.type.dtype;
  if (asked && zero && asked !== zero)
    throw new HeddleError("bad-model", `QuantizeLinear: output_dtype is ${asked}, the zero point is ${zero}`);
  const dtype = zero ?? asked ?? "u8";
  checkDType("QuantizeLinear", 2, dtype, SMALL);
  return dtype;
}

/** Reads the scale, or the zero point, of each element. */
const readScale = (reader: Reader, index: readonly Index[], x: Shape, attrs: ScaleAttrs): Expr =>
  reader.at(scaleIndex(index, reader.type.shape, x, attrs));

export const QuantizeLinear: Op = defineOp<ScaleAttrs & { output_dtype: number }>({
  name: "QuantizeLinear",
  kind: "map",
  attrs: SCALE_ATTRS,
  infer(inputs, attrs) {
    const { shape } = inputType("QuantizeLinear", inputs, 0, [...FLOATS, "i32"]);
    checkScale("QuantizeLinear", inputs, shape, attrs);
    return [{ dtype: resultType(inputs, attrs.output_dtype), shape }];
  },
  lower([input, scale, zero], node) {
    const x = the(input);
    const { type } = node.outputs[0];
    const at = (index: readonly Index[]): Expr => {
      const read = (r: Reader) => readScale(r, index, type.shape, node.attrs);
      return quantized(x.at(index), read(the(scale)), zero ? read(zero) : null, type.dtype, node.attrs.saturate);
    };
    return [{ type, at }];
  },
  samples: [
    { inputs: [f32(3, 5), scalarOf("f32", 0.1), scalarOf("u8", 128)], range: [-20, 20] },
    { inputs: [f32(2, 3, 4), tensorOf("f32", [0.1, 0.2, 0.5]), tensorOf("i8", [0, -5, 7])] },
    { inputs: [f32(2, 6), tensorOf("f32", [1, 2, 3, 4], [2, 2])], attrs: { block_size: 3 } },
    { inputs: [f32(7), scalarOf("f32", 0.01)] },
    { inputs: [f32(3, 5), scalarOf("f32", 0.1), scalarOf("f8e4m3fn", 0)], range: [-60, 60] },
    { inputs: [f32(2, 3), tensorOf("f32", [0.1, 2, 5]), tensorOf("f8e5m2", [0, 0, 0])] },
  ],
});

export const DequantizeLinear: Op = defineOp<ScaleAttrs>({
  name: "DequantizeLinear",
  kind: "map",
  attrs: SCALE_ATTRS,
  infer(inputs, attrs) {
    const x = inputType("DequantizeLinear", inputs, 0, [...SMALL, "i32"]);
    checkScale("DequantizeLinear", inputs, x.shape, attrs);
    if (inputs[2]) inputType("DequantizeLinear", inputs, 2, [x.dtype]);
    return [{ dtype: inputs[1]!.type.dtype, shape: x.shape }]; // checkScale has seen it
  },
  lower([input, scale, zero], node) {
    const x = the(input);
    const { type } = node.outputs[0];
    const at = (index: readonly Index[]): Expr => {
      const read = (r: Reader) => readScale(r, index, type.shape, node.attrs);
      const given = x.at(index);
      const { dtype } = given;
      const whole = isFloat8(dtype) ? fromFloat8(given) : cast("i32", given);
      const moved = zero && !isFloat8(dtype) ? call("sub", whole, cast("i32", read(zero))) : whole;
      const wide: DType = type.dtype === "f64" ? "f64" : "f32";
      return cast(type.dtype, call("mul", cast(wide, moved), cast(wide, read(the(scale)))));
    };
    return [{ type, at }];
  },
  samples: [
    { inputs: [u8(3, 5), scalarOf("f32", 0.1), scalarOf("u8", 3)] },
    { inputs: [tensorOf("i8", [-128, 0, 5, 127], [2, 2]), tensorOf("f32", [0.1, 2]), tensorOf("i8", [1, -1])], attrs: { axis: 0 } },
    { inputs: [tensorOf("i32", [-1000, 70000]), scalarOf("f32", 0.5)] },
    { inputs: [tensorOf("f8e4m3fn", [-1, 0.25, 448, 2 ** -9], [2, 2]), tensorOf("f32", [0.1, 2])], attrs: { axis: 0 } },
    { inputs: [u8(4, 2), tensorOf("f32", [1, 2, 3, 4], [2, 2])], attrs: { axis: -2, block_size: 2 } },
  ],
});

/** Scale and zero point from the extremes of x, which count 0 in so that it stays exact. */
const DynamicQuantizeLinear: Op = defineOp<object>({
  name: "DynamicQuantizeLinear",
  kind: "opaque",
  attrs: {},
  infer(inputs) {
    const { shape } = inputType("DynamicQuantizeLinear", inputs, 0, ["f32"]);
    return [
      { dtype: "u8", shape },
      { dtype: "f32", shape: [] },
      { dtype: "u8", shape: [] },
    ];
  },
  expand([x], _, node) {
    const build = builder(node.from);
    const scalar = (v: number) => build.constant("f32", v);
    const zero = scalar(0);
    const extreme = (reduce: string, bound: string) => build.op(bound, [build.op(reduce, [x!], { keepdims: 0 }), zero]); // checked by infer
    const [max, min] = [extreme("ReduceMax", "Max"), extreme("ReduceMin", "Min")];
    const raw = build.op("Div", [build.op("Sub", [max, min]), scalar(255)]);
    const scale = build.op("Where", [build.op("Equal", [raw, zero]), scalar(1), raw]);
    const place = build.op("Round", [build.op("Div", [build.op("Neg", [min]), scale])]);
    const zeroPoint = build.cast(build.op("Clip", [place, zero, scalar(255)]), "u8");
    return [build.op(QuantizeLinear, [x!, scale, zeroPoint]), scale, zeroPoint];
  },
  samples: [{ inputs: [f32(3, 5)] }, { inputs: [tensorOf("f32", [0, 0])] }],
});

export const quantizeOps: readonly Op[] = [QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear];
