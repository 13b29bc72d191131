// Sampling at places that data gives: GridSample, and AffineGrid that makes such places from an affine map.
import { HeddleError } from "../ir/error.ts";
import { both, call, cast, constant, type Expr, select } from "../ir/expr.ts";
import { type AttrSpec, defineOp, type Op, type Reader, type TensorType, type Value } from "../ir/graph.ts";
import { constIndex, type Index, valueIndex } from "../ir/index_expr.ts";
import { elementCount, fromNumbers, stridesOf } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { emittable, FLOATS, f32, inputType, ints, requiredNumbers, the } from "./define.ts";
import { MatMul } from "./matmul.ts";

const MODES = ["linear", "nearest", "cubic"] as const;
const PADDINGS = ["zeros", "border", "reflection"] as const;

interface GridSampleAttrs {
  readonly align_corners: number;
  readonly mode: (typeof MODES)[number];
  readonly padding_mode: (typeof PADDINGS)[number];
}

const f = (value: number): Expr => constant("f32", value);
const between = (e: Expr, lo: number, hi: number): Expr => call("min", f(hi), call("max", f(lo), e));

/** Mirrors x at lo and hi until it lies between them. */
function reflect(x: Expr, lo: number, hi: number): Expr {
  const span = hi - lo;
  if (span <= 0) return f(lo);
  const phase = call("mod", call("sub", x, f(lo)), f(2 * span));
  return call("add", f(lo), call("min", phase, call("sub", f(2 * span), phase)));
}

/** An element of an axis that has a part in a sample, or that has none: where it is not there. */
interface Tap {
  readonly at: Index;
  readonly isThere: Expr;
  readonly weight: Expr;
}

/** The element that stands for place k, a whole number, of an axis of n. */
function tapOf(k: Expr, weight: Expr, n: number, { padding_mode, align_corners }: GridSampleAttrs): Tap {
  const isInside = call("and", call("ge", k, f(0)), call("lt", k, f(n)));
  // What is no number, or infinite, is nowhere.
  const isThere = padding_mode === "zeros" ? isInside : call("lt", call("abs", k), f(Number.POSITIVE_INFINITY));
  const mirrored = padding_mode !== "reflection" ? k : align_corners ? reflect(k, 0, n - 1) : reflect(k, -0.5, n - 0.5);
  return { at: valueIndex(cast("i32", call("round", between(mirrored, 0, n - 1))), 0, n - 1), isThere, weight };
}

/** Keys' kernel with a = −0.75, at distances 1 + x, x, 1 − x, 2 − x: polynomials in x. */
const CUBIC = [[-0.75, 1.5, -0.75, 0], [1.25, -2.25, 0, 1], [-1.25, 1.5, 0.75, 0], [0.75, -0.75, 0, 0]]; // biome-ignore format: a table
const cubicWeights = (x: Expr): Expr[] => CUBIC.map((row) => row.map(f).reduce((sum, c) => call("add", call("mul", sum, x), c)));

/** Elements of an axis of n that make up coordinate g, where −1 and 1 are its ends. */
function tapsAt(g: Expr, n: number, attrs: GridSampleAttrs): Tap[] {
  const { mode, align_corners, padding_mode } = attrs;
  const shifted = call("add", g, f(1));
  const raw = align_corners ? call("mul", shifted, f((n - 1) / 2)) : call("mul", call("sub", call("mul", shifted, f(n)), f(1)), f(0.5));
  const tap = (first: Expr, i: number, weight: Expr): Tap => tapOf(i === 0 ? first : call("add", first, f(i)), weight, n, attrs);
  if (mode === "cubic") {
    const first = call("floor", raw);
    return cubicWeights(call("sub", raw, first)).map((w, i) => tap(first, i - 1, w));
  }
  const [lo, hi] = align_corners ? [0, n - 1] : [-0.5, n - 0.5];
  const mirrored = padding_mode === "reflection" ? reflect(raw, lo, hi) : raw;
  const x = padding_mode === "zeros" ? raw : between(mirrored, 0, n - 1);
  if (mode === "nearest") return [tap(call("round", x), 0, f(1))];
  const first = call("floor", x);
  const share = call("sub", x, first);
  return [tap(first, 0, call("sub", f(1), share)), tap(first, 1, share)];
}

/** Taps of all axes together. */
const combined = (axes: readonly (readonly Tap[])[]): readonly (readonly Tap[])[] =>
  axes.reduce<readonly (readonly Tap[])[]>((all, taps) => all.flatMap((some) => taps.map((t) => [...some, t])), [[]]);

/** x (N, C, spatial…) · grid (N, out…, axes), whose last axis names the innermost axis first → (N, C, out…). */
function sampled(x: Reader, grid: Reader, type: TensorType, attrs: GridSampleAttrs): Reader {
  const spatial = x.type.shape.slice(2);
  const at = ([n, c, ...place]: readonly Index[]): Expr => {
    const coordinate = (axis: number): Expr => cast("f32", grid.at([n, ...place, constIndex(spatial.length - 1 - axis)]));
    const terms = combined(spatial.map((d, axis) => tapsAt(coordinate(axis), d, attrs))).map((taps) => {
      const value = cast("f32", x.at([n, c, ...taps.map((t) => t.at)]));
      const weight = taps.map((t) => t.weight).reduce((w, v) => call("mul", w, v));
      return select(taps.map((t) => t.isThere).reduce(both), call("mul", value, weight), f(0));
    });
    return cast(
      type.dtype,
      terms.reduce((sum, term) => call("add", sum, term)),
    );
  };
  return { type, at };
}

const OLD_MODES: Readonly<Record<string, string>> = { bilinear: "linear", bicubic: "cubic" };

const GridSample: Op = defineOp<GridSampleAttrs>({
  name: "GridSample",
  kind: "opaque",
  attrs: {
    align_corners: { type: "int", default: 0 },
    mode: { type: "string", default: "linear" },
    padding_mode: { type: "string", default: "zeros" },
  },
  infer(inputs, { mode, padding_mode }) {
    const { dtype, shape: x } = inputType("GridSample", inputs, 0, FLOATS);
    const grid = inputType("GridSample", inputs, 1, FLOATS).shape;
    if (!MODES.includes(mode)) throw new HeddleError("bad-model", `GridSample: mode is ${mode}, wanted ${MODES.join(", ")}`);
    if (!PADDINGS.includes(padding_mode))
      throw new HeddleError("bad-model", `GridSample: padding_mode is ${padding_mode}, wanted ${PADDINGS.join(", ")}`);
    const fits = x.length >= 3 && grid.length === x.length && grid[0] === x[0] && grid.at(-1) === x.length - 2;
    if (!fits) throw new HeddleError("bad-model", `GridSample: the grid (${grid}) does not fit the input (${x})`);
    if (x.slice(2).includes(0)) throw new HeddleError("bad-model", `GridSample: the input (${x}) has nothing to sample`);
    return [{ dtype, shape: [x[0], x[1], ...grid.slice(1, -1)] }];
  },
  lower: ([x, grid], node) => [sampled(the(x), the(grid), node.outputs[0].type, node.attrs)],
  importOnnx({ emit, inputs, attrs }) {
    const mode = typeof attrs.mode === "string" ? (OLD_MODES[attrs.mode] ?? attrs.mode) : undefined;
    return emit(emittable(GridSample), inputs, mode ? { ...attrs, mode } : attrs);
  },
  flops: (node) => 8 * elementCount(node.outputs[0].type.shape),
  samples: [
    { inputs: [f32(1, 2, 4, 5), f32(1, 3, 2, 2)] },
    { inputs: [f32(2, 1, 4, 5), f32(2, 3, 3, 2)], attrs: { mode: "nearest", padding_mode: "border", align_corners: 1 } },
    { inputs: [f32(1, 1, 4, 4), f32(1, 3, 3, 2)], attrs: { mode: "cubic", padding_mode: "reflection" } },
    { inputs: [f32(1, 2, 3, 4, 5), f32(1, 2, 2, 2, 3)], attrs: { padding_mode: "reflection" } },
    { inputs: [f32(1, 2, 4, 3), f32(1, 5, 4, 2)], attrs: { mode: "cubic", padding_mode: "border" }, range: [-3, 3] },
    { inputs: [f32(1, 1, 5, 4), f32(1, 5, 4, 2)], attrs: { mode: "nearest", padding_mode: "reflection" }, range: [-3, 3] },
    { inputs: [f32(1, 1, 3, 4), f32(1, 5, 4, 2)], attrs: { padding_mode: "reflection", align_corners: 1 }, range: [-3, 3] },
  ],
});

/** Coordinates of n elements between −1 and 1: of their centres, or with the first and last on the ends. */
const line = (n: number, isAligned: boolean): number[] =>
  Array.from({ length: n }, (_, i) => (isAligned ? (n > 1 ? -1 + (2 * i) / (n - 1) : 0) : (2 * i + 1) / n - 1));

const alignCorners: AttrSpec = { type: "int", default: 0 };

/** The places are made as a constant. */
const MAX_PLACES = 2 ** 26;

function gridSizes(inputs: readonly (Value | null)[]): number[] {
  const theta = inputType("AffineGrid", inputs, 0, FLOATS).shape;
  const size = requiredNumbers("AffineGrid", inputs, 1, "the size");
  const rank = size.length - 2;
  if ((rank !== 2 && rank !== 3) || theta.join() !== [size[0], rank, rank + 1].join() || size.some((d) => !(d >= 1)))
    throw new HeddleError("bad-model", `AffineGrid: theta (${theta}) does not fit size (${size})`);
  if (elementCount(size.slice(2)) > MAX_PLACES) throw new HeddleError("limit", `AffineGrid: size (${size}) has more than 2^26 places`);
  return size;
}

/** theta (N, r, r + 1) times every place of the grid → (N, spatial…, r). */
const AffineGrid: Op = defineOp<{ align_corners: number }>({
  name: "AffineGrid",
  kind: "opaque",
  attrs: { align_corners: alignCorners },
  infer(inputs) {
    const [batch, , ...spatial] = gridSizes(inputs);
    return [{ dtype: inputs[0]!.type.dtype, shape: [batch, ...spatial, spatial.length] }]; // gridSizes has seen it
  },
  expand([theta, size], { align_corners }, node) {
    const build = builder(node.from);
    const { dtype, shape } = node.outputs[0].type;
    const spatial = gridSizes([theta, size]).slice(2);
    const count = elementCount(spatial);
    const steps = stridesOf(spatial);
    const lines = spatial.map((d) => line(d, align_corners !== 0));
    const rank = spatial.length;
    const row = (p: number) => [...lines.map((l, axis) => l[Math.floor(p / steps[axis]) % spatial[axis]]).reverse(), 1];
    const places = new Float64Array(count * (rank + 1));
    for (let p = 0; p < count; p++) places.set(row(p), p * (rank + 1));
    const base = build.tensor(fromNumbers(dtype, [count, rank + 1], places));
    return [build.reshape(build.op(MatMul, [base, build.transpose(theta!, [0, 2, 1])]), shape)];
  },
  samples: [{ inputs: [f32(2, 2, 3), ints(2, 3, 4, 5)] }, { inputs: [f32(1, 3, 4), ints(1, 1, 2, 3, 2)], attrs: { align_corners: 1 } }],
});

export const gridSampleOps: readonly Op[] = [GridSample, AffineGrid];
