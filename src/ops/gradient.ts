// What gradients of operators share: arithmetic on values, sums over broadcast axes, zeros, and the vjp of a function of one element.
import { type DType, isFloat } from "../ir/dtype.ts";
import type { Builder, Node, Value, VjpContext } from "../ir/graph.ts";
import { elementCount, fromNumbers, type Shape } from "../ir/tensor.ts";

/** The `vjp` member of an operator. */
export type Vjp<A> = (context: VjpContext, node: Node<A>) => readonly (Value | null)[] | undefined;

/** A value, or a number of the formula's type. */
export type Term = Value | number;

/** Formulas over values of one float type. */
export interface Formula {
  readonly dtype: DType;
  /** An operator of terms, by name. */
  op(name: string, ...terms: readonly Term[]): Value;
  add(a: Term, b: Term): Value;
  sub(a: Term, b: Term): Value;
  mul(a: Term, ...b: readonly Term[]): Value;
  div(a: Term, b: Term): Value;
  neg(a: Term): Value;
  square(a: Value): Value;
  exp(a: Term): Value;
  /** In the formula's type. */
  cast(a: Value): Value;
  /** a where the condition holds, else b. */
  where(condition: Value, a: Term, b: Term): Value;
}

export function formula(build: Builder, dtype: DType): Formula {
  const term = (t: Term): Value => (typeof t === "number" ? build.constant(dtype, t) : t);
  const op = (name: string, ...terms: readonly Term[]): Value => build.op(name, terms.map(term));
  return {
    dtype,
    op,
    add: (a, b) => op("Add", a, b),
    sub: (a, b) => op("Sub", a, b),
    mul: (a, ...rest) => rest.reduce<Value>((product, b) => op("Mul", product, b), term(a)),
    div: (a, b) => op("Div", a, b),
    neg: (a) => op("Neg", a),
    square: (a) => op("Mul", a, a),
    exp: (a) => op("Exp", a),
    cast: (a) => build.cast(a, dtype),
    where: (condition, a, b) => build.op("Where", [condition, term(a), term(b)]),
  };
}

/** The gradient of a value of `shape` that was broadcast: the sum over the axes that it lacks. */
export function unbroadcast(build: Builder, grad: Value, shape: Shape): Value {
  const from = grad.type.shape;
  const skip = from.length - shape.length;
  const axes = from.flatMap((d, i) => (i < skip || (shape[i - skip] === 1 && d !== 1) ? [i] : []));
  if (axes.length === 0) return grad;
  const isLeading = axes.every((axis) => axis < skip) && axes.length === skip;
  const sum = build.op("ReduceSum", [grad, build.ints(...axes)], { keepdims: isLeading ? 0 : 1 });
  return skip === 0 || isLeading ? sum : build.reshape(sum, shape);
}

/** The gradient of what was reduced over axes, spread over `shape` again; without `axes` over all of them. */
export function spread(build: Builder, grad: Value, shape: Shape, axes: readonly number[]): Value {
  const kept = shape.map((d, i) => (axes.includes(i) ? 1 : d));
  return broadcast(build, grad.type.shape.join() === kept.join() ? grad : build.reshape(grad, kept), shape);
}

/** x, or x repeated to a shape. */
export const broadcast = (build: Builder, x: Value, shape: Shape): Value =>
  x.type.shape.join() === shape.join() ? x : build.op("Expand", [x, build.ints(...shape)]);

/** Zeros of a shape; one number in memory. */
export const zerosOf = (build: Builder, dtype: DType, shape: Shape): Value =>
  build.op("ConstantOfShape", [build.ints(...shape)], { value: fromNumbers(dtype, [1], [0]) });

/** The first input's gradient from formulas of input, output and its gradient: for functions of one element. */
export const elementwise =
  <A = object>(gradient: (f: Formula, parts: { x: Value; y: Value; dy: Value }, attrs: A) => Value | null): Vjp<A> =>
  ({ build, grad }, node) => {
    const [x] = node.inputs as readonly Value[]; // checked by infer
    const dy = grad(0)!; // the only output
    return [isFloat(x.type.dtype) ? gradient(formula(build, x.type.dtype), { x, y: node.outputs[0], dy }, node.attrs) : null];
  };

/** Gradients of elementwise functions of several inputs that broadcast: each is asked for only where it is wanted, and summed over what was broadcast. */
export const broadcasting =
  <A = object>(
    gradient: (f: Formula, parts: { x: readonly Value[]; y: Value; dy: Value }, i: number, node: Node<A>) => Value | null,
  ): Vjp<A> =>
  (context, node) => {
    const { build, grad, wants } = context;
    const parts = { x: node.inputs as readonly Value[], y: node.outputs[0], dy: grad(0)! }; // the only output
    return node.inputs.map((x, i) => {
      if (!x || !wants(i)) return null;
      const dx = gradient(formula(build, parts.dy.type.dtype), parts, i, node);
      return dx && build.cast(unbroadcast(build, broadcast(build, dx, parts.y.type.shape), x.type.shape), x.type.dtype);
    });
  };

/** An identity matrix. */
export const identity = (build: Builder, dtype: DType, size: number): Value =>
  build.constant(
    dtype,
    Array.from({ length: size * size }, (_, i) => (i % (size + 1) === 0 ? 1 : 0)),
    [size, size],
  );

/** The gradient of what a linear map made of one axis: `matrix` (size before, size after) is what it makes of an identity matrix's rows. */
export function throughAxis(build: Builder, grad: Value, axis: number, matrix: Value): Value {
  const { shape } = grad.type;
  const [before, after] = matrix.type.shape;
  const [outer, inner] = [elementCount(shape.slice(0, axis)), elementCount(shape.slice(axis + 1))];
  const result =
    inner === 1
      ? build.op("MatMul", [build.reshape(grad, [outer, after]), build.transpose(matrix, [1, 0])])
      : build.op("MatMul", [matrix, build.reshape(grad, [outer, after, inner])]);
  return build.reshape(result, shape.with(axis, before));
}

/** Nothing flows back: the output is constant almost everywhere. */
export const noGradient = <A>(_: VjpContext, node: Node<A>): readonly null[] => node.inputs.map(() => null);

/** Σ over `axes` of x, which keep size 1. */
export const sumOver = (build: Builder, x: Value, axes: readonly number[]): Value =>
  axes.length === 0 ? x : build.op("ReduceSum", [x, build.ints(...axes)]);

/** Number of elements over axes. */
export const countOver = (shape: Shape, axes: readonly number[]): number => elementCount(axes.map((axis) => shape[axis]));
