// Reductions over axes: sums, extremes, norms and their logarithms.
import { type DType, isFloat } from "../ir/dtype.ts";
import { call, cast, constant, type Expr, reduce, select } from "../ir/expr.ts";
import {
  apply,
  type Builder,
  defineOp,
  type ImportContext,
  type Node,
  type Op,
  type Reader,
  type Sample,
  type Value,
} from "../ir/graph.ts";
import { type Index, newVar, varIndex } from "../ir/index_expr.ts";
import { elementCount, type Shape } from "../ir/tensor.ts";
import { constantNumbers, f32, i32, inputType, ints, movedToInputs, NUMBERS, normalizeAxes, the } from "./define.ts";
import { broadcast, countOver, type Formula, formula } from "./gradient.ts";
import { constantValue } from "./source.ts";

interface ReduceAttrs {
  readonly keepdims: number;
  readonly noop_with_empty_axes: number;
}

/** Combines all elements given by `each`, which makes fresh variables over the reduced axes each time. */
type Over = (combine: "add" | "mul" | "max" | "min", f?: (x: Expr) => Expr) => Expr;

/** Reduced axes in ascending order; null: nothing is reduced. */
export function reducedAxes(op: string, inputs: readonly (Value | null)[], attrs: ReduceAttrs, rank: number): readonly number[] | null {
  const axes = constantNumbers(op, inputs, 1, "the list of axes") ?? [];
  if (axes.length > 0) return normalizeAxes(op, axes, rank).sort((a, b) => a - b);
  return attrs.noop_with_empty_axes ? null : [...Array(rank).keys()];
}

export function reducedShape(shape: Shape, axes: readonly number[], keepdims: boolean): number[] {
  return keepdims ? shape.map((d, i) => (axes.includes(i) ? 1 : d)) : shape.filter((_, i) => !axes.includes(i));
}

/** Reads one reduced element: `finish` gets a way to combine all that fall on it, and their number. */
function reducedReader(
  x: Reader,
  out: Reader["type"],
  axes: readonly number[],
  keepdims: boolean,
  finish: (over: Over, count: number) => Expr,
): Reader {
  const { shape } = x.type;
  const kept = shape.map((_, i) => i).filter((i) => !axes.includes(i));
  const at = (index: readonly Index[]): Expr => {
    const over: Over = (combine, f = (e) => e) => {
      const vars = axes.map((axis) => newVar(shape[axis]));
      const full = shape.map((_, axis) => {
        const r = axes.indexOf(axis);
        return r >= 0 ? varIndex(vars[r]) : index[keepdims ? axis : kept.indexOf(axis)];
      });
      return reduce(combine, vars, f(x.at(full)));
    };
    return finish(over, elementCount(axes.map((a) => shape[a])));
  };
  return { type: out, at };
}

const samples: readonly Sample<ReduceAttrs>[] = [
  { inputs: [f32(3, 17), ints(1)] },
  { inputs: [f32(2, 3, 5)] },
  { inputs: [f32(2, 3, 4, 5), ints(-1, 1)], attrs: { keepdims: 0 } },
  { inputs: [f32(4, 1, 3), ints(1)] },
  { inputs: [f32(2, 3)], attrs: { noop_with_empty_axes: 1 } },
  { inputs: [f32(2, 3, 4), ints(0)], attrs: { keepdims: 0 } },
];

function reduction(
  name: string,
  finish: (over: Over, count: number, dtype: DType) => Expr,
  gradient: ReduceGradient,
  options: { dtypes?: readonly DType[]; range?: readonly [number, number]; integers?: boolean } = {},
): Op {
  const { dtypes = NUMBERS, range, integers = true } = options;
  const op: Op = defineOp<ReduceAttrs>({
    name,
    kind: "reduce",
    attrs: { keepdims: { type: "int", default: 1 }, noop_with_empty_axes: { type: "int", default: 0 } },
    infer(inputs, attrs) {
      const { dtype, shape } = inputType(name, inputs, 0, dtypes);
      const axes = reducedAxes(name, inputs, attrs, shape.length);
      return [{ dtype, shape: axes ? reducedShape(shape, axes, attrs.keepdims !== 0) : shape }];
    },
    lower([input], node) {
      const x = the(input);
      const { type } = node.outputs[0];
      const axes = reducedAxes(name, node.inputs, node.attrs, x.type.shape.length);
      if (!axes) return [{ type, at: (index) => x.at(index) }];
      return [reducedReader(x, type, axes, node.attrs.keepdims !== 0, (over, count) => finish(over, count, type.dtype))];
    },
    permute({ order, permuted }, node) {
      const axes = reducedAxes(name, node.inputs, node.attrs, order.length);
      if (!axes) return apply(op, [permuted(0)], { ...node.attrs }, node.from);
      if (!node.attrs.keepdims) return undefined;
      const moved = constantValue(ints(...axes.map((a) => order.indexOf(a))), node.from);
      return apply(op, [permuted(0), moved], { ...node.attrs }, node.from);
    },
    vjp: ({ build, grad }, node) => [reducedGradient(build, node, grad(0)!, gradient)], // the only output
    importOnnx: (context: ImportContext) => movedToInputs(() => op, [{ name: "axes", input: 1, dtype: "i64" }])(context),
    flops: (node) => elementCount(node.inputs[0]!.type.shape),
    samples: [...samples.map((s) => ({ ...s, range: range ?? s.range })), ...(integers ? [{ inputs: [i32(3, 4), ints(1)] }] : [])],
  });
  return op;
}

/** Gradient of x as a formula of values that broadcast against it; y and dy have size 1 along the reduced axes. */
type ReduceGradient = (
  f: Formula,
  parts: { x: Value; y: Value; dy: Value; count: number; sum: (v: Value) => Value; product: (v: Value) => Value },
) => Value;

function reducedGradient(build: Builder, node: Node<ReduceAttrs>, dy: Value, gradient: ReduceGradient): Value {
  const x = node.inputs[0]!; // checked by infer
  const { dtype, shape } = x.type;
  const axes = reducedAxes(node.op.name, node.inputs, node.attrs, shape.length);
  if (!axes) return dy;
  const kept = reducedShape(shape, axes, true);
  const wide = (v: Value) => (v.type.shape.join() === kept.join() ? v : build.reshape(v, kept));
  const over = (name: string) => (v: Value) => build.op(name, [v, build.ints(...axes)], { keepdims: 1 });
  const sums = { sum: over("ReduceSum"), product: over("ReduceProd") };
  const parts = { x, y: wide(node.outputs[0]), dy: wide(dy), count: countOver(shape, axes), ...sums };
  return broadcast(build, gradient(formula(build, dtype), parts), shape);
}

/** Shared out among all elements that are the extreme. */
const extremeGradient: ReduceGradient = (f, { x, y, dy, sum }) => {
  const reached = f.where(f.op("Equal", x, y), 1, 0);
  return f.mul(reached, f.div(dy, sum(reached)));
};

/** The product of all others: of an element that is 0, the product of those that are not, if it is the only one. */
const productGradient: ReduceGradient = (f, { x, y, dy, sum, product }) => {
  const isZero = f.op("Equal", x, 0);
  const zeros = sum(f.where(isZero, 1, 0));
  const others = product(f.where(isZero, 1, x));
  const atZero = f.where(f.op("Equal", zeros, 1), others, 0);
  return f.mul(dy, f.where(isZero, atZero, f.div(y, f.where(isZero, 1, x))));
};

const square = (x: Expr) => call("mul", x, x);

/** log Σ eˣ, with the largest x taken out first so that nothing overflows. */
function logSumExp(over: Over): Expr {
  const largest = over("max");
  const finite = select(call("isinf", largest), constant(largest.dtype, 0), largest);
  return call(
    "add",
    finite,
    call(
      "log",
      over("add", (x) => call("exp", call("sub", x, finite))),
    ),
  );
}

/** Logarithms and roots of integers are computed in float32. */
const inFloat =
  (f: (over: Over) => Expr) =>
  (over: Over, _: number, dtype: DType): Expr =>
    isFloat(dtype)
      ? f(over)
      : cast(
          dtype,
          f((combine, g = (e) => e) => over(combine, (x) => g(cast("f32", x)))),
        );

export const reduceOps: readonly Op[] = [
  reduction(
    "ReduceSum",
    (over) => over("add"),
    (_, { dy }) => dy,
  ),
  reduction(
    "ReduceMean",
    (over, count, dtype) => call("div", over("add"), constant(dtype, count)),
    (f, { dy, count }) => f.mul(dy, 1 / count),
  ),
  reduction("ReduceMax", (over) => over("max"), extremeGradient, { dtypes: [...NUMBERS, "bool"] }),
  reduction("ReduceMin", (over) => over("min"), extremeGradient, { dtypes: [...NUMBERS, "bool"] }),
  reduction("ReduceProd", (over) => over("mul"), productGradient),
  reduction(
    "ReduceSumSquare",
    (over) => over("add", square),
    (f, { x, dy }) => f.mul(x, f.mul(dy, 2)),
  ),
  reduction(
    "ReduceL1",
    (over) => over("add", (x) => call("abs", x)),
    (f, { x, dy }) => f.mul(dy, f.op("Sign", x)),
  ),
  reduction(
    "ReduceL2",
    inFloat((over) => call("sqrt", over("add", square))),
    (f, { x, y, dy }) => f.mul(x, f.where(f.op("Equal", y, 0), 0, f.div(dy, y))), // 0 where all elements are
    { integers: false },
  ),
  reduction(
    "ReduceLogSum",
    inFloat((over) => call("log", over("add"))),
    (f, { y, dy }) => f.div(dy, f.exp(y)),
    { range: [0.5, 2], integers: false },
  ),
  reduction("ReduceLogSumExp", inFloat(logSumExp), (f, { x, y, dy }) => f.mul(dy, f.exp(f.sub(x, y))), { integers: false }),
];
