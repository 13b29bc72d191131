// Reductions over axes: sums, extremes, norms and their logarithms.
import { type DType, isFloat } from "../ir/dtype.ts";
import { call, cast, constant, type Expr, reduce, select } from "../ir/expr.ts";
import { apply, defineOp, type ImportContext, type Op, type Reader, type Sample, type Value } from "../ir/graph.ts";
import { type Index, newVar, varIndex } from "../ir/index_expr.ts";
import { elementCount, type Shape } from "../ir/tensor.ts";
import { constantNumbers, f32, i32, inputType, ints, movedToInputs, NUMBERS, normalizeAxes, the } from "./define.ts";
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
    importOnnx: (context: ImportContext) => movedToInputs(() => op, [{ name: "axes", input: 1, dtype: "i64" }])(context),
    flops: (node) => elementCount(node.inputs[0]!.type.shape),
    samples: [...samples.map((s) => ({ ...s, range: range ?? s.range })), ...(integers ? [{ inputs: [i32(3, 4), ints(1)] }] : [])],
  });
  return op;
}

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
  reduction("ReduceSum", (over) => over("add")),
  reduction("ReduceMean", (over, count, dtype) => call("div", over("add"), constant(dtype, count))),
  reduction("ReduceMax", (over) => over("max"), { dtypes: [...NUMBERS, "bool"] }),
  reduction("ReduceMin", (over) => over("min"), { dtypes: [...NUMBERS, "bool"] }),
  reduction("ReduceProd", (over) => over("mul")),
  reduction("ReduceSumSquare", (over) => over("add", square)),
  reduction("ReduceL1", (over) => over("add", (x) => call("abs", x))),
  reduction(
    "ReduceL2",
    inFloat((over) => call("sqrt", over("add", square))),
    { integers: false },
  ),
  reduction(
    "ReduceLogSum",
    inFloat((over) => call("log", over("add"))),
    { range: [0.5, 2], integers: false },
  ),
  reduction("ReduceLogSumExp", inFloat(logSumExp), { integers: false }),
];
