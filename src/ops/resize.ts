// Resize and Upsample: nearest, linear and cubic interpolation along any axes.
import { HeddleError } from "../ir/error.ts";
import { call, cast, constant, type Expr, select, within } from "../ir/expr.ts";
import { interpret, loadReader } from "../ir/expr_interpreter.ts";
import { apply, defineOp, type ImportContext, type Node, type Op, type Reader, type TensorType, type Value } from "../ir/graph.ts";
import { addIndex, clampIndex, divIndex, type Index, modIndex } from "../ir/index_expr.ts";
import { elementCount, type Shape, type TensorData, toNumbers } from "../ir/tensor.ts";
import { constantNumbers, emittable, f32, inputType, ints, NUMBERS, normalizeAxes, requiredNumbers, tensorOf, the } from "./define.ts";
import { resizeGradient } from "./resize_gradient.ts";
import {
  COORDINATE_MODES,
  type CoordinateMode,
  coordinateLine,
  isIdentity,
  type Line,
  NEAREST_MODES,
  type NearestMode,
  nearestIndex,
  numerator,
} from "./resize_line.ts";

interface ResizeAttrs {
  readonly mode: "nearest" | "linear" | "cubic";
  readonly coordinate_transformation_mode: CoordinateMode;
  readonly nearest_mode: NearestMode;
  readonly cubic_coeff_a: number;
  readonly exclude_outside: number;
  readonly extrapolation_value: number;
  readonly antialias: number;
  readonly axes?: readonly number[];
  readonly keep_aspect_ratio_policy: string;
}

/** What happens to one axis. */
interface AxisPlan {
  readonly size: number;
  readonly out: number;
  readonly scale: number;
  readonly roi: readonly [number, number];
}

/** An empty tensor stands for an absent one. */
function optionalNumbers(inputs: readonly (Value | null)[], i: number, what: string): number[] | undefined {
  const numbers = constantNumbers("Resize", inputs, i, what);
  return numbers?.length ? numbers : undefined;
}

/** Scale of each axis from the sizes asked for, made equal when the aspect ratio is to be kept. */
function scalesFromSizes(sizes: readonly number[], shape: readonly number[], policy: string): { scales: number[]; outs: number[] } {
  const scales = sizes.map((s, i) => s / shape[i]);
  if (policy === "stretch") return { scales, outs: [...sizes] };
  const scale = policy === "not_larger" ? Math.min(...scales) : Math.max(...scales);
  return { scales: sizes.map(() => scale), outs: shape.map((d) => Math.floor(d * scale + 0.5)) };
}

function planAxes(inputs: readonly (Value | null)[], attrs: ResizeAttrs, shape: Shape): AxisPlan[] {
  const axes = attrs.axes ? normalizeAxes("Resize", attrs.axes, shape.length) : shape.map((_, i) => i);
  const roi = optionalNumbers(inputs, 1, "the region of interest") ?? [];
  const scalesGiven = optionalNumbers(inputs, 2, "the list of scales");
  const sizes = optionalNumbers(inputs, 3, "the list of sizes");
  const given = scalesGiven ?? sizes;
  if (!given || given.length !== axes.length)
    throw new HeddleError("bad-model", `Resize: got ${given?.length ?? "no"} scales or sizes, wanted ${axes.length}`);
  if (given.some((x) => !(x > 0))) throw new HeddleError("bad-model", `Resize: scales or sizes (${given}) must be positive`);
  const lengths = axes.map((a) => shape[a]);
  const { scales, outs } = scalesGiven
    ? { scales: scalesGiven, outs: lengths.map((d, i) => Math.floor(Math.fround(d * scalesGiven[i]))) }
    : scalesFromSizes(given, lengths, attrs.keep_aspect_ratio_policy);
  const plans = shape.map((d): AxisPlan => ({ size: d, out: d, scale: 1, roi: [0, 1] }));
  for (const [i, axis] of axes.entries())
    plans[axis] = { size: shape[axis], out: outs[i], scale: scales[i], roi: [roi[i] ?? 0, roi[i + axes.length] ?? 1] };
  return plans;
}

/** One input element that an output element is made of. */
interface Tap {
  readonly at: Index;
  readonly weight: Expr;
}

/** The fraction of the place of output i, in `dtype`: exact integers until the last multiplication. */
function fraction(i: Index, line: Line, dtype: Expr["dtype"]): Expr {
  const part: Expr = { k: "index", dtype, at: modIndex(numerator(i, line), line.r) };
  return call("mul", part, constant(dtype, 1 / line.r));
}

/** Keys' cubic kernel with parameter a, for |x| < 1 or 1 ≤ |x| < 2. */
function cubicNear(x: Expr, a: number): Expr {
  const k = (v: number) => constant(x.dtype, v);
  const inner = call("sub", call("mul", k(a + 2), x), k(a + 3));
  return call("add", call("mul", call("mul", inner, x), x), k(1));
}
function cubicFar(x: Expr, a: number): Expr {
  const k = (v: number) => constant(x.dtype, v);
  const inner = call("add", call("mul", call("sub", call("mul", k(a), x), k(5 * a)), x), k(8 * a));
  return call("sub", call("mul", inner, x), k(4 * a));
}

/** Weight of an input element at distance |x|, in elements of the coarser grid. */
function kernelAt(x: Expr, attrs: ResizeAttrs): Expr {
  const k = (v: number) => constant(x.dtype, v);
  const distance = call("abs", x);
  if (attrs.mode === "linear") return call("max", call("sub", k(1), distance), k(0));
  const a = attrs.cubic_coeff_a;
  const far = select(call("lt", distance, k(2)), cubicFar(distance, a), k(0));
  return select(call("lt", distance, k(1)), cubicNear(distance, a), far);
}

/** The input elements that output i of an axis is made of. */
function taps(i: Index, plan: AxisPlan, line: Line, attrs: ResizeAttrs, dtype: Expr["dtype"]): Tap[] {
  const one = constant(dtype, 1);
  const place = divIndex(numerator(i, line), line.r);
  const inside = (at: Index) => clampIndex(at, 0, plan.size - 1);
  const shrink = attrs.antialias ? Math.min(1, plan.scale) : 1;
  if (line.r === 1 && shrink === 1) return [{ at: inside(place), weight: one }];
  const ratio = fraction(i, line, dtype);
  if (attrs.mode === "linear" && shrink === 1) {
    return [
      { at: inside(place), weight: call("sub", one, ratio) },
      { at: inside(addIndex(place, 1)), weight: ratio },
    ];
  }
  const reach = attrs.mode === "linear" ? 1 : 2;
  const first = Math.floor(-reach / shrink) + 1;
  const offsets = Array.from({ length: 2 - 2 * first }, (_, k) => first + k);
  const raw = offsets.map((offset): Tap => {
    const at = addIndex(place, offset);
    const distance = call("mul", call("sub", constant(dtype, offset), ratio), constant(dtype, shrink));
    const weight = kernelAt(distance, attrs);
    return { at: inside(at), weight: attrs.exclude_outside ? select(within(at, 0, plan.size), weight, constant(dtype, 0)) : weight };
  });
  if (!attrs.exclude_outside && shrink === 1) return raw;
  const total = raw.map((t) => t.weight).reduce((a, b) => call("add", a, b));
  return raw.map(({ at, weight }) => ({ at, weight: call("div", weight, total) }));
}

/** Interpolates one axis after the other. */
function interpolated(x: Reader, index: readonly Index[], plans: readonly AxisPlan[], lines: readonly Line[], attrs: ResizeAttrs): Expr {
  const dtype = x.type.dtype === "f64" ? "f64" : "f32"; // weights of half floats and integers need more bits than they have
  const each = lines.map((line, axis) =>
    isIdentity(line) && plans[axis].scale === 1 ? null : taps(index[axis], plans[axis], line, attrs, dtype),
  );
  const from = (axis: number, at: readonly Index[]): Expr => {
    if (axis === each.length) return cast(dtype, x.at(at));
    const choices = each[axis];
    if (!choices) return from(axis + 1, [...at, index[axis]]);
    const values = choices.map((t) => from(axis + 1, [...at, t.at]));
    if (choices.length === 1) return values[0];
    return values.map((v, i) => call("mul", v, choices[i].weight)).reduce((a, b) => call("add", a, b));
  };
  return cast(x.type.dtype, from(0, []));
}

function resized(x: Reader, index: readonly Index[], plans: readonly AxisPlan[], attrs: ResizeAttrs): Expr {
  const mode = attrs.coordinate_transformation_mode;
  const lines = plans.map((p) =>
    p.size === p.out && p.scale === 1 && mode !== "tf_crop_and_resize"
      ? { p: 1, q: 0, r: 1 }
      : coordinateLine(mode, p.size, p.out, p.scale, p.roi),
  );
  const value =
    attrs.mode === "nearest"
      ? x.at(index.map((i, axis) => nearestIndex(i, lines[axis], attrs.nearest_mode, plans[axis].size)))
      : interpolated(x, index, plans, lines, attrs);
  if (mode !== "tf_crop_and_resize") return value;
  const outside = constant(x.type.dtype, attrs.extrapolation_value);
  return index.reduce((inner, i, axis) => {
    const isInside = within(numerator(i, lines[axis]), 0, lines[axis].r * (plans[axis].size - 1) + 1);
    return isInside.k === "const" && isInside.value ? inner : select(isInside, inner, outside);
  }, value);
}

/** What resizing makes of the rows of an identity matrix, for each axis; null where it leaves the axis alone. */
function axisMatrices(node: Node<ResizeAttrs>): (TensorData | null)[] {
  const { shape } = node.inputs[0]!.type; // checked by infer
  const attrs = { ...node.attrs, extrapolation_value: 0 };
  return planAxes(node.inputs, node.attrs, shape).map((plan) => {
    const rows: AxisPlan = { size: plan.size, out: plan.size, scale: 1, roi: [0, 1] };
    const whole = loadReader({ dtype: "f64", shape: [plan.size, plan.size] }, 0);
    const type: TensorType = { dtype: "f64", shape: [plan.size, plan.out] };
    const identity = tensorOf("f64", Array.from({ length: plan.size ** 2 }, (_, i) => (i % (plan.size + 1) === 0 ? 1 : 0)), whole.type.shape); // biome-ignore format: short
    const matrix = interpret({ type, at: (index) => resized(whole, index, [rows, plan], attrs) }, [identity]);
    const isSame = plan.size === plan.out && toNumbers(matrix).every((v, i) => v === identity.data[i]);
    return isSame ? null : matrix;
  });
}

function checkAttrs(attrs: ResizeAttrs): void {
  const oneOf = (name: keyof ResizeAttrs, allowed: readonly string[]) => {
    if (!allowed.includes(String(attrs[name])))
      throw new HeddleError("bad-model", `Resize: ${name} is ${attrs[name]}, wanted ${allowed.join(", ")}`);
  };
  oneOf("mode", ["nearest", "linear", "cubic"]);
  oneOf("coordinate_transformation_mode", COORDINATE_MODES);
  oneOf("nearest_mode", NEAREST_MODES);
  oneOf("keep_aspect_ratio_policy", ["stretch", "not_larger", "not_smaller"]);
}

const Resize: Op = defineOp<ResizeAttrs>({
  name: "Resize",
  kind: "view",
  attrs: {
    mode: { type: "string", default: "nearest" },
    coordinate_transformation_mode: { type: "string", default: "half_pixel" },
    nearest_mode: { type: "string", default: "round_prefer_floor" },
    cubic_coeff_a: { type: "float", default: -0.75 },
    exclude_outside: { type: "int", default: 0 },
    extrapolation_value: { type: "float", default: 0 },
    antialias: { type: "int", default: 0 },
    axes: { type: "ints", optional: true },
    keep_aspect_ratio_policy: { type: "string", default: "stretch" },
  },
  infer(inputs, attrs) {
    checkAttrs(attrs);
    const { dtype, shape } = inputType("Resize", inputs, 0, NUMBERS);
    if (shape.includes(0)) throw new HeddleError("unsupported", `Resize: (${shape}) is empty`);
    return [{ dtype, shape: planAxes(inputs, attrs, shape).map((p) => p.out) }];
  },
  lower([input], node) {
    const x = the(input);
    const plans = planAxes(node.inputs, node.attrs, x.type.shape);
    return [{ type: node.outputs[0].type, at: (index) => resized(x, index, plans, node.attrs) }];
  },
  vjp: ({ build, grad }, node) => [
    resizeGradient(build, grad(0)!, node.inputs[0]!.type, axisMatrices(node)), // the only output; checked by infer
    ...node.inputs.slice(1).map(() => null),
  ],
  // All other inputs have one number for each of `axes`, in that order.
  permute({ order, permuted, kept }, node) {
    const axes = normalizeAxes("Resize", node.attrs.axes ?? order.map((_, i) => i), order.length).map((a) => order.indexOf(a));
    const rest = node.inputs.slice(1).map((v, i) => v && kept(i + 1));
    return apply(Resize, [permuted(0), ...rest], { ...node.attrs, axes }, node.from);
  },
  importOnnx: (context) => (context.opset < 11 ? importOld(context) : context.emit(emittable(Resize), context.inputs, context.attrs)),
  flops: (node) => (node.attrs.mode === "nearest" ? 0 : 8 * elementCount(node.outputs[0].type.shape)),
  samples: [
    {
      inputs: [f32(1, 2, 3, 5), null, tensorOf("f32", [1, 1, 2, 2])],
      attrs: { coordinate_transformation_mode: "asymmetric", nearest_mode: "floor" },
    },
    { inputs: [f32(1, 1, 4, 4), null, tensorOf("f32", [1, 1, 0.6, 0.6])] },
    { inputs: [f32(1, 2, 3, 5), null, null, ints(1, 2, 7, 4)], attrs: { mode: "linear" } },
    { inputs: [f32(2, 3, 5), null, null, ints(2, 6, 10)], attrs: { mode: "linear", coordinate_transformation_mode: "align_corners" } },
    { inputs: [f32(1, 1, 4, 5), null, null, ints(1, 1, 7, 3)], attrs: { mode: "cubic" } },
    { inputs: [f32(1, 1, 4, 4), null, tensorOf("f32", [1, 1, 0.8, 2])], attrs: { mode: "cubic", exclude_outside: 1, cubic_coeff_a: -0.5 } },
    { inputs: [f32(1, 1, 8, 6), null, null, ints(1, 1, 3, 3)], attrs: { mode: "linear", antialias: 1 } },
    { inputs: [f32(1, 1, 1, 1), null, null, ints(1, 1, 3, 2)], attrs: { nearest_mode: "ceil" } },
  ],
});

/** Up to opset 10: asymmetric, and nearest rounds down when growing, up when shrinking. */
function importOld(context: ImportContext): readonly Value[] {
  const { inputs, attrs, emit, constant: constantOfTensor } = context;
  const mode = attrs.mode === "linear" || attrs.mode === "bilinear" ? "linear" : "nearest";
  const isOne = context.opset < 9 && !inputs[1];
  const scales = isOne ? (attrs.scales as readonly number[] | undefined) : requiredNumbers("Resize", inputs, 1, "the list of scales");
  if (!scales) throw new HeddleError("bad-model", `Upsample: the scales are missing; from ${context.name}`);
  const pass = (x: Value | null, part: readonly number[], nearest_mode: NearestMode): Value => {
    const tensor = constantOfTensor(tensorOf("f32", part));
    return emit(emittable(Resize), [x, null, tensor], { mode, nearest_mode, coordinate_transformation_mode: "asymmetric" })[0];
  };
  const shrinks = scales.some((s) => s < 1);
  const small = shrinks
    ? pass(
        inputs[0],
        scales.map((s) => Math.min(s, 1)),
        "ceil",
      )
    : inputs[0];
  return shrinks && scales.every((s) => s <= 1)
    ? [small!]
    : [
        pass(
          small,
          scales.map((s) => Math.max(s, 1)),
          "floor",
        ),
      ];
}

const Upsample: Op = defineOp<{ mode: string }>({
  name: "Upsample",
  kind: "opaque",
  attrs: { mode: { type: "string", default: "nearest" } },
  infer(inputs) {
    const { dtype, shape } = inputType("Upsample", inputs, 0, NUMBERS);
    const scales = requiredNumbers("Upsample", inputs, 1, "the list of scales");
    return [{ dtype, shape: shape.map((d, i) => Math.floor(Math.fround(d * scales[i]))) }];
  },
  expand: ([x, scales], { mode }, node) =>
    apply(
      Resize,
      [x, null, scales],
      { mode: mode === "nearest" ? mode : "linear", nearest_mode: "floor", coordinate_transformation_mode: "asymmetric" },
      node.from,
    ),
  importOnnx: importOld,
  samples: [
    { inputs: [f32(1, 2, 3, 3), tensorOf("f32", [1, 1, 2, 3])] },
    { inputs: [f32(1, 1, 3, 4), tensorOf("f32", [1, 1, 2, 2])], attrs: { mode: "linear" } },
  ],
});

export const resizeOps: readonly Op[] = [Resize, Upsample];
