// Every vector operation, as compiled for every SIMD target, against the same operation in JavaScript.
import { describe, expect, test } from "vitest";
import type { VecOp } from "../../src/ir/kernel_ops.ts";
import { runKernel, TARGETS } from "./simd_run.ts";

const f = Math.fround;
const specials = [0, -0, 1, -1, 1.5, -1.5, 2.5, -2.5, 0.3, -0.7, 1e9, -1e9, Infinity, -Infinity, NaN, 3.75];
const others = [1, 0, -1, 2, 1.5, 3, -2.5, 2.5, NaN, 0.25, 7, -1e9, 2, Infinity, 1, -3.75];
const ints = [0, 1, -1, 2, 7, -7, 100000, -100000, 0x7fffffff, -0x80000000, 12345, -54321, 255, 256, 65536, -3];
const intOthers = [3, 1, -1, -2, 7, 9, 1000, -1000, 1, -1, 54321, -54321, 255, 16, 4, 5];

const word = new DataView(new ArrayBuffer(4));
const asInt = (x: number): number => {
  word.setFloat32(0, x);
  return word.getInt32(0);
};
const asFloat = (x: number): number => {
  word.setInt32(0, x);
  return word.getFloat32(0);
};
const even = (x: number): number => {
  const r = Math.round(x);
  return Math.abs(x % 1) === 0.5 && r % 2 !== 0 ? r - 1 : r;
};
const mask = (b: boolean): number => asFloat(b ? -1 : 0);
const convert = (x: number): number => (Number.isNaN(x) || x >= 2 ** 31 || x < -(2 ** 31) ? -0x80000000 : x);
const i = (g: (a: number, b: number) => number) => (a: number, b: number) => asFloat(g(asInt(a), asInt(b)));

const FLOAT: Partial<Record<VecOp, (a: number, b: number, c: number) => number>> = {
  mov: (a) => a,
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => a / b,
  // Not Math.min and Math.max: the second operand wins where one is NaN.
  min: (a, b) => [b, a][Number(a < b)],
  max: (a, b) => [b, a][Number(a > b)],
  sqrt: (a) => Math.sqrt(a),
  abs: (a) => Math.abs(a),
  neg: (a) => -a,
  floor: Math.floor,
  ceil: Math.ceil,
  trunc: Math.trunc,
  round: even,
  fma: (a, b, c) => a * b + c,
  fnma: (a, b, c) => c - a * b,
  eq: (a, b) => mask(a === b),
  ne: (a, b) => mask(a !== b),
  lt: (a, b) => mask(a < b),
  le: (a, b) => mask(a <= b),
  isnan: (a) => mask(Number.isNaN(a)),
  andnot: i((a, b) => ~a & b),
  f2i: (a) => asFloat(convert(Math.trunc(a))),
  f2iround: (a) => asFloat(convert(even(a))),
};
const INT: Partial<Record<VecOp, (a: number, b: number) => number>> = {
  iadd: (a, b) => (a + b) | 0,
  isub: (a, b) => (a - b) | 0,
  imul: Math.imul,
  imin: Math.min,
  imax: Math.max,
  ieq: (a, b) => (a === b ? -1 : 0),
  ilt: (a, b) => (a < b ? -1 : 0),
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  xor: (a, b) => a ^ b,
  andnot: (a, b) => ~a & b,
  ishl: (a) => a << 3,
  ishr: (a) => a >> 3,
  iushr: (a) => a >>> 3,
  i2f: (a) => asInt(f(a)),
};
const UNARY = new Set<VecOp>([
  "mov",
  "sqrt",
  "abs",
  "neg",
  "floor",
  "ceil",
  "trunc",
  "round",
  "isnan",
  "f2i",
  "f2iround",
  "i2f",
  "ishl",
  "ishr",
  "iushr",
]);

describe.each(TARGETS)("$name", (target) => {
  const { lanes } = target;
  /** Operand patterns: plain registers, operands that live on, the destination equal to an operand, a value straight from memory. */
  const run = (op: VecOp, a: Int32Array, b: Int32Array, c: Int32Array): Int32Array[] => {
    const outs = Array.from({ length: 6 }, () => new Int32Array(lanes));
    runKernel(target, { a, b, c, ...Object.fromEntries(outs.map((o, n) => [`o${n}`, o])) }, (k) => {
      const binary = !UNARY.has(op);
      const ternary = op === "fma" || op === "fnma" || op === "select" || op.startsWith("lookup");
      const apply = (x: number, y: number, z: number, into?: number): void => {
        const v = [k.load(0, 0), k.load(1, 0), k.load(2, 0)];
        // A second use keeps a load from becoming a memory operand.
        [x, y, z].forEach((keep, n) => {
          if (keep) k.store(v[n], 3 + 5, 0);
        });
        const dst = k.op(op, v[0], binary ? v[1] : undefined, ternary ? v[2] : undefined, into === undefined ? undefined : v[into], 3);
        k.store(dst, out++, 0);
      };
      let out = 3;
      apply(1, 1, 1);
      apply(1, 0, 1);
      apply(0, 1, 1);
      apply(1, 1, 0, 0);
      apply(1, 1, 1, ternary ? 2 : 0);
      const v = [k.load(0, 0), k.load(1, 0), k.load(2, 0)];
      const dst = k.op(op, v[0], binary ? v[1] : undefined, ternary ? v[2] : undefined, undefined, 3);
      k.store(dst, 8, 0);
      for (const x of v) k.store(x, 0, 0, 1);
    });
    return outs.slice(0, 6);
  };
  const bits = (x: readonly number[]): Int32Array => new Int32Array(new Float32Array(x.slice(0, lanes)).buffer);

  test.each(Object.keys(FLOAT) as VecOp[])("%s", (op) => {
    const third = specials.map((x) => (Number.isFinite(x) ? x / 2 : 1));
    for (const [a, b] of [
      [specials, others],
      [others, specials],
    ]) {
      const want = a
        .slice(0, lanes)
        .map((x, n) => f((FLOAT[op] as (a: number, b: number, c: number) => number)(f(x), f(b[n]), f(third[n]))));
      for (const got of run(op, bits(a), bits(b), bits(third)))
        expect(got.map((x, n) => (Number.isNaN(want[n]) && Number.isNaN(asFloat(x)) ? 0 : x))).toEqual(
          Int32Array.from(want, (w, n) => (Number.isNaN(w) && Number.isNaN(asFloat(got[n])) ? 0 : asInt(w))),
        );
    }
  });

  test.each(Object.keys(INT) as VecOp[])("%s", (op) => {
    const want = Int32Array.from(ints.slice(0, lanes), (x, n) => (INT[op] as (a: number, b: number) => number)(x, intOthers[n]));
    for (const got of run(op, Int32Array.from(ints.slice(0, lanes)), Int32Array.from(intOthers.slice(0, lanes)), new Int32Array(lanes)))
      expect(got).toEqual(want);
  });

  test("select, with a mask from memory and from a comparison", () => {
    const a = Float32Array.from({ length: lanes }, (_, n) => n);
    const b = Float32Array.from({ length: lanes }, (_, n) => -n);
    const m = Int32Array.from({ length: lanes }, (_, n) => (n % 3 ? -1 : 0));
    const [o0, o1, o2] = [0, 1, 2].map(() => new Float32Array(lanes));
    runKernel(target, { a, b, m, o0, o1, o2 }, (k) => {
      k.store(k.op("select", k.load(0, 0), k.load(1, 0), k.load(2, 0)), 3, 0);
      const x = k.load(0, 0);
      const limit = k.f32(2.5);
      k.store(k.op("select", x, k.load(1, 0), k.op("lt", limit, x)), 4, 0);
      const both = k.op("lt", x, limit);
      k.store(k.op("select", x, limit, both), 5, 0);
      k.store(both, 2, 0);
    });
    for (let n = 0; n < lanes; n++) {
      expect(o0[n]).toBe(n % 3 ? n : -n || -0);
      expect(o1[n]).toBe(n > 2.5 ? n : -n || -0);
      expect(o2[n]).toBe(Math.min(n, 2.5));
      expect(m[n]).toBe(n < 2.5 ? -1 : 0);
    }
  });

  test("horizontal reductions give the result in every lane", () => {
    const a = Float32Array.from({ length: lanes }, (_, n) => 1 + ((n * 7) % 11) / 8);
    const o = Array.from({ length: 4 }, () => new Float32Array(lanes));
    runKernel(target, { a, o0: o[0], o1: o[1], o2: o[2], o3: o[3] }, (k) => {
      (["sumlanes", "maxlanes", "minlanes", "mullanes"] as const).forEach((op, n) => {
        k.store(k.op(op, k.load(0, 0)), n + 1, 0);
      });
    });
    const values = [...a];
    expect([...o[0]]).toEqual(a.map(() => f(values.reduce((x, y) => x + y))) && new Array(lanes).fill(values.reduce((x, y) => x + y)));
    expect([...o[1]]).toEqual(new Array(lanes).fill(Math.max(...values)));
    expect([...o[2]]).toEqual(new Array(lanes).fill(Math.min(...values)));
    const product = values.reduce((x, y) => x * y);
    for (const x of o[3]) expect(Math.abs(x / product - 1)).toBeLessThan(1e-6);
  });

  const shuffles = ["zipl", "ziph", "pairl", "pairh", "quadl", "quadh"] as const;
  test.each(shuffles.slice(0, lanes === 4 ? 4 : 6))("%s", (op) => {
    const a = Int32Array.from({ length: lanes }, (_, n) => n);
    const b = a.map((n) => n + 100);
    const fours = Array.from({ length: lanes / 4 }, (_, f) => 4 * f);
    const inFours = (picked: readonly number[]) => fours.flatMap((at) => picked.map((p) => (p < 4 ? a[at + p] : b[at + p - 4])));
    const whole = (first: number) =>
      [a, b].flatMap((x) => fours.filter((at) => (at / 4) % 2 === first).flatMap((at) => [...x.subarray(at, at + 4)]));
    const want = {
      zipl: inFours([0, 4, 1, 5]),
      ziph: inFours([2, 6, 3, 7]),
      pairl: inFours([0, 1, 4, 5]),
      pairh: inFours([2, 3, 6, 7]),
      quadl: whole(0),
      quadh: whole(1),
    };
    for (const got of run(op, a, b, new Int32Array(lanes))) expect([...got]).toEqual(want[op]);
  });

  test.each([0, 1, 2, 3])("lane%i of each four in all of them", (lane) => {
    const a = Int32Array.from({ length: lanes }, (_, n) => n);
    const want = a.map((n) => n - (n % 4) + lane);
    const out = new Int32Array(lanes);
    runKernel(target, { a, out }, (k) => k.store(k.op(`lane${lane}` as VecOp, k.load(0, 0)), 1, 0));
    expect(out).toEqual(want);
  });

  test("lookup takes the low bits of its index", () => {
    const a = Int32Array.from({ length: lanes }, (_, n) => n + 1);
    const b = a.map((n) => -n);
    const picks = [
      (n: number) => n,
      (n: number) => 5 * n + 3,
      (n: number) => -7 * n - 1,
      (n: number) => (n << 27) | (n << 6) | (2 * lanes - 1 - n),
    ];
    for (const pick of picks) {
      const index = a.map((_, n) => pick(n));
      const want = index.map((i) => [...a, ...b][i & (2 * lanes - 1)]);
      for (const got of run("lookup", a, b, index)) expect(got).toEqual(want);
    }
  });

  test("lookup in one table twice", () => {
    const a = Int32Array.from({ length: lanes }, (_, n) => 3 * n + 1);
    const index = a.map((n) => 7 * n + 64);
    const [o0, o1] = [new Int32Array(lanes), new Int32Array(lanes)];
    runKernel(target, { a, index, o0, o1 }, (k) => {
      const [table, at] = [k.load(0, 0), k.load(1, 0)];
      k.store(k.op("lookup", table, table, at), 2, 0);
      k.store(k.op("lookup", table, table, at, at), 3, 0);
    });
    const want = index.map((i) => a[i & (lanes - 1)]);
    expect([o0, o1]).toEqual([want, want]);
  });

  test.runIf(target.name === "avx512")("lookups of halves leave the other half", () => {
    const a = Int32Array.from({ length: lanes }, (_, n) => (2 * n + 1) * 0x10000 + 2 * n);
    const b = a.map((n) => n ^ -1);
    const table = [...new Uint16Array(a.buffer), ...new Uint16Array(b.buffer)];
    for (const [low, high] of [
      [3, 5],
      [64 + 7, -9],
    ]) {
      const index = a.map((_, n) => ((high * n) << 16) | ((low * n) & 0xffff));
      const of = (i: number): number => table[i & (table.length - 1)];
      for (const got of run("lookuplow", a.slice(), b, index)) expect(got).toEqual(index.map((i) => (i & 0xffff0000) | of(i)));
      for (const got of run("lookuphigh", a.slice(), b, index)) expect(got).toEqual(index.map((i) => (i & 0xffff) | (of(i >> 16) << 16)));
    }
  });

  test.runIf(target.name === "avx512")("whether any bit is set in both", () => {
    const a = Int32Array.from({ length: lanes }, (_, n) => n << 28);
    const b = a.map((_, n) => (n % 2 ? -0x80000000 : 0x7fffffff));
    const want = a.map((_, n) => (a[n] & b[n] ? -1 : 0));
    expect(new Set(want)).toEqual(new Set([0, -1]));
    for (const got of run("iany", a, b, a)) expect(got).toEqual(want);
    // What is not set becomes zero: by a comparison that is folded, from memory and from a register, and by a mask.
    const [o0, o1, o2, o3] = Array.from({ length: 4 }, () => new Int32Array(lanes));
    runKernel(target, { a, b, o0, o1, o2, o3 }, (k) => {
      const [bits, which, none] = [k.load(0, 0), k.load(1, 0), k.i32(0)];
      k.store(k.op("select", k.load(1, 0), none, k.op("iany", bits, which)), 2, 0);
      k.store(k.op("select", which, none, k.op("iany", bits, which)), 3, 0);
      k.store(k.op("select", which, none, bits), 4, 0);
      k.store(k.op("select", k.splat(0, 12), none, k.op("iany", bits, which)), 5, 0);
    });
    expect([o0, o1]).toEqual([want.map((w, n) => w & b[n]), want.map((w, n) => w & b[n])]);
    expect(o2).toEqual(a.map((w, n) => (w < 0 ? b[n] : 0)));
    expect(o3).toEqual(want.map((w) => w & a[3]));
  });

  test("bytes are picked among those of four lanes", () => {
    const a = Int32Array.from({ length: lanes }, (_, n) => n * 0x04040404 + 0x03020100);
    const b = a.map((_, n) => 0x01010101 * (n % 3) + 0x0c000408);
    const want = a.map((_, n) => (n - (n % 4)) * 0x04040404 + b[n]);
    for (const got of run("bytes", a, b, a)) expect(got).toEqual(want);
  });

  test("constants and iota", () => {
    const o = Array.from({ length: 4 }, () => new Int32Array(lanes));
    runKernel(target, { o0: o[0], o1: o[1], o2: o[2], o3: o[3] }, (k) => {
      k.store(k.f32(1.5), 0, 0);
      k.store(k.i32(-7), 1, 0);
      k.store(k.iota(5, 3), 2, 0);
      k.loop(0, 3, 1, (v) => k.store(k.iota(v, -2), 3, 0));
      k.store(k.f32(0), 0, 0, 1);
    });
    expect([...o[0]]).toEqual([0, ...new Array(lanes - 1).fill(asInt(1.5))]);
    expect([...o[1]]).toEqual(new Array(lanes).fill(-7));
    expect([...o[2]]).toEqual(Array.from({ length: lanes }, (_, n) => 5 + 3 * n));
    expect([...o[3]]).toEqual(Array.from({ length: lanes }, (_, n) => 2 - 2 * n));
  });
});
