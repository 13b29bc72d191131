// What the gradients of pools are made of: SpreadWindows and its adjoint GatherWindows, and PoolPlaces, which says where a maximum was.
import { HeddleError } from "../ir/error.ts";
import { both, call, constant, type Expr, reduce, select, within } from "../ir/expr.ts";
import {
  type AttrSpec,
  apply,
  defineOp,
  type Node,
  type Op,
  type PermuteContext,
  type Reader,
  type TensorType,
  type Value,
} from "../ir/graph.ts";
import { addIndex, clampIndex, divIndex, type Index, linearIndex, modIndex, mulIndex, newVar, varIndex } from "../ir/index_expr.ts";
import type { Layout } from "../ir/slide.ts";
import { elementCount, stridesOf } from "../ir/tensor.ts";
import { FLOATS, f32, inputType, NUMBERS, tensorOf, the } from "./define.ts";
import { joinAxes, perAxis, permutedLayout, splitAxes } from "./spatial.ts";

/** A window that slides over spatial axes, everything written out. */
export interface WindowAttrs {
  readonly kernel_shape: readonly number[];
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  /** Before each axis. */
  readonly pads: readonly number[];
  readonly layout: Layout;
}

interface SizedAttrs extends WindowAttrs {
  /** Spatial sizes of the result. */
  readonly size: readonly number[];
}

export const WINDOW_ATTRS: Readonly<Record<keyof WindowAttrs, AttrSpec>> = {
  kernel_shape: { type: "ints" },
  strides: { type: "ints" },
  dilations: { type: "ints" },
  pads: { type: "ints" },
  layout: { type: "string", default: "NCHW" },
};
const SIZED_ATTRS: Readonly<Record<keyof SizedAttrs, AttrSpec>> = { ...WINDOW_ATTRS, size: { type: "ints" } };

/** Each list has one number an axis. */
export function checkWindow(op: string, axes: number, attrs: WindowAttrs): void {
  for (const [name, least] of [["kernel_shape", 1], ["strides", 1], ["dilations", 1], ["pads", 0]] as const) perAxis(op, name, attrs[name], axes, least); // biome-ignore format: a table
}

/** Splits an index of a data tensor, and puts it together with other spatial places. */
const spatialOf = (index: readonly Index[], layout: Layout): readonly Index[] => (layout === "NCHW" ? index.slice(2) : index.slice(1, -1));
const withSpatial = (index: readonly Index[], spatial: readonly Index[], layout: Layout): Index[] =>
  layout === "NCHW" ? [index[0], index[1], ...spatial] : [index[0], ...spatial, index[index.length - 1]];
const spatialShape = ({ shape }: TensorType, layout: Layout): readonly number[] =>
  layout === "NCHW" ? shape.slice(2) : shape.slice(1, -1);

/** One place that an element meets: where in the other tensor, whether it is there, and the number of the tap. */
interface Meeting {
  readonly place: readonly Index[];
  readonly isThere: Expr;
  readonly tap: Index;
}

/** The element under tap `taps` of the window at `at`. */
function tapOf(at: readonly Index[], taps: readonly Index[], size: readonly number[], attrs: WindowAttrs): Meeting {
  const places = at.map((i, axis) =>
    addIndex(addIndex(mulIndex(i, attrs.strides[axis]), mulIndex(taps[axis], attrs.dilations[axis])), -attrs.pads[axis]),
  );
  return {
    place: places.map((p, axis) => clampIndex(p, 0, size[axis] - 1)),
    isThere: places.map((p, axis) => within(p, 0, size[axis])).reduce(both),
    tap: linearIndex(taps, stridesOf(attrs.kernel_shape)),
  };
}

/** Window number `back` before the last one that covers the element at `at`. */
function windowOf(at: readonly Index[], back: readonly Index[], size: readonly number[], attrs: WindowAttrs): Meeting {
  const { kernel_shape: kernel, strides, dilations, pads } = attrs;
  const padded = at.map((i, axis) => addIndex(i, pads[axis]));
  const windows = padded.map((p, axis) => addIndex(divIndex(p, strides[axis]), mulIndex(back[axis], -1)));
  const offsets = padded.map((p, axis) => addIndex(modIndex(p, strides[axis]), mulIndex(back[axis], strides[axis])));
  const conditions = offsets.flatMap((offset, axis) => [
    within(windows[axis], 0, size[axis]),
    within(offset, 0, (kernel[axis] - 1) * dilations[axis] + 1),
    within(modIndex(offset, dilations[axis]), 0, 1),
  ]);
  return {
    place: windows.map((w, axis) => clampIndex(w, 0, size[axis] - 1)),
    isThere: conditions.reduce(both),
    tap: linearIndex(
      offsets.map((offset, axis) => clampIndex(divIndex(offset, dilations[axis]), 0, kernel[axis] - 1)),
      stridesOf(kernel),
    ),
  };
}

/** Windows that can cover one element, on each axis. */
const windowsOver = ({ kernel_shape, strides, dilations }: WindowAttrs): number[] =>
  kernel_shape.map((k, axis) => Math.floor(((k - 1) * dilations[axis]) / strides[axis]) + 1);

/** Combines over variables of the extents. */
function over(combine: "add" | "min", extents: readonly number[], body: (at: readonly Index[]) => Expr): Expr {
  const vars = extents.map(newVar);
  const long = vars.filter((v) => v.extent > 1);
  const value = body(vars.map(varIndex));
  return long.length === 0 ? value : reduce(combine, long, value);
}

/** Both data inputs lie in the layout, and so does the result. */
const permuteWindows =
  (op: () => Op) =>
  (context: PermuteContext, node: Node<WindowAttrs>): readonly Value[] | undefined => {
    const layout = permutedLayout(context.order, node.attrs.layout);
    return (
      layout &&
      apply(
        op(),
        node.inputs.map((v, i) => v && context.permuted(i)),
        { ...node.attrs, layout },
        node.from,
      )
    );
  };

/** Sums what meets: of windows over an element (SpreadWindows), or of elements in a window (GatherWindows); with places only those whose tap it names. */
function meetingOp(
  name: string,
  adjoint: string,
  meet: typeof tapOf,
  extents: (attrs: WindowAttrs) => readonly number[],
  samples: Op["samples"],
): Op {
  const op: Op = defineOp<SizedAttrs>({
    name,
    kind: "reduce",
    own: true,
    attrs: SIZED_ATTRS,
    infer(inputs, attrs) {
      const { dtype, shape } = inputType(name, inputs, 0, FLOATS);
      const axes = splitAxes(name, shape, attrs.layout);
      checkWindow(name, axes.spatial.length, attrs);
      const out = joinAxes({ ...axes, spatial: perAxis(name, "size", attrs.size, axes.spatial.length, 0) }, attrs.layout);
      const places = inputs[1] && inputType(name, inputs, 1, ["i32"]).shape;
      if (places && places.join() !== (meet === tapOf ? out : shape).join())
        throw new HeddleError("bad-model", `${name}: places (${places}) are not one a window`);
      return [{ dtype, shape: out }];
    },
    lower([input, second], node) {
      const x = the(input);
      const { type } = node.outputs[0];
      const { layout } = node.attrs;
      const at = (index: readonly Index[]): Expr =>
        over("add", extents(node.attrs), (vars) => {
          const { place, isThere, tap } = meet(spatialOf(index, layout), vars, spatialShape(x.type, layout), node.attrs);
          const from = withSpatial(index, place, layout);
          const named = second && call("eq", second.at(meet === tapOf ? index : from), { k: "index", dtype: "i32", at: tap });
          const condition = named ? both(isThere, named) : isThere;
          const zero = constant(type.dtype, 0);
          return condition.k === "const" ? (condition.value ? x.at(from) : zero) : select(condition, x.at(from), zero);
        });
      return [{ type, at: type.shape.includes(0) || x.type.shape.includes(0) ? () => constant(type.dtype, 0) : at }];
    },
    vjp({ build, grad }, { inputs: [x, places], attrs }) {
      const size = spatialShape(x!.type, attrs.layout); // checked by infer
      return [build.op(adjoint, [grad(0), places ?? null], { ...attrs, size }), null];
    },
    permute: permuteWindows(() => op),
    flops: (node) => elementCount(node.outputs[0].type.shape) * elementCount(extents(node.attrs)),
    samples,
  });
  return op;
}

const window = (kernel_shape: number[], strides: number[], pads: number[], dilations = [1, 1]) => ({
  kernel_shape,
  strides,
  pads,
  dilations,
});
const places = (taps: number, ...shape: number[]) =>
  tensorOf(
    "i32",
    Array.from({ length: elementCount(shape) }, (_, i) => (i * 7) % taps),
    shape,
  );

/** Each output element is the sum of the windows that cover it. */
export const SpreadWindows = meetingOp("SpreadWindows", "GatherWindows", windowOf, windowsOver, [
  { inputs: [f32(1, 3, 3, 3)], attrs: { ...window([2, 2], [2, 2], [0, 0]), size: [6, 7] } },
  { inputs: [f32(2, 2, 4, 5), places(9, 2, 2, 4, 5)], attrs: { ...window([3, 3], [2, 1], [1, 1]), size: [7, 5] } },
  { inputs: [f32(1, 4, 3, 5), places(6, 1, 4, 3, 5)], attrs: { ...window([3, 2], [2, 2], [1, 0]), size: [6, 7], layout: "NHWC" } },
  { inputs: [f32(1, 1, 4, 4)], attrs: { ...window([3, 2], [1, 2], [1, 1], [2, 3]), size: [6, 6] } },
]);

/** Each output element is the sum of what its window covers. */
const GatherWindows = meetingOp("GatherWindows", "SpreadWindows", tapOf, ({ kernel_shape }) => kernel_shape, [
  { inputs: [f32(1, 3, 6, 7)], attrs: { ...window([2, 2], [2, 2], [0, 0]), size: [3, 3] } },
  { inputs: [f32(2, 2, 7, 5), places(9, 2, 2, 4, 5)], attrs: { ...window([3, 3], [2, 1], [1, 1]), size: [4, 5] } },
  { inputs: [f32(1, 6, 7, 5), places(6, 1, 4, 3, 5)], attrs: { ...window([3, 2], [2, 2], [1, 0]), size: [4, 3], layout: "NHWC" } },
]);

/** The number of the first tap of each window that reads y's element; as many as there are taps where none does. */
export const PoolPlaces: Op = defineOp<WindowAttrs>({
  name: "PoolPlaces",
  kind: "reduce",
  own: true,
  attrs: WINDOW_ATTRS,
  infer(inputs, attrs) {
    const x = splitAxes("PoolPlaces", inputType("PoolPlaces", inputs, 0, NUMBERS).shape, attrs.layout);
    checkWindow("PoolPlaces", x.spatial.length, attrs);
    return [{ dtype: "i32", shape: inputType("PoolPlaces", inputs, 1, [inputs[0]!.type.dtype]).shape }]; // inputType has checked that it is there
  },
  lower([first, second], node): readonly Reader[] {
    const [x, y] = [the(first), the(second)];
    const { layout, kernel_shape } = node.attrs;
    const none = constant("i32", elementCount(kernel_shape));
    const at = (index: readonly Index[]): Expr =>
      over("min", kernel_shape, (taps) => {
        const { place, isThere, tap } = tapOf(spatialOf(index, layout), taps, spatialShape(x.type, layout), node.attrs);
        const isEqual = call("eq", x.at(withSpatial(index, place, layout)), y.at(index));
        return select(both(isThere, isEqual), { k: "index", dtype: "i32", at: tap }, none);
      });
    return [{ type: node.outputs[0].type, at: x.type.shape.includes(0) ? () => none : at }];
  },
  permute: permuteWindows(() => PoolPlaces),
  flops: (node) => elementCount(node.outputs[0].type.shape) * elementCount(node.attrs.kernel_shape),
  samples: [
    {
      inputs: [tensorOf("f32", [1, 3, 3, 2, 2, 2, 0, 5], [1, 1, 2, 4]), tensorOf("f32", [3, 5], [1, 1, 1, 2])],
      attrs: window([2, 2], [2, 2], [0, 0]),
    },
    {
      inputs: [tensorOf("f32", [1, 3, 3, 2, 2, 2, 0, 5], [1, 2, 4, 1]), tensorOf("f32", [1, 3, 2, 5], [1, 1, 4, 1])],
      attrs: { ...window([2, 2], [2, 1], [0, 1]), layout: "NHWC" },
    },
  ],
});

export const poolWindowOps: readonly Op[] = [SpreadWindows, GatherWindows, PoolPlaces];
