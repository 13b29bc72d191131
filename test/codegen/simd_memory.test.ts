// Loads, stores and gathers of every memory type and lane count; buffers end where memory ends, so each access also proves that it stays inside.
import { describe, expect, test } from "vitest";
import type { KernelBuilder } from "../../src/ir/kernel.ts";
import { MEMORY_BYTES, type MemoryType } from "../../src/ir/kernel_ops.ts";
import { runKernel, TARGETS } from "./simd_run.ts";

const FLOATS = new Set<MemoryType>(["f32", "f16", "bf16"]);
const TYPES: readonly MemoryType[] = ["f32", "i32", "u8", "i8", "u16", "i16", "i64", "f16", "bf16"];
const word = new DataView(new ArrayBuffer(8));

/** Value of 16 bits as IEEE half. */
function halfValue(h: number): number {
  const exponent = (h >> 10) & 31;
  const fraction = h & 1023;
  const size =
    exponent === 31 ? (fraction ? NaN : Infinity) : exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction;
  return h >> 15 ? -size : size;
}
/** Lanes as 32-bit words that a load of these bytes gives. */
function widen(bytes: Uint8Array, type: MemoryType, at: number): number {
  const v = new DataView(bytes.buffer, bytes.byteOffset);
  const float = (x: number): number => {
    word.setFloat32(0, x);
    return word.getInt32(0);
  };
  switch (type) {
    case "u8":
      return v.getUint8(at);
    case "i8":
      return v.getInt8(at);
    case "u16":
      return v.getUint16(at, true);
    case "i16":
      return v.getInt16(at, true);
    case "f16":
      return float(halfValue(v.getUint16(at, true)));
    case "bf16":
      return v.getUint16(at, true) << 16;
    default:
      return v.getInt32(at, true);
  }
}
/** Sixteen floats of buffer 0 to 16-bit floats in buffer 1. */
function convert(k: KernelBuilder, type: "f16" | "bf16"): void {
  for (let i = 0; i < 16; i += k.lanes) k.store(k.load(0, 4 * i), 1, 2 * i, k.lanes, type);
}
const pattern = (bytes: number): Uint8Array => Uint8Array.from({ length: bytes }, (_, i) => (i * 37 + 11) & 0x7b);

describe.each(TARGETS)("$name", (target) => {
  const all = Array.from({ length: target.lanes }, (_, i) => i + 1);

  test.each(TYPES)("load %s: every lane count, other lanes zero", (type) => {
    for (const lanes of all) {
      const bytes = lanes * MEMORY_BYTES[type];
      const input = pattern(bytes + 3).subarray(3);
      const source = new Uint8Array(input);
      const out = new Int32Array(target.lanes).fill(-1);
      runKernel(target, { source, out }, (k) => k.store(k.load(0, 0, lanes, type), 1, 0));
      const want = Array.from({ length: target.lanes }, (_, i) => (i < lanes ? widen(source, type, i * MEMORY_BYTES[type]) : 0));
      expect([...out], `${lanes} lanes`).toEqual(want);
    }
  });

  test.each(TYPES)("splat %s", (type) => {
    const source = pattern(MEMORY_BYTES[type]);
    const out = new Int32Array(target.lanes);
    runKernel(target, { source, out }, (k) => k.store(k.splat(0, 0, type), 1, 0));
    expect([...out]).toEqual(new Array(target.lanes).fill(widen(source, type, 0)));
  });

  test("quad: four elements in every four lanes, up to the end of the buffer", () => {
    const source = Float32Array.from([1, 2, 3, 4, 5]);
    const out = new Float32Array(target.lanes);
    runKernel(target, { source, out }, (k) => k.store(k.quad(0, 4), 1, 0));
    expect([...out]).toEqual(Array.from({ length: target.lanes }, (_, i) => 2 + (i % 4)));
  });

  test("narrow integers extend their sign, or not", () => {
    const source = Uint8Array.from({ length: target.lanes * 2 }, (_, i) => 255 - i);
    for (const type of ["u8", "i8", "u16", "i16"] as const) {
      for (const lanes of all) {
        const out = new Int32Array(target.lanes);
        const part = source.slice(0, lanes * MEMORY_BYTES[type]);
        runKernel(target, { part, out }, (k) => k.store(k.load(0, 0, lanes, type), 1, 0));
        expect([...out.subarray(0, lanes)]).toEqual(Array.from({ length: lanes }, (_, i) => widen(part, type, i * MEMORY_BYTES[type])));
        const one = new Int32Array(target.lanes);
        runKernel(target, { part, one }, (k) => k.store(k.splat(0, 0, type), 1, 0));
        expect(one[1]).toBe(widen(part, type, 0));
      }
    }
  });

  test.each(TYPES)("store %s: every lane count, nothing beyond", (type) => {
    const ints = Int32Array.from({ length: target.lanes }, (_, i) => (i % 2 ? -1 : 1) * (i * 0x01010101 + 0x89));
    const floats = Float32Array.from({ length: target.lanes }, (_, i) => (i % 2 ? -1 : 1) * (i * 1.37 + 0.1));
    for (const lanes of all) {
      const size = MEMORY_BYTES[type];
      const source = FLOATS.has(type) ? floats : ints;
      const before = new Uint8Array(lanes * size + 5).fill(0x5a);
      const out = new Uint8Array(before);
      // Once with room behind, once up to the very end of the buffer.
      runKernel(target, { source, out }, (k) => k.store(k.load(0, 0), 1, 0, lanes, type));
      expect([...out.subarray(lanes * size)], `${lanes} lanes, behind`).toEqual(new Array(5).fill(0x5a));
      const exact = new Uint8Array(lanes * size);
      runKernel(target, { source, exact }, (k) => k.store(k.load(0, 0), 1, 0, lanes, type));
      expect([...exact]).toEqual([...out.subarray(0, lanes * size)]);
      const back = new Int32Array(target.lanes);
      runKernel(target, { exact, back }, (k) => k.store(k.load(0, 0, lanes, type), 1, 0));
      for (let i = 0; i < lanes; i++) {
        const bits = new Int32Array(source.buffer)[i];
        if (type === "f16") expect(Math.abs(new Float32Array(back.buffer)[i] / floats[i] - 1)).toBeLessThan(2 ** -11);
        else if (type === "bf16") expect(Math.abs(new Float32Array(back.buffer)[i] / floats[i] - 1)).toBeLessThanOrEqual(2 ** -8);
        else
          expect(back[i]).toBe(
            size === 1
              ? type === "u8"
                ? bits & 255
                : (bits << 24) >> 24
              : size === 2
                ? type === "u16"
                  ? bits & 65535
                  : (bits << 16) >> 16
                : bits,
          );
        if (type === "i64") expect(new DataView(exact.buffer).getInt32(i * 8 + 4, true)).toBe(bits >> 31);
      }
    }
  });

  test("bf16 rounds to nearest even and keeps NaN and infinity", () => {
    const bits = [0x3f808000, 0x3f818000, 0x3f808001, 0x7f800001, 0x7f7fffff, 0xff800000, 0x7fc00000, 0x80000000].map((b) => b | 0);
    const source = Int32Array.from({ length: 16 }, (_, i) => bits[i] ?? 0);
    const out = new Uint16Array(16);
    runKernel(target, { source, out }, (k) => convert(k, "bf16"));
    expect([...out.subarray(0, 8)]).toEqual([0x3f80, 0x3f82, 0x3f81, 0x7fc0, 0x7f80, 0xff80, 0x7fc0, 0x8000]);
  });

  test("f16 rounds to nearest even, overflows to infinity, keeps denormals", () => {
    const values = [1 + 2 ** -11, 1 + 3 * 2 ** -11, 65520, -1e9, 2 ** -24, 2 ** -25, -0, 0.1];
    const source = Float32Array.from({ length: 16 }, (_, i) => values[i] ?? 0);
    const out = new Uint16Array(16);
    runKernel(target, { source, out }, (k) => convert(k, "f16"));
    expect([...out.subarray(0, 8)]).toEqual([0x3c00, 0x3c02, 0x7c00, 0xfc00, 1, 0, 0x8000, 0x2e66]);
  });

  test("strided loads, forwards and backwards", () => {
    for (const lanes of all) {
      for (const stride of [4, 12, -8]) {
        const count = (Math.abs(stride) / 4) * (lanes - 1) + 1;
        const source = Int32Array.from({ length: count }, (_, i) => i + 1);
        const start = stride < 0 ? (count - 1) * 4 : 0;
        const out = new Int32Array(target.lanes).fill(-1);
        runKernel(target, { source, out }, (k) => k.store(k.strided(0, start, stride, lanes), 1, 0));
        const want = Array.from({ length: target.lanes }, (_, i) => (i < lanes ? source[(start + i * stride) / 4] : 0));
        expect([...out]).toEqual(want);
      }
    }
  });

  test("gather clamps its indices and reads only the lanes asked for", () => {
    const source = Int32Array.from({ length: 9 }, (_, i) => 100 + i);
    const index = Int32Array.from({ length: target.lanes }, (_, i) => [3, 0, 8, -1, 9, 0x7fffffff, -0x80000000, 5][i % 8]);
    for (const lanes of all) {
      const out = new Int32Array(target.lanes).fill(-1);
      const same = new Int32Array(target.lanes).fill(-1);
      runKernel(target, { source, index, out, same }, (k) => {
        const at = k.load(1, 0);
        const kept = k.gather(0, 0, at, 9, lanes);
        k.store(kept, 2, 0);
        k.store(k.gather(0, 4, at, 8, lanes), 3, 0);
      });
      const want = (offset: number, count: number) =>
        Array.from({ length: target.lanes }, (_, i) => (i < lanes ? source[offset + Math.min(count - 1, Math.max(0, index[i]))] : 0));
      expect([...out]).toEqual(want(0, 9));
      expect([...same]).toEqual(want(1, 8));
    }
  });

  test("more lane counts than there are mask registers", () => {
    const source = Float32Array.from({ length: target.lanes }, (_, i) => i + 1);
    const counts = all.filter((n) => n !== 1);
    const outs = Object.fromEntries(counts.map((n) => [`o${n}`, new Float32Array(n)]));
    runKernel(target, { source, ...outs }, (k) => {
      counts.forEach((n, i) => {
        k.store(k.load(0, 0, n), i + 1, 0, n);
        k.store(k.op("add", k.load(0, 0, n), k.load(0, 0, n)), i + 1, 0, n);
      });
    });
    for (const n of counts) expect([...outs[`o${n}`]]).toEqual(Array.from({ length: n }, (_, i) => 2 * (i + 1)));
  });

  test("a prefetch may point anywhere", () => {
    const out = new Float32Array(target.lanes);
    runKernel(target, { out }, (k) => {
      k.prefetch(0, 1 << 20);
      k.prefetch(0, 1 << 20, 2);
      k.store(k.f32(1), 0, 0);
    });
    expect(out[0]).toBe(1);
  });
});
