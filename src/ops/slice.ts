// Cutting and joining along axes: Slice, Split, Concat.
import { HeddleError } from "../ir/error.ts";
import { constant, type Expr, select, within } from "../ir/expr.ts";
import { apply, type Builder, defineOp, type ImportContext, type Node, type Op, type Reader, type Value } from "../ir/graph.ts";
import { addIndex, clampIndex, type Index, mulIndex } from "../ir/index_expr.ts";
import type { Shape } from "../ir/tensor.ts";
import {
  constantNumbers,
  f32,
  i32,
  inParts,
  inputType,
  ints,
  movedToInputs,
  normalizeAxes,
  normalizeAxis,
  requiredNumbers,
  sameDType,
  the,
} from "./define.ts";
import { zerosOf } from "./gradient.ts";
import { constantValue } from "./source.ts";

/** One axis of a slice: elements start, start + step, …, `count` of them. */
interface Cut {
  readonly start: number;
  readonly step: number;
  readonly count: number;
}

const clamp = (x: number, lo: number, hi: number) => Math.min(Math.max(x, lo), hi);

function cutAxis(size: number, start: number, end: number, step: number): Cut {
  if (step === 0) throw new HeddleError("bad-model", "Slice: a step is 0");
  const wrap = (x: number) => (x < 0 ? x + size : x);
  const isForward = step > 0;
  const from = clamp(wrap(start), 0, isForward ? size : size - 1);
  const to = isForward ? clamp(wrap(end), 0, size) : clamp(wrap(end), -1, size - 1);
  return { start: from, step, count: Math.max(0, Math.ceil((to - from) / step)) };
}

/** The cut of every axis, from Slice's constant inputs. */
function cutsOf(inputs: readonly (Value | null)[], shape: Shape): Cut[] {
  const starts = requiredNumbers("Slice", inputs, 1, "the list of starts");
  const ends = requiredNumbers("Slice", inputs, 2, "the list of ends");
  const given = constantNumbers("Slice", inputs, 3, "the list of axes") ?? starts.map((_, i) => i);
  const steps = constantNumbers("Slice", inputs, 4, "the list of steps") ?? starts.map(() => 1);
  if (ends.length !== starts.length || given.length !== starts.length || steps.length !== starts.length)
    throw new HeddleError("bad-model", "Slice: starts, ends, axes and steps differ in length");
  const axes = normalizeAxes("Slice", given, shape.length);
  const cuts = shape.map((d): Cut => ({ start: 0, step: 1, count: d }));
  for (const [i, axis] of axes.entries()) cuts[axis] = cutAxis(shape[axis], starts[i], ends[i], steps[i]);
  return cuts;
}

/** The gradient of what was cut: zeros around it, and between its elements where steps are longer than 1. */
function uncut(build: Builder, grad: Value, node: Node<object>): Value {
  const { shape } = node.inputs[0]!.type; // checked by infer
  const cuts = cutsOf(node.inputs, shape);
  if (grad.type.shape.includes(0)) return zerosOf(build, grad.type.dtype, shape);
  const turned = cuts.flatMap(({ step }, axis) => (step < 0 ? [axis] : []));
  const minus = turned.map(() => -1);
  const ascending = turned.length
    ? build.op("Slice", [
        grad,
        build.ints(...minus),
        build.ints(...minus.map(() => -(2 ** 31))),
        build.ints(...turned),
        build.ints(...minus),
      ])
    : grad;
  const apart = cuts.reduce((x, { step }, axis) => (Math.abs(step) > 1 ? spacedOut(build, x, axis, Math.abs(step)) : x), ascending);
  const first = cuts.map(({ start, step, count }) => (step < 0 ? start + (count - 1) * step : start));
  const after = shape.map((d, axis) => d - first[axis] - apart.type.shape[axis]);
  const isWhole = [...first, ...after].every((n) => n === 0);
  return isWhole ? apart : build.op("Pad", [apart, build.ints(...first, ...after)]);
}

/** Each element of an axis followed by step − 1 zeros. */
function spacedOut(build: Builder, x: Value, axis: number, step: number): Value {
  const { shape } = x.type;
  const split = build.reshape(x, shape.toSpliced(axis + 1, 0, 1));
  const margins = split.type.shape.flatMap(() => [0, 0]).with(split.type.shape.length + axis + 1, step - 1);
  return build.reshape(build.op("Pad", [split, build.ints(...margins)]), shape.with(axis, shape[axis] * step));
}

const Slice: Op = defineOp<object>({
  name: "Slice",
  kind: "view",
  attrs: {},
  infer(inputs) {
    const { dtype, shape } = inputType("Slice", inputs, 0);
    return [{ dtype, shape: cutsOf(inputs, shape).map((c) => c.count) }];
  },
  lower([input], node) {
    const x = the(input);
    const cuts = cutsOf(node.inputs, x.type.shape);
    return [{ type: node.outputs[0].type, at: (index) => x.at(index.map((at, i) => addIndex(mulIndex(at, cuts[i].step), cuts[i].start))) }];
  },
  vjp: ({ build, grad }, node) => [uncut(build, grad(0)!, node), ...node.inputs.slice(1).map(() => null)], // the only output
  permute({ order, permuted, kept }, node) {
    const count = kept(1)!.type.shape[0]; // checked by infer
    const given = constantNumbers("Slice", node.inputs, 3, "the list of axes") ?? [...Array(count).keys()];
    const axes = normalizeAxes("Slice", given, order.length).map((a) => order.indexOf(a));
    const steps = node.inputs[4] ? [kept(4)] : [];
    return apply(Slice, [permuted(0), kept(1), kept(2), constantValue(ints(...axes), node.from), ...steps], {}, node.from);
  },
  importOnnx: (context: ImportContext) =>
    movedToInputs(
      () => Slice,
      ["starts", "ends", "axes"].map((name, i) => ({ name, input: i + 1, dtype: "i64" })),
    )(context),
  flops: () => 0,
  samples: [
    { inputs: [f32(5, 17), ints(1, 2), ints(4, 100), ints(0, 1), ints(1, 3)] },
    { inputs: [f32(5, 7), ints(-1), ints(-100), ints(1), ints(-2)] },
    { inputs: [f32(5, 7), ints(1), ints(-1)] },
    { inputs: [f32(4, 3), ints(3), ints(2), ints(0)] },
    { inputs: [i32(1, 9), ints(8), ints(0), ints(1), ints(-1)] },
  ],
});

interface SplitAttrs {
  readonly axis: number;
  readonly num_outputs?: number;
}

/** Sizes of the parts: given, or equal with a smaller last one. */
function partsOf(inputs: readonly (Value | null)[], { num_outputs }: SplitAttrs, size: number): number[] {
  const given = constantNumbers("Split", inputs, 1, "the list of sizes");
  if (given) {
    if (given.reduce((a, b) => a + b, 0) !== size || given.some((d) => d < 0))
      throw new HeddleError("bad-model", `Split: parts (${given}) do not add up to the axis of ${size}`);
    return given;
  }
  if (!num_outputs) throw new HeddleError("bad-model", "Split: neither the sizes nor their number are given");
  if (num_outputs < 0 || num_outputs > Math.max(1, size))
    throw new HeddleError("bad-model", `Split: an axis of ${size} cannot become ${num_outputs} parts`);
  const each = Math.ceil(size / num_outputs);
  return Array.from({ length: num_outputs }, (_, i) => Math.max(0, Math.min(each, size - i * each)));
}

const Split: Op = defineOp<SplitAttrs>({
  name: "Split",
  kind: "view",
  attrs: { axis: { type: "int", default: 0 }, num_outputs: { type: "int", optional: true } },
  infer(inputs, attrs) {
    const { dtype, shape } = inputType("Split", inputs, 0);
    const axis = normalizeAxis("Split", attrs.axis, shape.length);
    return partsOf(inputs, attrs, shape[axis]).map((d) => ({ dtype, shape: shape.with(axis, d) }));
  },
  lower([input], node) {
    const x = the(input);
    const axis = normalizeAxis("Split", node.attrs.axis, x.type.shape.length);
    let next = 0;
    return node.outputs.map(({ type }) => {
      const start = next;
      next += type.shape[axis];
      return { type, at: (index) => x.at(index.with(axis, addIndex(index[axis], start))) };
    });
  },
  vjp({ build, grad }, node) {
    const parts = node.outputs.map(({ type }, i) => grad(i) ?? zerosOf(build, type.dtype, type.shape));
    return [build.op("Concat", parts, { axis: node.attrs.axis }), ...node.inputs.slice(1).map(() => null)];
  },
  permute({ order, permuted, kept }, node) {
    const axis = order.indexOf(normalizeAxis("Split", node.attrs.axis, order.length));
    return apply(Split, [permuted(0), ...(node.inputs[1] ? [kept(1)] : [])], { ...node.attrs, axis }, node.from);
  },
  importOnnx(context) {
    const { outputCount, attrs, inputs } = context;
    const isSized = inputs[1] || attrs.split;
    const full = isSized || attrs.num_outputs ? attrs : { ...attrs, num_outputs: outputCount };
    return movedToInputs(() => Split, [{ name: "split", input: 1, dtype: "i64" }])({ ...context, attrs: full });
  },
  flops: () => 0,
  samples: [
    { inputs: [f32(6, 5)], attrs: { num_outputs: 3 } },
    { inputs: [f32(2, 7)], attrs: { axis: 1, num_outputs: 2 } },
    { inputs: [f32(2, 7, 3), ints(2, 0, 5)], attrs: { axis: -2 } },
  ],
});

/** The first reader whose range holds the index; the loads of all others stay inside their tensors. */
function joined(parts: readonly Reader[], index: readonly Index[], axis: number): Expr {
  const read = (part: Reader, start: number) =>
    part.at(index.with(axis, clampIndex(addIndex(index[axis], -start), 0, part.type.shape[axis] - 1)));
  let end = parts.reduce((n, p) => n + p.type.shape[axis], 0);
  let result: Expr | undefined;
  for (const part of parts.toReversed()) {
    const start = end - part.type.shape[axis];
    const value = read(part, start);
    const isHere = within(index[axis], 0, end);
    result = !result || (isHere.k === "const" && isHere.value) ? value : select(isHere, value, result);
    end = start;
  }
  return result ?? constant(parts[0].type.dtype, 0);
}

const Concat: Op = defineOp<{ axis: number }>({
  name: "Concat",
  kind: "view",
  attrs: { axis: { type: "int" } },
  infer(inputs, attrs) {
    const types = inputs.map((_, i) => inputType("Concat", inputs, i));
    if (types.length === 0) throw new HeddleError("bad-model", "Concat: it has no inputs");
    const [first] = types;
    const axis = normalizeAxis("Concat", attrs.axis, first.shape.length);
    const bad = types.find((t) => t.shape.length !== first.shape.length || t.shape.some((d, i) => i !== axis && d !== first.shape[i]));
    if (bad) throw new HeddleError("bad-model", `Concat: shapes (${first.shape}) and (${bad.shape}) differ outside of axis ${axis}`);
    const size = types.reduce((n, t) => n + t.shape[axis], 0);
    return [{ dtype: sameDType("Concat", types), shape: first.shape.with(axis, size) }];
  },
  lower(readers, node) {
    const { type } = node.outputs[0];
    const axis = normalizeAxis("Concat", node.attrs.axis, type.shape.length);
    const parts = readers.map(the).filter((r) => r.type.shape[axis] > 0);
    return [{ type, at: (index) => (parts.length ? joined(parts, index, axis) : constant(type.dtype, 0)) }];
  },
  vjp({ build, grad, wants }, node) {
    let end = 0;
    return node.inputs.map((part, i) => {
      const start = end;
      end += part!.type.shape.at(node.attrs.axis)!; // infer has checked the axis, and that all are there
      const range = [[start], [end], [node.attrs.axis]].map((list) => build.ints(...list));
      return wants(i) ? build.op("Slice", [grad(0), ...range]) : null;
    });
  },
  permute({ order, permuted }, node) {
    const axis = order.indexOf(normalizeAxis("Concat", node.attrs.axis, order.length));
    return apply(
      Concat,
      node.inputs.map((_, i) => permuted(i)),
      { axis },
      node.from,
    );
  },
  // Before opset 4 the axis had a default.
  importOnnx: (context) => inParts(Concat, context, context.opset < 4 ? { axis: 1, ...context.attrs } : context.attrs),
  flops: () => 0,
  samples: [
    { inputs: [f32(2, 3), f32(2, 5)], attrs: { axis: 1 } },
    { inputs: [f32(1, 3), f32(4, 3), f32(0, 3), f32(2, 3)], attrs: { axis: 0 } },
    { inputs: [f32(2, 3, 1), f32(2, 3, 16)], attrs: { axis: -1 } },
    { inputs: [i32(3)], attrs: { axis: 0 } },
  ],
});

export const sliceOps: readonly Op[] = [Slice, Split, Concat];
