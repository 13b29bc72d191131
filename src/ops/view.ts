// Views that rename, reorder or repeat whole axes: Reshape, Squeeze, Transpose, Expand, Tile and their kin.
import { HeddleError } from "../ir/error.ts";
import {
  type AttrSpec,
  defineOp,
  type ImportContext,
  type Op,
  type Reader,
  type Sample,
  type TensorType,
  type Value,
} from "../ir/graph.ts";
import { constIndex, type Index, linearIndex, modIndex, unlinearIndex } from "../ir/index_expr.ts";
import { elementCount, type Shape, stridesOf } from "../ir/tensor.ts";
import {
  broadcastShapes,
  constantNumbers,
  f32,
  i32,
  i64,
  inputType,
  ints,
  type MovedAttribute,
  movedToInputs,
  normalizeAxes,
  readBroadcast,
  requiredNumbers,
  the,
} from "./define.ts";
import { noGradient, unbroadcast, type Vjp } from "./gradient.ts";

interface ViewSpec<A extends object> {
  readonly name: string;
  readonly attrs?: Readonly<Record<string, AttrSpec>>;
  readonly moved?: readonly MovedAttribute[];
  shape(x: TensorType, attrs: A, inputs: readonly (Value | null)[]): readonly number[];
  /** Where in x the element at `index` of the output is. Default: same place in row-major order. */
  from?(index: readonly Index[], x: Shape, attrs: A): readonly Index[];
  /** Default, for an output of the same elements: they get the input's shape again. */
  readonly vjp?: Vjp<A>;
  readonly samples: readonly Sample<A>[];
}

/** An operator that reads one element of its first input for each output element. Its other inputs are constants. */
function viewOp<A extends object>(spec: ViewSpec<A>): Op {
  const op: Op = defineOp<A>({
    name: spec.name,
    kind: "view",
    attrs: spec.attrs ?? {},
    infer(inputs, attrs) {
      const x = inputType(spec.name, inputs, 0);
      return [{ dtype: x.dtype, shape: spec.shape(x, attrs, inputs) }];
    },
    lower([input], node) {
      const x = the(input);
      const { type } = node.outputs[0];
      const { from } = spec;
      return [from ? { type, at: (index) => x.at(from(index, x.type.shape, node.attrs)) } : reshaped(x, type)];
    },
    vjp:
      spec.vjp ?? (({ build, grad }, { inputs }) => [build.reshape(grad(0)!, inputs[0]!.type.shape), ...inputs.slice(1).map(() => null)]),
    importOnnx: (context: ImportContext) => movedToInputs(() => op, spec.moved ?? [])(context),
    flops: () => 0,
    samples: spec.samples,
  });
  return op;
}

/** The same elements in row-major order under another shape. Axes that only gain or lose a size of 1 keep their index as it is. */
function reshaped(x: Reader, type: TensorType): Reader {
  const source = x.type.shape;
  const long = (shape: Shape) => shape.flatMap((d, i) => (d === 1 ? [] : [i]));
  const [from, to] = [long(source), long(type.shape)];
  const isSame = from.length === to.length && from.every((axis, i) => source[axis] === type.shape[to[i]]);
  if (isSame) {
    return {
      type,
      at: (index) => {
        const at = source.map(() => constIndex(0));
        for (const [i, axis] of from.entries()) at[axis] = index[to[i]];
        return x.at(at);
      },
    };
  }
  const strides = stridesOf(type.shape);
  return { type, at: (index) => x.at(unlinearIndex(linearIndex(index, strides), source)) };
}

/** 0 keeps the input's size, unless `allowzero`; one -1 takes what is left. */
function reshapeTarget(x: Shape, wanted: readonly number[], allowzero: boolean): number[] {
  const fail = (why: string) => new HeddleError("bad-model", `Reshape: (${x}) cannot become (${wanted})${why}`);
  const shape = wanted.map((d, i) => (d === 0 && !allowzero ? (x[i] ?? -2) : d));
  const free = shape.indexOf(-1);
  if (shape.some((d) => d < -1)) throw fail(": a size is negative, or 0 where the input has no axis");
  if (shape.indexOf(-1, free + 1) >= 0 && free >= 0) throw fail(": -1 appears twice");
  const count = elementCount(x);
  if (free >= 0) {
    const others = elementCount(shape.filter((_, i) => i !== free));
    if (others === 0 ? count !== 0 : count % others !== 0) throw fail("");
    shape[free] = others === 0 ? 0 : count / others;
  }
  if (elementCount(shape) !== count) throw fail("");
  return shape;
}

const Identity = viewOp<object>({
  name: "Identity",
  shape: (x) => x.shape,
  from: (index) => index,
  vjp: ({ grad }) => [grad(0)],
  samples: [{ inputs: [f32(3, 5)] }],
});

const Reshape = viewOp<{ allowzero: number }>({
  name: "Reshape",
  attrs: { allowzero: { type: "int", default: 0 } },
  moved: [{ name: "shape", input: 1, dtype: "i64" }],
  shape: (x, { allowzero }, inputs) => reshapeTarget(x.shape, requiredNumbers("Reshape", inputs, 1, "the shape"), allowzero !== 0),
  samples: [
    { inputs: [f32(2, 3, 4), ints(4, 6)] },
    { inputs: [f32(2, 3, 4), ints(0, -1)] },
    { inputs: [f32(3, 5, 7), ints(-1, 3, 5)] },
    { inputs: [f32(0, 3), ints(3, 0)], attrs: { allowzero: 1 } },
    { inputs: [f32(1, 1), { dtype: "i64", shape: [0], data: new BigInt64Array(0) }] },
  ],
});

const Flatten = viewOp<{ axis: number }>({
  name: "Flatten",
  attrs: { axis: { type: "int", default: 1 } },
  shape({ shape }, { axis }) {
    const at = axis < 0 ? axis + shape.length : axis;
    if (at < 0 || at > shape.length) throw new HeddleError("bad-model", `Flatten: axis ${axis} is outside of rank ${shape.length}`);
    return [elementCount(shape.slice(0, at)), elementCount(shape.slice(at))];
  },
  samples: [{ inputs: [f32(2, 3, 4)] }, { inputs: [f32(2, 3, 5)], attrs: { axis: -1 } }, { inputs: [f32(2, 3)], attrs: { axis: 0 } }],
});

const movedAxes: readonly MovedAttribute[] = [{ name: "axes", input: 1, dtype: "i64" }];

const Squeeze = viewOp<object>({
  name: "Squeeze",
  moved: movedAxes,
  shape({ shape }, _, inputs) {
    const given = constantNumbers("Squeeze", inputs, 1, "the list of axes");
    if (!given) return shape.filter((d) => d !== 1);
    const axes = normalizeAxes("Squeeze", given, shape.length);
    const bad = axes.find((a) => shape[a] !== 1);
    if (bad !== undefined) throw new HeddleError("bad-model", `Squeeze: axis ${bad} of (${shape}) is ${shape[bad]}, not 1`);
    return shape.filter((_, i) => !axes.includes(i));
  },
  samples: [{ inputs: [f32(1, 3, 1, 5), ints(0)] }, { inputs: [f32(1, 3, 1, 5)] }, { inputs: [f32(3, 1), ints(-1)] }],
});

export const Unsqueeze = viewOp<object>({
  name: "Unsqueeze",
  moved: movedAxes,
  shape({ shape }, _, inputs) {
    const given = requiredNumbers("Unsqueeze", inputs, 1, "the list of axes");
    const rank = shape.length + given.length;
    const axes = normalizeAxes("Unsqueeze", given, rank);
    let next = 0;
    return Array.from({ length: rank }, (_, i) => (axes.includes(i) ? 1 : shape[next++]));
  },
  samples: [{ inputs: [f32(3, 5), ints(0)] }, { inputs: [f32(3, 5), ints(-1, 1)] }, { inputs: [f32(), ints(0)] }],
});

const Transpose = viewOp<{ perm?: readonly number[] }>({
  name: "Transpose",
  attrs: { perm: { type: "ints", optional: true } },
  shape: ({ shape }, { perm }) => permutation(shape, perm).map((from) => shape[from]),
  from(index, shape, { perm }) {
    const order = permutation(shape, perm);
    return shape.map((_, axis) => index[order.indexOf(axis)]);
  },
  vjp({ build, grad }, { inputs: [x], attrs }) {
    const order = permutation(x!.type.shape, attrs.perm); // checked by infer
    return [
      build.transpose(
        grad(0)!,
        order.map((_, axis) => order.indexOf(axis)),
      ),
    ];
  },
  samples: [
    { inputs: [f32(3, 17)] },
    { inputs: [f32(2, 3, 4, 5)], attrs: { perm: [0, 2, 3, 1] } },
    { inputs: [f32(1, 3, 1)], attrs: { perm: [1, 2, 0] } },
    { inputs: [i64(2, 3)] },
  ],
});

function permutation(shape: Shape, perm: readonly number[] | undefined): readonly number[] {
  if (!perm) return shape.map((_, i) => shape.length - 1 - i);
  const isValid = perm.length === shape.length && shape.every((_, i) => perm.includes(i));
  if (!isValid)
    throw new HeddleError("bad-model", `Transpose: perm (${perm}) is not a permutation of the ${shape.length} axes of (${shape})`);
  return perm;
}

export const Expand: Op = defineOp<object>({
  name: "Expand",
  kind: "view",
  attrs: {},
  infer(inputs) {
    const x = inputType("Expand", inputs, 0);
    return [{ dtype: x.dtype, shape: broadcastShapes("Expand", [x.shape, requiredNumbers("Expand", inputs, 1, "the shape")]) }];
  },
  lower: ([x], node) => [{ type: node.outputs[0].type, at: (index) => readBroadcast(the(x), index) }],
  vjp: ({ build, grad }, { inputs: [x] }) => [unbroadcast(build, grad(0)!, x!.type.shape), null], // checked by infer
  flops: () => 0,
  samples: [{ inputs: [f32(3, 1), ints(2, 1, 6)] }, { inputs: [f32(5), ints(3, 1)] }, { inputs: [f32(), ints(2, 2)] }],
});

const Tile = viewOp<object>({
  name: "Tile",
  shape({ shape }, _, inputs) {
    const repeats = requiredNumbers("Tile", inputs, 1, "the list of repeats");
    if (repeats.length !== shape.length || repeats.some((r) => r < 0))
      throw new HeddleError("bad-model", `Tile: repeats (${repeats}) do not fit (${shape}): one for each axis, none negative`);
    return shape.map((d, i) => d * repeats[i]);
  },
  from: (index, shape) => index.map((at, i) => modIndex(at, Math.max(1, shape[i]))),
  // Each axis as (repeats, size), summed over the repeats.
  vjp({ build, grad }, { inputs: [x, repeats] }) {
    const { shape } = x!.type; // checked by infer
    const counts = requiredNumbers("Tile", [x, repeats], 1, "the list of repeats");
    const apart = build.reshape(
      grad(0)!,
      shape.flatMap((d, i) => [counts[i], d]),
    );
    const axes = build.ints(...shape.map((_, i) => 2 * i));
    return [shape.length === 0 ? apart : build.op("ReduceSum", [apart, axes], { keepdims: 0 }), null];
  },
  samples: [{ inputs: [f32(2, 3), ints(1, 2)] }, { inputs: [f32(1, 5), ints(3, 1)] }, { inputs: [i32(2, 2, 3), ints(2, 1, 3)] }],
});

/** Its input, as a constant to gradients. */
const StopGradient: Op = defineOp<object>({
  name: "StopGradient",
  kind: "view",
  own: true,
  attrs: {},
  infer: (inputs) => [inputType("StopGradient", inputs, 0)],
  expand: ([x]) => [x!], // checked by infer
  vjp: noGradient,
  flops: () => 0,
  samples: [{ inputs: [f32(3, 5)] }],
});

export const viewOps: readonly Op[] = [Identity, Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Expand, Tile, StopGradient];
