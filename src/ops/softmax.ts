// Softmax, its logarithm and Hardmax, along one axis.
import { HeddleError } from "../ir/error.ts";
import { apply, defineOp, type ImportContext, type Node, type Op, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, type TensorData, toNumbers } from "../ir/tensor.ts";
import { importBuilder } from "./build.ts";
import { emittable, FLOATS, f32, inputType, normalizeAxis } from "./define.ts";
import { type Formula, formula, sumOver } from "./gradient.ts";

interface AxisAttrs {
  readonly axis: number;
}

/** Sizes of a softmax: x seen as (outer, size, inner), each line along `size`. */
export interface LineGeometry {
  readonly axis: number;
  readonly outer: number;
  readonly size: number;
  readonly inner: number;
}

/** Geometry of a node of Softmax, LogSoftmax or Hardmax. */
export function softmaxGeometry(node: Node): LineGeometry {
  const { shape } = node.outputs[0].type;
  const axis = normalizeAxis(node.op.name, (node.attrs as unknown as AxisAttrs).axis, shape.length);
  return { axis, outer: elementCount(shape.slice(0, axis)), size: shape[axis], inner: elementCount(shape.slice(axis + 1)) };
}

/** Applies `f` in place to every line, given as a list of its own. */
function mapLines(x: TensorData, { outer, size, inner }: LineGeometry, f: (line: Float64Array) => void): TensorData {
  const values = toNumbers(x);
  const line = new Float64Array(size);
  for (let o = 0; o < outer; o++)
    for (let i = 0; i < inner; i++) {
      const at = o * size * inner + i;
      for (let k = 0; k < size; k++) line[k] = values[at + k * inner];
      f(line);
      for (let k = 0; k < size; k++) values[at + k * inner] = line[k];
    }
  return fromNumbers(x.dtype, x.shape, values);
}

/** The largest element is taken out first, so that nothing overflows. */
function softmaxLine(line: Float64Array): void {
  const largest = line.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  for (let k = 0; k < line.length; k++) line[k] = Math.exp(line[k] - largest);
  const sum = line.reduce((a, b) => a + b, 0);
  for (let k = 0; k < line.length; k++) line[k] /= sum;
}

function logSoftmaxLine(line: Float64Array): void {
  const largest = line.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const logSum = Math.log(line.reduce((a, b) => a + Math.exp(b - largest), 0));
  for (let k = 0; k < line.length; k++) line[k] -= largest + logSum;
}

/** 1 at the first largest element, 0 elsewhere. */
function hardmaxLine(line: Float64Array): void {
  const largest = line.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const at = line.indexOf(largest);
  line.fill(0);
  if (at >= 0) line[at] = 1;
}

/** Gradient of x as a formula of y and dy; `sum` adds along the lines. */
type LineGradient = (f: Formula, y: Value, dy: Value, sum: (v: Value) => Value) => Value | null;

function lineOp(name: string, f: (line: Float64Array) => void, gradient: LineGradient): Op {
  const op: Op = defineOp<AxisAttrs>({
    name,
    kind: "opaque",
    attrs: { axis: { type: "int", default: -1 } },
    infer(inputs, { axis }) {
      const x = inputType(name, inputs, 0, FLOATS);
      normalizeAxis(name, axis, x.shape.length);
      return [{ dtype: x.dtype, shape: x.shape }];
    },
    evaluate: ([x], node) => [mapLines(x!, softmaxGeometry(node as unknown as Node), f)], // checked by infer
    vjp({ build, grad }, node) {
      const [y] = node.outputs;
      const { axis } = softmaxGeometry(node as unknown as Node);
      return [gradient(formula(build, y.type.dtype), y, grad(0)!, (v) => sumOver(build, v, [axis]))]; // the only output
    },
    permute(context, node) {
      const { axis } = softmaxGeometry(node as unknown as Node);
      return apply(op, [context.permuted(0)], { axis: context.order.indexOf(axis) }, node.from);
    },
    importOnnx: (context) =>
      context.opset < 13 ? importFlattened(op, context) : context.emit(emittable(op), context.inputs, context.attrs),
    flops: (node) => 4 * elementCount(node.outputs[0].type.shape),
    samples: [
      { inputs: [f32(3, 17)] },
      { inputs: [f32(2, 5, 3)], attrs: { axis: 1 } },
      { inputs: [f32(4, 1)] },
      { inputs: [f32(2, 3, 2, 2)], attrs: { axis: 0 }, range: [-90, 90] },
    ],
  });
  return op;
}

/** Before opset 13 all axes from `axis` (default 1) on made one line. */
function importFlattened(op: Op, context: ImportContext): readonly Value[] {
  const [x] = context.inputs;
  if (!x) throw new HeddleError("bad-model", `${op.name}: input 0 is missing; from ${context.name}`);
  const { shape } = x.type;
  const given = typeof context.attrs.axis === "number" ? context.attrs.axis : 1;
  const axis = given === shape.length && shape.length <= 1 ? 0 : normalizeAxis(op.name, given, shape.length);
  const long = shape.flatMap((d, i) => (i >= axis && d !== 1 ? [i] : []));
  if (long.length <= 1 && shape.length > 0) return context.emit(emittable(op), [x], { axis: long[0] ?? axis });
  const build = importBuilder(context);
  const flat = build.reshape(x, [elementCount(shape.slice(0, axis)), elementCount(shape.slice(axis))]);
  return [build.reshape(build.op(op, [flat], { axis: 1 }), shape)];
}

export const Softmax = lineOp("Softmax", softmaxLine, (f, y, dy, sum) => f.mul(y, f.sub(dy, sum(f.mul(dy, y)))));
export const LogSoftmax = lineOp("LogSoftmax", logSoftmaxLine, (f, y, dy, sum) => f.sub(dy, f.mul(f.exp(y), sum(dy))));
export const Hardmax = lineOp("Hardmax", hardmaxLine, () => null);
export const softmaxOps: readonly Op[] = [Softmax, LogSoftmax, Hardmax];
