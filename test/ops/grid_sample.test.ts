// GridSample as an expression, against plain loops in float64: every mode, padding and alignment, far outside and where a place is no number.
import { expect, test } from "vitest";
import { apply } from "../../src/ir/graph.ts";
import { roundEven } from "../../src/ir/small_floats.ts";
import { elementCount, fromNumbers, type Shape, stridesOf, type TensorData, toNumbers } from "../../src/ir/tensor.ts";
import { evaluateNode, OPS } from "../../src/ops/index.ts";
import { input } from "../../src/ops/source.ts";
import { randomNumbers } from "../run/devices.ts";

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

const tensor = (shape: Shape, values: ArrayLike<number>): TensorData => fromNumbers("f32", shape, Float64Array.from(values));

const CASES = MODES.flatMap((mode) => PADDINGS.flatMap((padding_mode) => [0, 1].map((align_corners) => ({ mode, padding_mode, align_corners })))); // biome-ignore format: one idea
test.each(CASES)("$mode, $padding_mode, align_corners $align_corners", (attrs) => {
  for (const [xShape, gridShape] of [
    [
      [2, 3, 5, 4],
      [2, 6, 7, 2],
    ],
    [
      [1, 2, 3, 4, 5],
      [1, 2, 3, 4, 3],
    ],
    [
      [1, 1, 1, 1],
      [1, 4, 4, 2],
    ],
  ]) {
    const places = Float64Array.from(randomNumbers(7, elementCount(gridShape)), (v) => 2.3 * v);
    for (const [i, odd] of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY].entries()) places[3 * i] = odd;
    const [x, grid] = [tensor(xShape, randomNumbers(3, elementCount(xShape))), tensor(gridShape, places)];
    const [y] = apply(OPS.get("GridSample")!, [input("x", { dtype: "f32", shape: xShape }), input("grid", { dtype: "f32", shape: gridShape })], { ...attrs }); // biome-ignore format: one idea
    const [got, want] = [evaluateNode(y.node, [x, grid])[0], sample(x, grid, y.type.shape, attrs)].map(toNumbers);
    let compared = 0;
    for (const [i, v] of want.entries())
      if (!Number.isNaN(v)) {
        expect(Math.abs(got[i] - v)).toBeLessThan(2e-5);
        compared++;
      }
    expect(compared).toBeGreaterThan(0.6 * want.length);
  }
});
