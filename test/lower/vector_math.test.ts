// Vector functions against float64, over dense sweeps of their range and at the edges of float32.
import { describe, expect, test } from "vitest";
import { lowerAddresses } from "../../src/codegen/addresses.ts";
import { type Kernel, KernelBuilder, type SimdTarget, times } from "../../src/ir/kernel.ts";
import { SCALAR, type ScalarFn } from "../../src/ir/scalar.ts";
import { VECTOR_MATH_ULP, type VectorFn, vectorFn } from "../../src/lower/vector_math.ts";
import { runLowered, TARGETS } from "../codegen/simd_run.ts";

/** Elements that one kernel computes. */
const CHUNK = 4096;

function evaluate(target: SimdTarget, fn: VectorFn, a: Float32Array, b: Float32Array): Float32Array {
  const result = new Float32Array(a.length);
  for (let from = 0; from < a.length; from += CHUNK) {
    const [x, y] = [a, b].map((t) => t.slice(from, from + CHUNK));
    const out = new Float32Array(x.length);
    runLowered(
      target,
      lowerAddresses(kernelOf(target, fn, x.length)),
      [x, y, out].map((t) => new Uint8Array(t.buffer)),
    );
    result.set(out, from);
  }
  return result;
}

function kernelOf(target: SimdTarget, fn: VectorFn, n: number): Kernel {
  const k = new KernelBuilder(fn, target, 1);
  const [x, y, out] = [k.buffer("a", n * 4, "read"), k.buffer("b", n * 4, "read"), k.buffer("out", n * 4, "write")];
  k.loop(0, n, k.lanes, (v) => k.store(vectorFn(k, fn, k.load(x, times(v, 4)), k.load(y, times(v, 4))), out, times(v, 4)));
  return k.build();
}

const bits = new Uint32Array(1);
const float = new Float32Array(bits.buffer);
/** Distance between neighbouring float32 values at x. */
function ulpAt(x: number): number {
  float[0] = Math.abs(x);
  if (bits[0] < 0x00800000) return 2 ** -149;
  return 2 ** ((bits[0] >> 23) - 150);
}

const N = 1 << 16;
const MIN_NORMAL = 2 ** -126;
const REACH: Partial<Record<ScalarFn, readonly [number, number]>> = {
  exp: [-110, 95], sigmoid: [-110, 110], tanh: [-12, 12], erf: [-5, 5], log: [0, 20], asin: [-1, 1], acos: [-1, 1], atan: [-20, 20],
  asinh: [-20, 20], acosh: [1, 50], atanh: [-1, 1], pow: [0, 10],
}; // biome-ignore format: a table

/** Evenly spread values, small and large magnitudes. */
function sweep(fn: ScalarFn): Float32Array {
  const [lo, hi] = VECTOR_MATH_ULP[fn]?.range ?? REACH[fn] ?? [-100, 100];
  return Float32Array.from({ length: N }, (_, i) => {
    const t = (i >> 1) / (N / 2);
    if (i & 1) return lo + (hi - lo) * t;
    const magnitude = 10 ** (-37 + 75 * t);
    const x = i & 2 && lo < 0 ? -magnitude : magnitude;
    return Math.min(Math.max(x, lo), fn === "log" || fn === "acosh" || fn === "atan" || fn === "asinh" ? 3e38 : hi);
  });
}

describe.each(TARGETS)("$name", (target) => {
  test.each(Object.keys(VECTOR_MATH_ULP) as VectorFn[])("%s is as exact as stated", (fn) => {
    const a = sweep(fn);
    const b = Float32Array.from(a, (_, i) => ((i * 7919) % 8001) / 1000 - 4);
    const y = evaluate(target, fn, a, b);
    let worst = { ulp: 0, a: 0, b: 0, got: 0, wanted: 0 };
    a.forEach((x, i) => {
      const wanted = SCALAR[fn].exact(x, b[i]);
      const rounded = Math.fround(wanted);
      if (y[i] === rounded || (Number.isNaN(y[i]) && Number.isNaN(wanted))) return;
      if (Math.abs(wanted) < MIN_NORMAL && Math.abs(y[i]) <= MIN_NORMAL) return;
      const ulp = Math.abs(y[i] - wanted) / ulpAt(rounded);
      if (!(ulp <= worst.ulp)) worst = { ulp, a: x, b: b[i], got: y[i], wanted };
    });
    if (process.env.SHOW) console.log(target.name, fn, worst);
    expect(worst.ulp, JSON.stringify(worst)).toBeLessThanOrEqual(VECTOR_MATH_ULP[fn]!.ulp);
  });

  const inf = Number.POSITIVE_INFINITY;
  const edges = Float32Array.of(0, -0, 1, -1, inf, -inf, Number.NaN, 1e-42, 3.4e38, -3.4e38, 2, -2, 0.5, 100, -100, 1e-30);
  const unary = (Object.keys(SCALAR) as ScalarFn[]).filter(
    (f) => SCALAR[f].arity === 1 && !["not", "bitnot", "isnan", "isinf"].includes(f),
  ) as VectorFn[];
  test.each(unary)("%s at the edges", (fn) => {
    const y = evaluate(target, fn, edges, edges);
    edges.forEach((x, i) => {
      const range = VECTOR_MATH_ULP[fn]?.range;
      if (range && Number.isFinite(x) && (x < range[0] || x > range[1])) return;
      const wanted = Math.fround(SCALAR[fn].exact(x, 0));
      const label = `${fn}(${x}) = ${y[i]}, wanted ${wanted}`;
      if (Number.isNaN(wanted) || !Number.isFinite(wanted)) expect(y[i], label).toEqual(wanted);
      else expect(Math.abs(y[i] - wanted), label).toBeLessThanOrEqual(MIN_NORMAL + 1e-6 * Math.abs(wanted));
    });
  });

  test.each(["pow", "fmod", "mod"] as const)("%s at the edges and at random", (fn) => {
    const pairs = [...edges].flatMap((x) => [...edges].map((z) => [x, z]));
    for (let i = 0; i < 2000; i++) pairs.push([((i * 7919) % 4001) / 100 - 20, ((i * 104729) % 1201) / 100 - 6]);
    while (pairs.length % 16) pairs.push([1, 1]);
    const [a, b] = [0, 1].map((j) => Float32Array.from(pairs, (p) => p[j]));
    const y = evaluate(target, fn, a, b);
    pairs.forEach((_, i) => {
      const wanted = Math.fround(SCALAR[fn].exact(a[i], b[i]));
      // -0 to a negative odd power, and 1 to an infinite one, are not worth their instructions; nor are remainders of huge quotients.
      if (fn === "pow" && (Object.is(a[i], -0) || Math.abs(a[i]) === 1 || Math.abs(b[i]) > 100)) return;
      if (fn !== "pow" && (Math.abs(a[i] / b[i]) > 2 ** 22 || b[i] === 0 || Math.abs(b[i]) === inf)) return;
      const label = `${fn}(${a[i]}, ${b[i]}) = ${y[i]}, wanted ${wanted}`;
      if (!Number.isFinite(wanted)) expect(y[i], label).toEqual(wanted);
      else expect(Math.abs(y[i] - wanted), label).toBeLessThanOrEqual(MIN_NORMAL + 2e-6 * Math.abs(wanted) + (fn === "pow" ? 0 : 1e-6));
    });
  });
});
