// Shapes as types: what operators do to literal shapes, degrading to number[] where a size or the rank is not known.

/** Any shape. */
export type Dims = readonly number[];

/** Whether the rank of a shape is known to the type checker. */
type IsTuple<S extends Dims> = number extends S["length"] ? false : true;

type BroadcastSize<A extends number, B extends number> = number extends A | B
  ? number
  : A extends 1
    ? B
    : B extends 1
      ? A
      : A extends B
        ? A
        : never;

type BroadcastBackwards<A extends Dims, B extends Dims, Out extends Dims> = A extends readonly [
  ...infer RestA extends Dims,
  infer LastA extends number,
]
  ? B extends readonly [...infer RestB extends Dims, infer LastB extends number]
    ? BroadcastBackwards<RestA, RestB, [BroadcastSize<LastA, LastB>, ...Out]>
    : [...A, ...Out]
  : [...B, ...Out];

/** NumPy's broadcasting. A size that does not fit is never. */
export type Broadcast<A extends Dims, B extends Dims> =
  IsTuple<A> extends true ? (IsTuple<B> extends true ? BroadcastBackwards<A, B, []> : number[]) : number[];

/** Shape of a scalar operand or of a tensor. */
export type ShapeOf<T> = T extends { readonly shape: infer S extends Dims } ? S : [];

/** (…, m, k) · (k, n) and (…, m, k) · (k); other ranks are number[]. */
export type MatMulShape<A extends Dims, B extends Dims> =
  IsTuple<A> extends true
    ? B extends readonly [number, infer N extends number]
      ? A extends readonly [...infer Front extends Dims, number]
        ? [...Front, N]
        : number[]
      : B extends readonly [number]
        ? A extends readonly [...infer Front extends Dims, number]
          ? Front
          : number[]
        : number[]
    : number[];

export type Reversed<S extends Dims> =
  IsTuple<S> extends true
    ? S extends readonly [infer First extends number, ...infer Rest extends Dims]
      ? [...Reversed<Rest>, First]
      : []
    : number[];

/** Shape of a nested list; the sizes of lists are not known to the type checker. */
export type NestedShape<T> = T extends number | boolean ? [] : T extends readonly (infer E)[] ? [number, ...NestedShape<E>] : number[];
