// Values made from positions: ConstantOfShape, Range, EyeLike, OneHot, Trilu, and the sizes of tensors: Shape, Size.
import { DTYPES, type DType, isFloat } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { call, constant, type Expr, select, within } from "../ir/expr.ts";
import { asCodes } from "../ir/float8.ts";
import { defineOp, type Op, type Value } from "../ir/graph.ts";
import { addIndex, constIndex, type Index, mulIndex, subIndex, valueIndex } from "../ir/index_expr.ts";
import { elementCount, type TensorData, toNumbers } from "../ir/tensor.ts";
import { dtypeAttribute } from "./cast.ts";
import {
  ALL,
  constantNumbers,
  f32,
  i64,
  inputType,
  ints,
  NUMBERS,
  normalizeAxis,
  requiredNumbers,
  scalarOf,
  tensorOf,
  the,
} from "./define.ts";
import { noGradient } from "./gradient.ts";

const indexValue = (dtype: DType, at: Index): Expr => ({ k: "index", dtype, at });

/** The one element of attribute `value`; float32 zero by default. */
const fillOf = (value: TensorData | undefined): Expr => (value ? constant(value.dtype, toNumbers(asCodes(value))[0]) : constant("f32", 0));

const ConstantOfShape: Op = defineOp<{ value?: TensorData }>({
  name: "ConstantOfShape",
  kind: "map",
  attrs: { value: { type: "tensor", optional: true } },
  infer(inputs, { value }) {
    const shape = requiredNumbers("ConstantOfShape", inputs, 0, "the shape");
    if (shape.some((d) => d < 0)) throw new HeddleError("bad-model", `ConstantOfShape: shape (${shape}) has a negative size`);
    if (value && value.data.length !== 1)
      throw new HeddleError("bad-model", `ConstantOfShape: value has ${value.data.length} elements, wanted 1`);
    return [{ dtype: fillOf(value).dtype, shape }];
  },
  lower: (_, node) => [{ type: node.outputs[0].type, at: () => fillOf(node.attrs.value) }],
  flops: () => 0,
  samples: [{ inputs: [ints(3, 5)], attrs: { value: tensorOf("i64", [7]) } }, { inputs: [ints(2, 0)] }, { inputs: [ints(1)] }],
});

function rangeOf(inputs: readonly (Value | null)[]): { start: number; count: number; delta: number } {
  const [start, limit, delta] = ["the start", "the limit", "the step"].map((what, i) => requiredNumbers("Range", inputs, i, what)[0]);
  if (delta === 0) throw new HeddleError("bad-model", "Range: the step is 0");
  return { start, delta, count: Math.max(0, Math.ceil((limit - start) / delta)) };
}

const Range: Op = defineOp<object>({
  name: "Range",
  kind: "map",
  attrs: {},
  infer: (inputs) => [{ dtype: inputType("Range", inputs, 0, NUMBERS).dtype, shape: [rangeOf(inputs).count] }],
  lower(_, node) {
    const { type } = node.outputs[0];
    const { start, delta } = rangeOf(node.inputs);
    const isWhole = Number.isInteger(start) && Number.isInteger(delta);
    return [
      {
        type,
        at([i]) {
          if (isWhole) return indexValue(type.dtype, addIndex(mulIndex(i, delta), start));
          const steps = call("mul", indexValue(type.dtype, i), constant(type.dtype, delta));
          return call("add", constant(type.dtype, start), steps);
        },
      },
    ];
  },
  samples: [
    { inputs: [scalarOf("f32", 1), scalarOf("f32", 5), scalarOf("f32", 0.5)] },
    { inputs: [scalarOf("i64", 10), scalarOf("i64", -7), scalarOf("i64", -3)] },
    { inputs: [scalarOf("i32", 3), scalarOf("i32", 3), scalarOf("i32", 1)] },
  ],
});

const EyeLike: Op = defineOp<{ dtype?: number; k: number }>({
  name: "EyeLike",
  kind: "map",
  attrs: { dtype: { type: "int", optional: true }, k: { type: "int", default: 0 } },
  infer(inputs, { dtype }) {
    const x = inputType("EyeLike", inputs, 0);
    if (x.shape.length !== 2) throw new HeddleError("bad-model", `EyeLike: got shape (${x.shape}), wanted two axes`);
    return [{ dtype: dtype === undefined ? x.dtype : dtypeAttribute("EyeLike", dtype), shape: x.shape }];
  },
  lower(_, node) {
    const { type } = node.outputs[0];
    const at = ([row, column]: readonly Index[]): Expr => {
      const isOn = within(addIndex(subIndex(column, row), -node.attrs.k), 0, 1);
      return select(isOn, constant(type.dtype, 1), constant(type.dtype, 0));
    };
    return [{ type, at }];
  },
  vjp: noGradient,
  samples: [
    { inputs: [f32(3, 5)], attrs: { k: 1 } },
    { inputs: [f32(4, 4)], attrs: { dtype: DTYPES.i64.onnx, k: -2 } },
  ],
});

const OneHot: Op = defineOp<{ axis: number }>({
  name: "OneHot",
  kind: "map",
  attrs: { axis: { type: "int", default: -1 } },
  infer(inputs, { axis }) {
    const { shape } = inputType("OneHot", inputs, 0, NUMBERS);
    const [depth] = requiredNumbers("OneHot", inputs, 1, "the depth");
    const values = inputType("OneHot", inputs, 2);
    const at = normalizeAxis("OneHot", axis, shape.length + 1);
    return [{ dtype: values.dtype, shape: shape.toSpliced(at, 0, Math.trunc(depth)) }];
  },
  lower([indices, , values], node) {
    const { type } = node.outputs[0];
    const axis = normalizeAxis("OneHot", node.attrs.axis, type.shape.length);
    const at = (index: readonly Index[]): Expr => {
      const place = the(indices).at(index.toSpliced(axis, 1));
      const zero = constant(place.dtype, 0);
      const depth = type.shape[axis];
      const wrapped = select(call("lt", place, zero), call("add", place, constant(place.dtype, depth)), place);
      // A whole number outside of the axis is limited to the places next to it, where no element is.
      const isOn = isFloat(place.dtype)
        ? call("eq", wrapped, indexValue(place.dtype, index[axis]))
        : within(subIndex(valueIndex(wrapped, -1, depth), index[axis]), 0, 1);
      return select(isOn, the(values).at([constIndex(1)]), the(values).at([constIndex(0)]));
    };
    return [{ type, at }];
  },
  // The sums of the gradient where the value is off, and where it is on.
  vjp({ build, grad }, { inputs: [indices, depth], attrs }) {
    const dy = grad(0)!; // the only output
    const sums = [
      [1, 0],
      [0, 1],
    ].map((values) => {
      const isChosen = build.op("OneHot", [indices, depth, build.constant(dy.type.dtype, values)], attrs);
      return build.reshape(build.op("ReduceSum", [build.op("Mul", [dy, isChosen])], { keepdims: 0 }), [1]);
    });
    return [null, null, build.op("Concat", sums, { axis: 0 })];
  },
  samples: [
    { inputs: [tensorOf("i64", [1, -2, 9, 0]), scalarOf("i64", 5), tensorOf("f32", [0.5, 3])] },
    { inputs: [tensorOf("i32", [1, 0, 2, 2], [2, 2]), ints(3), tensorOf("f32", [0, 1])], attrs: { axis: 1 } },
  ],
});

const Trilu: Op = defineOp<{ upper: number }>({
  name: "Trilu",
  kind: "view",
  attrs: { upper: { type: "int", default: 1 } },
  infer(inputs) {
    const x = inputType("Trilu", inputs, 0);
    if (x.shape.length < 2) throw new HeddleError("bad-model", `Trilu: got shape (${x.shape}), wanted two axes or more`);
    constantNumbers("Trilu", inputs, 1, "the diagonal");
    return [x];
  },
  lower([x], node) {
    const [k] = constantNumbers("Trilu", node.inputs, 1, "the diagonal") ?? [0];
    const { type } = node.outputs[0];
    const at = (index: readonly Index[]): Expr => {
      const diagonal = addIndex(subIndex(index[index.length - 1], index[index.length - 2]), -k);
      const isKept = node.attrs.upper ? within(diagonal, 0, Math.max(0, diagonal.hi) + 1) : within(diagonal, Math.min(0, diagonal.lo), 1);
      return isKept.k === "const" ? the(x).at(index) : select(isKept, the(x).at(index), constant(type.dtype, 0));
    };
    return [{ type, at }];
  },
  vjp: ({ build, grad }, { inputs: [, diagonal], attrs }) => [build.op("Trilu", [grad(0), diagonal], attrs), null],
  samples: [
    { inputs: [f32(4, 5)] },
    { inputs: [f32(2, 3, 3), scalarOf("i64", -1)], attrs: { upper: 0 } },
    { inputs: [i64(3, 1), scalarOf("i64", 2)] },
  ],
});

const Shape: Op = defineOp<{ start: number; end?: number }>({
  name: "Shape",
  kind: "opaque",
  attrs: { start: { type: "int", default: 0 }, end: { type: "int", optional: true } },
  infer: (inputs, attrs) => [{ dtype: "i64", shape: [shapePart(inputs, attrs).length] }],
  fold: (inputs, attrs) => [ints(...shapePart(inputs, attrs))],
  evaluate: (_, node) => [ints(...shapePart(node.inputs, node.attrs))],
  flops: () => 0,
  samples: [{ inputs: [f32(2, 3, 5)] }, { inputs: [f32(2, 3, 5)], attrs: { start: -2, end: -1 } }, { inputs: [f32()] }],
});

function shapePart(inputs: readonly (Value | null)[], { start, end }: { start: number; end?: number }): readonly number[] {
  const { shape } = inputType("Shape", inputs, 0, ALL);
  return shape.slice(start, end ?? shape.length);
}

const Size: Op = defineOp<object>({
  name: "Size",
  kind: "opaque",
  attrs: {},
  infer(inputs) {
    inputType("Size", inputs, 0);
    return [{ dtype: "i64", shape: [] }];
  },
  fold: (inputs) => [scalarOf("i64", elementCount(inputType("Size", inputs, 0).shape))],
  evaluate: (_, node) => [scalarOf("i64", elementCount(inputType("Size", node.inputs, 0).shape))],
  flops: () => 0,
  samples: [{ inputs: [f32(2, 3, 5)] }],
});

export const generateOps: readonly Op[] = [ConstantOfShape, Range, EyeLike, OneHot, Trilu, Shape, Size];
