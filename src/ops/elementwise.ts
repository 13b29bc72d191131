// Makes element-wise operators with broadcasting from one scalar expression each.
import type { DType } from "../ir/dtype.ts";
import { HeddleError } from "../ir/error.ts";
import { call, constant, type Expr } from "../ir/expr.ts";
import { type AttrSpec, defineOp, type ImportContext, type Node, type Op, type Sample, type TensorType, type Value } from "../ir/graph.ts";
import type { ScalarFn } from "../ir/scalar.ts";
import {
  broadcastShapes,
  emittable,
  FLOATS,
  f32,
  i32,
  i64,
  inParts,
  inputType,
  ints,
  type MovedAttribute,
  movedToInputs,
  readBroadcast,
  sameDType,
  without,
} from "./define.ts";
import type { Vjp } from "./gradient.ts";
import { Unsqueeze } from "./view.ts";

export interface MapSpec<A extends object> {
  readonly name: string;
  /** Number of inputs; or the smallest number, for variadic operators. */
  readonly arity: number;
  readonly variadic?: boolean;
  /** Input numbers that may be absent: their argument is null. */
  readonly optional?: readonly number[];
  /** Allowed types, of all inputs or of each. */
  readonly dtypes: readonly DType[];
  readonly dtypesOf?: Readonly<Record<number, readonly DType[]>>;
  /** The inputs from this one on share a type; default: all do. */
  readonly sameFrom?: number;
  /** Type of the result; default: of the first input. */
  readonly result?: (first: DType, attrs: A, inputs: readonly (Value | null)[]) => DType;
  readonly attrs?: Readonly<Record<string, AttrSpec>>;
  /** What is wrong with the attributes, or nothing. */
  readonly check?: (first: DType, attrs: A) => string | undefined;
  readonly value: (args: readonly Expr[], attrs: A, node: Node<A>) => Expr;
  readonly vjp?: Vjp<A>;
  readonly samples: readonly Sample<A>[];
  readonly importOnnx?: (context: ImportContext) => readonly Value[];
}

/** An operator whose every output element is one expression of the elements that broadcast to it. */
export function mapOp<A extends object>(spec: MapSpec<A>): Op {
  const { name, optional = [] } = spec;
  return defineOp<A>({
    name,
    kind: "map",
    attrs: spec.attrs ?? {},
    infer(inputs, attrs) {
      const count = inputs.length;
      if (spec.variadic ? count < spec.arity : count > spec.arity)
        throw new HeddleError("bad-model", `${name}: got ${count} inputs, wanted ${spec.variadic ? `${spec.arity} or more` : spec.arity}`);
      const wanted = spec.variadic ? count : spec.arity;
      const types: TensorType[] = [];
      for (let i = 0; i < wanted; i++)
        if (inputs[i] || !optional.includes(i)) types.push(inputType(name, inputs, i, spec.dtypesOf?.[i] ?? spec.dtypes));
      if (spec.sameFrom !== types.length) sameDType(name, types, spec.sameFrom);
      const problem = spec.check?.(types[0].dtype, attrs);
      if (problem) throw new HeddleError("bad-model", `${name}: ${problem}`);
      const dtype = spec.result?.(types[0].dtype, attrs, inputs) ?? types[0].dtype;
      return [
        {
          dtype,
          shape: broadcastShapes(
            name,
            types.map((t) => t.shape),
          ),
        },
      ];
    },
    lower(readers, node) {
      const { type } = node.outputs[0];
      return [
        {
          type,
          at: (index) =>
            spec.value(
              readers.map((r) => (r ? readBroadcast(r, index) : absent)),
              node.attrs,
              node,
            ),
        },
      ];
    },
    vjp: spec.vjp,
    importOnnx: spec.importOnnx,
    samples: spec.samples,
  });
}

/** Stands for an absent optional input; `isAbsent` knows it. */
const absent: Expr = constant("bool", 0);
export const isAbsent = (e: Expr | undefined): boolean => e === undefined || e === absent;

const unarySamples = (range?: readonly [number, number]): Sample<object>[] =>
  [f32(3, 17), f32(1, 1, 5), f32(), f32(2, 0, 3)].map((t) => ({ inputs: [t], range }));

interface UnaryOptions {
  readonly vjp?: Vjp<object>;
  /** Of the samples. */
  readonly range?: readonly [number, number];
  readonly result?: DType;
}

/** One input, one scalar function of it. */
export const unary = (
  name: string,
  dtypes: readonly DType[],
  value: ScalarFn | ((x: Expr) => Expr),
  { vjp, range, result }: UnaryOptions = {},
): Op =>
  mapOp<object>({
    name,
    arity: 1,
    dtypes,
    result: result && (() => result),
    value: ([x]) => (typeof value === "string" ? call(value, x) : value(x)),
    vjp,
    samples: unarySamples(range),
  });

/** One input and float attributes with defaults. */
export function activation<A extends object>(
  name: string,
  defaults: Readonly<Record<keyof A & string, number | string>>,
  value: (x: Expr, attrs: A) => Expr,
  vjp: Vjp<A>,
  dtypes: readonly DType[] = FLOATS,
): Op {
  const spec = Object.entries<number | string>(defaults).map(([key, v]): [string, AttrSpec] => [
    key,
    { type: typeof v === "string" ? "string" : "float", default: v },
  ]);
  return mapOp<A>({
    name,
    arity: 1,
    dtypes,
    attrs: Object.fromEntries(spec),
    value: ([x], attrs) => value(x, attrs),
    vjp,
    samples: unarySamples() as Sample<A>[], // no attributes in them
  });
}

export const broadcastSamples: readonly Sample<object>[] = [
  { inputs: [f32(3, 17), f32(3, 17)] },
  { inputs: [f32(2, 3, 5), f32(5)] },
  { inputs: [f32(2, 1, 5), f32(7, 1)] },
  { inputs: [f32(1, 8, 3, 3), f32(1, 8, 1, 1)] },
  { inputs: [f32(4), f32()] },
  { inputs: [f32(0, 3), f32(1, 3)] },
];
export const integerSamples: readonly Sample<object>[] = [{ inputs: [i32(3, 5), i32(5)] }, { inputs: [i64(7), ints(3)] }];

interface BinaryOptions {
  readonly samples?: readonly Sample<object>[];
  readonly result?: DType;
  readonly vjp?: Vjp<object>;
}

/** Two inputs that broadcast against each other. */
export const binary = (
  name: string,
  dtypes: readonly DType[],
  value: ScalarFn | ((a: Expr, b: Expr) => Expr),
  { samples = broadcastSamples, result, vjp }: BinaryOptions = {},
): Op => {
  const op: Op = mapOp<object>({
    name,
    arity: 2,
    dtypes,
    result: result && (() => result),
    value: ([a, b]) => (typeof value === "string" ? call(value, a, b) : value(a, b)),
    vjp,
    samples,
    importOnnx: (context) => importBroadcast(op, context),
  });
  return op;
};

/** Before opset 7 the second input was aligned at attribute `axis`, and only when `broadcast` was set. */
export function importBroadcast(op: Op, context: ImportContext): readonly Value[] {
  const inputs = [...context.inputs];
  const [a, b] = inputs;
  const { axis } = context.attrs;
  if (context.opset < 7 && a && b && typeof axis === "number") {
    const at = axis < 0 ? axis + a.type.shape.length : axis;
    const rank = b.type.shape.length;
    const trailing = Math.max(0, a.type.shape.length - at - rank);
    const axes = context.constant(ints(...Array.from({ length: trailing }, (_, i) => rank + i)));
    if (trailing > 0) inputs[1] = context.emit(emittable(Unsqueeze), [b, axes])[0];
  }
  return context.emit(emittable(op), inputs, without(context.attrs, ["axis", "broadcast", "consumed_inputs"]));
}

interface VariadicOptions {
  readonly vjp: Vjp<object>;
  /** The result, from all inputs combined and their number. */
  readonly finish?: (all: Expr, count: number) => Expr;
  readonly importOnnx?: (context: ImportContext) => readonly Value[];
}

/** Any number of inputs that broadcast, combined from the left. */
export const variadic = (
  name: string,
  dtypes: readonly DType[],
  combine: (a: Expr, b: Expr) => Expr,
  { vjp, finish = (all) => all, importOnnx }: VariadicOptions,
): Op => {
  const op: Op = mapOp<object>({
    name,
    arity: 1,
    variadic: true,
    dtypes,
    value: (args) => finish(args.slice(1).reduce(combine, args[0]), args.length),
    vjp,
    samples: [{ inputs: [f32(3, 5)] }, { inputs: [f32(3, 5), f32(5)] }, { inputs: [f32(2, 1, 3), f32(4, 1), f32()] }],
    importOnnx: importOnnx ?? ((context) => inParts(op, context, context.attrs)),
  });
  return op;
};

/** Scalar operators whose attributes became inputs. */
export const withMovedAttributes = <A extends object>(spec: MapSpec<A>, moved: readonly MovedAttribute[]): Op => {
  const op: Op = mapOp<A>({ ...spec, importOnnx: movedToInputs(() => op, moved) });
  return op;
};
