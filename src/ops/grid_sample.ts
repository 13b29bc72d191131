// Sampling at places that data gives: GridSample, and AffineGrid that makes such places from an affine map.
import { HeddleError } from "../ir/error.ts";
import { type AttrSpec, defineOp, type Op, type Value } from "../ir/graph.ts";
import { elementCount, fromNumbers, roundEven, type Shape, stridesOf, type TensorData, toNumbers } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { emittable, FLOATS, f32, inputType, ints, requiredNumbers } from "./define.ts";
import { MatMul } from "./matmul.ts";

const MODES = ["linear", "nearest", "cubic"] as const;
const PADDINGS = ["zeros", "border", "reflection"] as const;

interface GridSampleAttrs {
  readonly align_corners: number;
  readonly mode: (typeof MODES)[number];
  readonly padding_mode: (typeof PADDINGS)[number];
}

/** Mirrors x at lo and hi until it lies between them. */
function reflect(x: number, lo: number, hi: number): number {
  const span = hi - lo;
  if (span <= 0) return lo;
  const phase = (((x - lo) % (2 * span)) + 2 * span) % (2 * span);
  return lo + (phase > span ? 2 * span - phase : phase);
}

/** Element that stands for place k of an axis of n; −1: none, its value is 0. */
function element(k: number, n: number, { padding_mode, align_corners }: GridSampleAttrs): number {
  if (k >= 0 && k < n) return k;
  if (padding_mode === "zeros" || !Number.isFinite(k)) return -1;
  const at = padding_mode === "border" ? k : align_corners ? reflect(k, 0, n - 1) : reflect(k, -0.5, n - 0.5);
  return Math.min(n - 1, Math.max(0, Math.trunc(at)));
}

interface Tap {
  readonly at: number;
  readonly weight: number;
}

/** Keys' kernel with a = −0.75, at distances 1 + f, f, 1 − f, 2 − f. */
function cubicWeights(f: number): number[] {
  const a = -0.75;
  const near = (x: number) => ((a + 2) * x - (a + 3)) * x * x + 1;
  const far = (x: number) => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return [far(1 + f), near(f), near(1 - f), far(2 - f)];
}

/** Elements of an axis of n that make up coordinate g, where −1 and 1 are its ends. */
function tapsAt(g: number, n: number, attrs: GridSampleAttrs): Tap[] {
  const { mode, align_corners, padding_mode } = attrs;
  const raw = align_corners ? ((g + 1) / 2) * (n - 1) : ((g + 1) * n - 1) / 2;
  const tap = (k: number, weight: number): Tap => ({ at: element(k, n, attrs), weight });
  if (mode === "cubic") {
    const first = Math.floor(raw);
    return cubicWeights(raw - first).map((w, i) => tap(first - 1 + i, w));
  }
  const [lo, hi] = align_corners ? [0, n - 1] : [-0.5, n - 0.5];
  const mirrored = padding_mode === "reflection" ? reflect(raw, lo, hi) : raw;
  const x = padding_mode === "zeros" ? raw : Math.min(n - 1, Math.max(0, mirrored));
  if (mode === "nearest") return [tap(roundEven(x), 1)];
  const first = Math.floor(x);
  return [tap(first, 1 - (x - first)), tap(first + 1, x - first)];
}

/** Offsets and weights over all axes: products of those of each axis. */
function combine(axes: readonly (readonly Tap[])[], steps: readonly number[]): Tap[] {
  return axes.reduce<Tap[]>(
    (all, taps, axis) =>
      all.flatMap((a) => taps.filter((t) => t.at >= 0).map((t) => ({ at: a.at + t.at * steps[axis], weight: a.weight * t.weight }))),
    [{ at: 0, weight: 1 }],
  );
}

/** x (N, C, spatial…) · grid (N, out…, axes), whose last axis names the innermost axis first → (N, C, out…). */
function sample(x: TensorData, grid: TensorData, shape: Shape, attrs: GridSampleAttrs): TensorData {
  const [batch, channels, ...spatial] = x.shape;
  const [values, places] = [toNumbers(x), toNumbers(grid)];
  const size = elementCount(spatial);
  const count = elementCount(shape.slice(2));
  const steps = stridesOf(spatial);
  const rank = spatial.length;
  const y = new Float64Array(elementCount(shape));
  for (let n = 0; n < batch; n++)
    for (let p = 0; p < count; p++) {
      const from = (n * count + p) * rank;
      const taps = combine(
        spatial.map((d, axis) => tapsAt(places[from + rank - 1 - axis], d, attrs)),
        steps,
      );
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (const { at, weight } of taps) sum += values[(n * channels + c) * size + at] * weight;
        y[(n * channels + c) * count + p] = sum;
      }
    }
  return fromNumbers(x.dtype, shape, y);
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
  evaluate: ([x, grid], node) => [sample(x!, grid!, node.outputs[0].type.shape, node.attrs)], // checked by infer
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
