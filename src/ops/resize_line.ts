// Where the elements of a resized axis lie in the original one: exact fractions, so that indices are integer arithmetic and no rounding can move one.
import { addIndex, clampIndex, divIndex, type Index, mulIndex } from "../ir/index_expr.ts";

/** Element i of the output lies at (i·p + q) / r of the input; r > 0. */
export interface Line {
  readonly p: number;
  readonly q: number;
  readonly r: number;
}

export const COORDINATE_MODES = [
  "half_pixel",
  "half_pixel_symmetric",
  "pytorch_half_pixel",
  "align_corners",
  "asymmetric",
  "tf_half_pixel_for_nn",
  "tf_crop_and_resize",
] as const;
export type CoordinateMode = (typeof COORDINATE_MODES)[number];

export const NEAREST_MODES = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"] as const;
export type NearestMode = (typeof NEAREST_MODES)[number];

const gcd = (a: number, b: number): number => (b === 0 ? Math.abs(a) : gcd(b, a % b));

function line(p: number, q: number, r: number): Line {
  const g = gcd(gcd(p, q), r);
  return { p: p / g, q: q / g, r: r / g };
}

/** The simplest fraction within float32's error of x (continued fraction). */
export function fractionOf(x: number): readonly [number, number] {
  let [a, b, c, d] = [0, 1, 1, 0]; // convergents a/b, c/d
  let rest = Math.abs(x);
  for (let step = 0; step < 32; step++) {
    const whole = Math.floor(rest);
    [a, b, c, d] = [c, d, whole * c + a, whole * d + b];
    if (d > 100_000) return [Math.sign(x) * a, b];
    if (Math.abs(Math.abs(x) - c / d) <= 1e-7 * Math.abs(x) || rest === whole) break;
    rest = 1 / (rest - whole);
  }
  return [Math.sign(x) * c, d];
}

/** Input elements an output element, as a fraction: from the sizes where the scale says the same. */
function stepOf(size: number, out: number, scale: number): readonly [number, number] {
  if (Math.abs(scale - out / size) <= 1e-6 * scale) return [size, out];
  const [num, den] = fractionOf(scale);
  return [den, num];
}

/** `roi` is the part [start, end] of the axis that tf_crop_and_resize takes. */
export function coordinateLine(mode: CoordinateMode, size: number, out: number, scale: number, roi: readonly [number, number]): Line {
  const [a, b] = stepOf(size, out, scale);
  switch (mode) {
    case "asymmetric":
      return line(a, 0, b);
    case "half_pixel":
      return line(2 * a, a - b, 2 * b);
    case "pytorch_half_pixel":
      return out > 1 ? line(2 * a, a - b, 2 * b) : line(0, 0, 1);
    case "half_pixel_symmetric":
      return line(2 * a, a - b + b * size - a * out, 2 * b);
    case "tf_half_pixel_for_nn":
      return line(2 * a, a, 2 * b);
    case "align_corners":
      // The length that it divides by is scale · size, which need not be whole (onnx/reference/ops/op_resize.py).
      return out > 1 ? line((size - 1) * a, 0, size * b - a) : line(0, 0, 1);
    case "tf_crop_and_resize": {
      const [s, sd] = fractionOf(roi[0]);
      const [e, ed] = fractionOf(roi[1]);
      const last = size - 1;
      if (out <= 1) return line(0, (s * ed + e * sd) * last, 2 * sd * ed);
      return line((e * sd - s * ed) * last, s * ed * last * (out - 1), sd * ed * (out - 1));
    }
    default:
      return mode satisfies never;
  }
}

export const isIdentity = ({ p, q, r }: Line): boolean => p === 1 && q === 0 && r === 1;

/** Numerator i·p + q: divided by r it is the floor of the place, modulo r its fraction. */
export const numerator = (i: Index, { p, q }: Line): Index => addIndex(mulIndex(i, p), q);

/** ⌊(i·p + q) / r⌋, with what p and r share taken out: doubling an axis becomes i div 2. */
function floorOf(i: Index, { p, q, r }: Line): Index {
  const g = gcd(p, r);
  return divIndex(numerator(i, { p: p / g, q: Math.floor(q / g), r }), r / g);
}

/** The input element nearest to output element i, inside [0, size). */
export function nearestIndex(i: Index, { p, q, r }: Line, mode: NearestMode, size: number): Index {
  const rounded: Readonly<Record<NearestMode, Line>> = {
    floor: { p, q, r },
    ceil: { p, q: q + r - 1, r },
    round_prefer_floor: { p: 2 * p, q: 2 * q + r - 1, r: 2 * r },
    round_prefer_ceil: { p: 2 * p, q: 2 * q + r, r: 2 * r },
  };
  return clampIndex(floorOf(i, rounded[mode]), 0, size - 1);
}
