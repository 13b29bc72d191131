// Two engines' outputs → how far they differ, and whether that is close enough.
import type { Precision } from "../ir/precision.ts";
import { type TensorData, toNumbers } from "../ir/tensor.ts";

export interface Agreement {
  readonly name: string;
  /** Largest difference of two elements; null where one is not a number and the other is, or the shapes differ. */
  readonly maxAbs: number | null;
  /** Largest difference over the wanted value, where that is larger than 1e-3: below, rounding alone is more. */
  readonly maxRel: number | null;
  /** Largest difference over the largest wanted value. */
  readonly maxScaled: number | null;
  /** Cosine of the angle between both as vectors. */
  readonly cosine: number;
  readonly ok: boolean;
  /** Why the tensors cannot be compared at all. */
  readonly reason?: string;
}

/** Smaller values are not compared relatively. */
const SMALL = 1e-3;
/** When outputs agree. */
export interface Bounds {
  /** For maxRel. */
  readonly tolerance: number;
  readonly minCosine: number;
}
/** A few float32 roundings in each of some hundred layers stay well below. Fewer bits: what PP-OCR's networks, which have as many, stay below. */
export const BOUNDS: Readonly<Record<Precision, Bounds>> = {
  f32: { tolerance: 1e-3, minCosine: 0.99999 },
  tf32: { tolerance: 0.06, minCosine: 0.9999 },
  f16: { tolerance: 0.06, minCosine: 0.9999 },
  bf16: { tolerance: 0.4, minCosine: 0.999 },
  f8: { tolerance: 4, minCosine: 0.99 },
};

const incomparable = (name: string, reason: string): Agreement => ({
  name,
  maxAbs: null,
  maxRel: null,
  maxScaled: null,
  cosine: 0,
  ok: false,
  reason,
});

export function compareTensors(name: string, got: TensorData | undefined, wanted: TensorData, bounds = BOUNDS.f32): Agreement {
  if (!got) return incomparable(name, "missing");
  if (got.dtype !== wanted.dtype) return incomparable(name, `is ${got.dtype}, wanted ${wanted.dtype}`);
  if (got.shape.join() !== wanted.shape.join()) return incomparable(name, `is [${got.shape}], wanted [${wanted.shape}]`);
  const differences = measure(toNumbers(got), toNumbers(wanted));
  if (!differences) return incomparable(name, "NaN or infinity on one side only");
  const { maxAbs, maxRel, largest, cosine } = differences;
  const ok = maxRel <= bounds.tolerance && cosine >= bounds.minCosine;
  return { name, maxAbs, maxRel, maxScaled: maxAbs === 0 ? 0 : maxAbs / largest, cosine, ok };
}

/** Null where infinities or NaN are not in the same places. */
function measure(x: Float64Array, y: Float64Array): { maxAbs: number; maxRel: number; largest: number; cosine: number } | null {
  let [maxAbs, maxRel, largest, dot, xx, yy] = [0, 0, 0, 0, 0, 0];
  for (let i = 0; i < y.length; i++) {
    if (Object.is(x[i], y[i]) && !Number.isFinite(y[i])) continue;
    const difference = Math.abs(x[i] - y[i]);
    if (!Number.isFinite(difference)) return null;
    const size = Math.abs(y[i]);
    if (difference > maxAbs) maxAbs = difference;
    if (size > largest) largest = size;
    if (size > SMALL && difference > maxRel * size) maxRel = difference / size;
    dot += x[i] * y[i];
    xx += x[i] * x[i];
    yy += y[i] * y[i];
  }
  return { maxAbs, maxRel, largest: largest || Number.MIN_VALUE, cosine: cosineOf(dot, xx, yy, maxAbs) };
}

/** Equal tensors are parallel, zeros too; a sum of squares rounds, so that the quotient may pass 1. */
function cosineOf(dot: number, xx: number, yy: number, maxAbs: number): number {
  if (maxAbs === 0 || (xx < SMALL ** 2 && yy < SMALL ** 2)) return 1;
  return xx === 0 || yy === 0 ? 0 : Math.min(1, dot / Math.sqrt(xx * yy));
}

/** Every output of `wanted`. */
export const compareOutputs = (
  got: Readonly<Record<string, TensorData>>,
  wanted: Readonly<Record<string, TensorData>>,
  bounds?: Bounds,
): Agreement[] => Object.entries(wanted).map(([name, tensor]) => compareTensors(name, got[name], tensor, bounds));
