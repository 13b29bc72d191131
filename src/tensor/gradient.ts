// Functions of tensors → functions that give their gradients: grad, valueAndGrad, vjp, jvp.
import { isFloat } from "../ir/dtype.ts";
import type { Value } from "../ir/graph.ts";
import { type Cotangent, gradients as gradientsOfGraph } from "../passes/autodiff.ts";
import { full } from "./build.ts";
import { fresh } from "./marks.ts";
import type { Parameter } from "./parameter.ts";
import { Tensor, tensorFrom, toValue } from "./tensor.ts";
import { naming, refuse } from "./trace.ts";
import { flatten } from "./tree.ts";

export interface ValueAndGrad<G> {
  readonly value: Tensor<[]>;
  readonly grads: G;
}
/** With what else the function gave. */
export interface ValueGradAux<G, X> extends ValueAndGrad<G> {
  readonly aux: X;
}

type Loss = Tensor;
type At<A extends readonly unknown[], N extends number | readonly number[]> = N extends number
  ? A[N]
  : { readonly [K in keyof N]: N[K] extends number ? A[N[K]] : never };

function differentiable(x: Tensor, what: string): void {
  if (!isFloat(x.dtype)) refuse(`${what}: ${x.dtype}[${x.shape}] has no gradient, only floats do`);
}

/** Gradients of values; errors name the user's line. */
const gradients = (outputs: readonly Cotangent[], wrt: readonly Value[]): (Value | null)[] => naming(() => gradientsOfGraph(outputs, wrt));

/** d loss / d each value; zeros where the loss does not depend on it. */
function gradientsOf(loss: Tensor, wrt: readonly Value[], what: string): Value[] {
  if (loss.size !== 1) refuse(`${what}: the function gives shape (${loss.shape}), wanted a scalar; reduce it with mean() or sum()`);
  differentiable(loss, what);
  const value = toValue(loss);
  const found = gradients([{ value, grad: full(value.type.dtype, value.type.shape, 1) }], wrt);
  return wrt.map((v, i) => found[i] ?? full(v.type.dtype, v.type.shape, 0));
}

/** A tree with new values in place of its tensors', with respect to which is differentiated. */
function freshTree<T>(tree: T, what: string): { tree: T; values: Value[]; rebuild: (values: readonly Value[]) => T } {
  const flat = flatten(tree, what);
  for (const t of flat.tensors) differentiable(t, what);
  const values = flat.tensors.map((t) => fresh(toValue(t)));
  const rebuild = (list: readonly Value[]): T => flat.rebuild(list.map((v) => tensorFrom(v))) as T; // the same tree
  return { tree: rebuild(values), values, rebuild };
}

/** What a function gives: a loss, or [loss, anything else]. */
type Given<X> = Loss | readonly [Loss, X];
const lossOf = <X>(given: Given<X>): { loss: Loss; aux: X | undefined } =>
  given instanceof Tensor ? { loss: given, aux: undefined } : { loss: given[0], aux: given[1] };

/** Runs the loss once: its value and the gradients with respect to parameters, in their order. Inside of jit() or outside. */
export function valueAndGrad(f: () => Loss, wrt: readonly Parameter[]): ValueAndGrad<Tensor[]>;
/** The same for a function that gives [loss, anything else]. */
export function valueAndGrad<X>(f: () => readonly [Loss, X], wrt: readonly Parameter[]): ValueGradAux<Tensor[], X>;
/** A function that gives the loss and the gradients with respect to its arguments of these numbers (default: the first). */
export function valueAndGrad<A extends readonly unknown[]>(f: (...args: A) => Loss): (...args: A) => ValueAndGrad<A[0]>;
export function valueAndGrad<A extends readonly unknown[], const N extends number | readonly number[]>(
  f: (...args: A) => Loss,
  argnums: N,
): (...args: A) => ValueAndGrad<At<A, N>>;
export function valueAndGrad(
  f: (...args: readonly unknown[]) => Given<unknown>,
  wrt: readonly Parameter[] | number | readonly number[] = 0,
): unknown {
  if (isParameters(wrt)) return ofParameters(f, wrt);
  return (...args: readonly unknown[]) => ofArguments(f, args, wrt);
}

const isParameters = (wrt: readonly Parameter[] | number | readonly number[]): wrt is readonly Parameter[] =>
  typeof wrt !== "number" && typeof wrt[0] !== "number";

function ofParameters(f: () => Given<unknown>, wrt: readonly Parameter[]): ValueGradAux<Tensor[], unknown> {
  const values = wrt.map((p) => toValue(p.value));
  const { loss, aux } = lossOf(f());
  return { value: loss as Tensor<[]>, aux, grads: gradientsOf(loss, values, "valueAndGrad").map((v) => tensorFrom(v)) };
}

function ofArguments<A extends readonly unknown[]>(
  f: (...args: A) => Given<unknown>,
  args: A,
  argnums: number | readonly number[],
): ValueGradAux<unknown, unknown> {
  const numbers = [argnums].flat();
  const { tree, values, rebuild } = freshTree(numbers.map((n) => args[n]), "grad"); // biome-ignore format: short
  const inner = args.map((a, i) => (numbers.includes(i) ? tree[numbers.indexOf(i)] : a)) as readonly unknown[] as A; // the same places
  const { loss, aux } = lossOf(f(...inner));
  const grads = rebuild(gradientsOf(loss, values, "grad"));
  return { value: loss as Tensor<[]>, aux, grads: typeof argnums === "number" ? grads[0] : grads };
}

/** The gradient of a scalar function with respect to its arguments of these numbers (default: the first). */
export function grad<A extends readonly unknown[]>(f: (...args: A) => Loss): (...args: A) => A[0];
export function grad<A extends readonly unknown[], const N extends number | readonly number[]>(
  f: (...args: A) => Loss,
  argnums: N,
): (...args: A) => At<A, N>;
export function grad<A extends readonly unknown[]>(
  f: (...args: A) => Loss,
  argnums: number | readonly number[] = 0,
): (...args: A) => unknown {
  return (...args) => ofArguments(f, args, argnums).grads;
}

/** The value, and a function from a gradient with respect to it to the gradients with respect to all arguments. */
export function vjp<A extends readonly unknown[], R>(f: (...args: A) => R, ...args: A): { value: R; pullback: (cotangent: R) => A } {
  const { tree, values, rebuild } = freshTree(args, "vjp");
  const value = f(...tree);
  const outputs = flatten(value, "vjp").tensors.map(toValue);
  const pullback = (cotangent: R): A => {
    const seeds = flatten(cotangent, "vjp").tensors.map(toValue);
    if (seeds.length !== outputs.length) refuse(`vjp: ${seeds.length} gradients for ${outputs.length} outputs`);
    const found = gradients(outputs.map((v, i) => ({ value: v, grad: seeds[i] })), values); // biome-ignore format: short
    return rebuild(values.map((v, i) => found[i] ?? full(v.type.dtype, v.type.shape, 0)));
  };
  return { value, pullback };
}

/** The value, and how it changes when the arguments change by `tangents`: the gradient of the gradient with respect to what flows back, which is linear. */
export function jvp<A extends readonly unknown[], R>(f: (...args: A) => R, args: A, tangents: A): { value: R; tangent: R } {
  const { tree, values } = freshTree(args, "jvp");
  const value = f(...tree);
  const flat = flatten(value, "jvp");
  const outputs = flat.tensors.map(toValue);
  const directions = flatten(tangents, "jvp").tensors.map(toValue);
  if (directions.length !== values.length) refuse(`jvp: ${directions.length} tangents for ${values.length} arguments`);
  const seeds = outputs.map((v) => fresh(full(v.type.dtype, v.type.shape, 0)));
  const pulled = gradients(outputs.map((v, i) => ({ value: v, grad: seeds[i] })), values); // biome-ignore format: short
  const linear = pulled.flatMap((v, i) => (v ? [{ value: v, grad: directions[i] }] : []));
  const found = linear.length ? gradients(linear, seeds) : seeds.map(() => null);
  const tangent = flat.rebuild(outputs.map((v, i) => tensorFrom(found[i] ?? full(v.type.dtype, v.type.shape, 0))));
  return { value, tangent: tangent as R }; // the same tree
}
