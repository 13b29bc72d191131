// Loops, branches, integers, threads and register pressure of code generated for every SIMD target.
import { describe, expect, test } from "vitest";
import type { Int, IntVar, KernelBuilder, Vec } from "../../src/ir/kernel.ts";
import { plus, times } from "../../src/ir/kernel.ts";
import { INT_RANGE } from "../../src/ir/kernel_ops.ts";
import { runKernel, TARGETS } from "./simd_run.ts";

describe.each(TARGETS)("$name", (target) => {
  const { lanes } = target;
  /** Runs `build` and gives the integers that it put into out[0..n). */
  const integers = (n: number, build: (k: KernelBuilder, put: (at: number, v: IntVar | number) => void) => void): number[] => {
    const out = new Int32Array(n);
    runKernel(target, { out }, (k) => build(k, (at, v) => k.store(k.iota(typeof v === "number" ? v : plus(v), 0), 0, at * 4, 1, "i32")));
    return [...out];
  };

  test("division and modulo round down, for powers of two and others, also of negative numbers", () => {
    const bys = [1, 2, 3, 5, 7, 8, 10, 12, 49, 64, 100, 641, 1000, 65537];
    const xs = Array.from({ length: 25 }, (_, i) => i * 31 - 310);
    const got = integers(xs.length * bys.length * 2, () => {});
    const out = new Int32Array(got.length);
    runKernel(target, { out }, (k) => {
      bys.forEach((by, b) => {
        k.loop(0, xs.length, 1, (v) => {
          const x = k.set(plus(times(v, 31), -310));
          const at = plus(times(v, 8), b * xs.length * 8);
          k.store(k.iota(k.div(x, by), 0), 0, at, 1, "i32");
          k.store(k.iota(k.mod(x, by), 0), 0, plus(at, 4), 1, "i32");
        });
      });
    });
    bys.forEach((by, b) => {
      xs.forEach((x, i) => {
        const at = (b * xs.length + i) * 2;
        expect([out[at], out[at + 1]], `${x} by ${by}`).toEqual([Math.floor(x / by), ((x % by) + by) % by]);
      });
    });
  });

  test("division at the edges of 31 bits and beyond", () => {
    const out = new Int32Array(8);
    runKernel(target, { out }, (k) => {
      k.loop(0, 2, 1, (v) => {
        const near = plus(times(v, 0x7ffffffe), 1);
        const far = plus(times(v, 2 ** 40), -12345678);
        k.store(k.iota(k.div(near, 7), 0), 0, times(v, 16), 1, "i32");
        k.store(k.iota(k.mod(near, 1000003), 0), 0, plus(times(v, 16), 4), 1, "i32");
        k.store(k.iota(k.div(far, 1000003), 0), 0, plus(times(v, 16), 8), 1, "i32");
        k.store(k.iota(k.mod(far, 1000003), 0), 0, plus(times(v, 16), 12), 1, "i32");
      });
    });
    const row = (near: number, far: number) => [
      Math.floor(near / 7),
      near % 1000003,
      Math.floor(far / 1000003),
      ((far % 1000003) + 1000003) % 1000003,
    ];
    expect([...out]).toEqual([...row(1, -12345678), ...row(0x7fffffff, 2 ** 40 - 12345678)]);
  });

  test("min, max, set and affine sums", () => {
    const got = integers(5 * 6, (k, put) => {
      k.loop(-2, 3, 1, (v) => {
        const at = (n: number) => plus(times(v, 24), 48 + n * 4);
        const store = (n: number, x: IntVar) => k.store(k.iota(x, 0), 0, at(n), 1, "i32");
        store(0, k.min(v, 1));
        store(1, k.max(plus(times(v, -3), 1), v));
        store(2, k.set(plus(times(v, 100), 7)));
        const w = k.set(plus(times(v, 5), 11));
        store(3, k.set(plus(times(v, 2), times(w, -6), -1)));
        store(4, k.set(plus(times(w, 8), v, w, times(v, 12345))));
        store(5, k.min(plus(times(w, 3), v), plus(times(v, -9), w, 20)));
      });
      put(0, -2);
    });
    const want = [-2, -1, 0, 1, 2].flatMap((v) => {
      const w = 5 * v + 11;
      return [
        Math.min(v, 1),
        Math.max(1 - 3 * v, v),
        100 * v + 7,
        2 * v - 6 * w - 1,
        9 * w + 12346 * v,
        Math.min(3 * w + v, w - 9 * v + 20),
      ];
    });
    expect(got).toEqual(want);
  });

  test("bits of words, as numbers and as places", () => {
    const words = BigInt64Array.from([0x7edcba9876543210n, -1n, 0n, -0x123456789abcdefn]);
    const out = new Int32Array(16);
    const table = Float32Array.from({ length: 256 * lanes }, (_, i) => i);
    const found = new Float32Array(4 * lanes);
    runKernel(target, { words, out, table, found }, (k) => {
      k.loop(0, 4, 1, (v) => {
        const word = k.loadInt(0, times(v, 8), "i64", ...INT_RANGE.i64);
        const low = k.loadInt(0, times(v, 8), "i32", ...INT_RANGE.i32);
        const put = (n: number, x: IntVar) => k.store(k.iota(x, 0), 1, plus(times(v, 16), 4 * n), 1, "i32");
        put(0, k.bits(word, 33, 2 ** 31 - 1));
        put(1, k.bits(word, 20, 0xff0));
        put(2, k.bits(times(low, 16), 0, 0xff0));
        put(3, k.bits(low, 24, 0xff));
        // Read as a place only: an address has it as its index.
        const at = k.bits(word, 3, 255);
        k.store(k.load(2, times(at, 4 * lanes)), 3, times(v, 4 * lanes));
        const from = k.bits(low, 5, 127);
        k.store(k.op("add", k.load(3, times(v, 4 * lanes)), k.load(2, times(from, 8))), 3, times(v, 4 * lanes));
      });
    });
    const low = (word: bigint) => BigInt.asIntN(32, word);
    const wanted = [...words].flatMap((w) => [
      (w >> 33n) & 0x7fffffffn,
      (w >> 20n) & 0xff0n,
      (low(w) << 4n) & 0xff0n,
      (low(w) >> 24n) & 0xffn,
    ]);
    expect([...out]).toEqual(wanted.map(Number));
    for (const [v, w] of words.entries()) {
      const first = Number((w >> 3n) & 255n) * lanes + Number((low(w) >> 5n) & 127n) * 2;
      expect([...found.subarray(v * lanes, (v + 1) * lanes)]).toEqual(Array.from({ length: lanes }, (_, i) => first + 2 * i));
    }
  });

  test("a word that the round before has loaded", () => {
    const words = Int32Array.from({ length: 9 }, (_, i) => 0x01020304 * (i + 1));
    const out = new Int32Array(40);
    runKernel(target, { words, out }, (k) => {
      const word = k.loadInt(0, 0, "i32", ...INT_RANGE.i32);
      const put = (at: Int, shift: number) => k.store(k.iota(k.bits(word, shift, 255), 0), 1, at, 1, "i32");
      k.loop(0, 2, 1, (outer) =>
        k.loop(0, 4, 1, (inner) => {
          const i = plus(times(outer, 4), inner);
          put(times(i, 16), 0);
          put(plus(times(i, 16), 4), 8);
          k.loadInt(0, plus(times(i, 4), 4), "i32", ...INT_RANGE.i32, 0, word);
          put(plus(times(i, 16), 8), 16);
        }),
      );
      put(32 * 4, 24);
    });
    const byte = (i: number, shift: number) => (words[i] >> shift) & 255;
    for (let i = 0; i < 8; i++) expect([...out.subarray(4 * i, 4 * i + 4)]).toEqual([byte(i, 0), byte(i, 8), byte(i + 1, 16), 0]);
    expect(out[32]).toBe(byte(8, 24));
  });

  test("integers from memory wrap and clamp", () => {
    const i32 = Int32Array.from([3, -1, -5, 100, -100, 0]);
    const i64 = BigInt64Array.from([3n, -1n, -5n, 1n << 40n, -(1n << 40n), 0n]);
    const u8 = Uint8Array.from([3, 255, 0, 9, 10, 11]);
    const out = new Int32Array(24);
    runKernel(target, { i32, i64, u8, out }, (k) => {
      k.loop(0, 6, 1, (v) => {
        const put = (n: number, x: IntVar) => k.store(k.iota(x, 0), 3, plus(times(v, 16), 4 * n), 1, "i32");
        put(0, k.loadInt(0, times(v, 4), "i32", 0, 9, 10));
        put(1, k.loadInt(1, times(v, 8), "i64", 0, 9, 10));
        put(2, k.loadInt(2, v, "u8", 1, 9));
        put(3, k.loadInt(0, times(v, 4), "i32", -4, 50));
      });
    });
    const clamp = (x: number, lo: number, hi: number) => Math.min(hi, Math.max(lo, x));
    for (let v = 0; v < 6; v++) {
      const a = i32[v];
      const b = Number(i64[v]);
      const want = [clamp(a < 0 ? a + 10 : a, 0, 9), clamp(b < 0 ? b + 10 : b, 0, 9), clamp(u8[v], 1, 9), clamp(a, -4, 50)];
      expect([...out.subarray(v * 4, v * 4 + 4)]).toEqual(want);
    }
  });

  test("loops: constant and computed bounds, steps, empty, nested, unused variables", () => {
    const count = (build: (k: KernelBuilder, tick: () => void) => void): number => {
      const out = new Int32Array(lanes);
      runKernel(target, { out }, (k) => {
        const one = k.i32(1);
        build(k, () => k.store(k.op("iadd", k.load(0, 0), one), 0, 0));
      });
      return out[0];
    };
    expect(count((k, tick) => k.loop(0, 7, 1, tick))).toBe(7);
    expect(count((k, tick) => k.loop(0, 7, 3, tick))).toBe(3);
    expect(count((k, tick) => k.loop(5, 6, 1, tick))).toBe(1);
    expect(count((k, tick) => k.loop(0, 4, 1, (i) => k.loop(i, 4, 1, tick)))).toBe(10);
    expect(count((k, tick) => k.loop(0, 4, 1, (i) => k.loop(i, 4, 3, tick)))).toBe(2 + 1 + 1 + 1);
    expect(count((k, tick) => k.loop(0, 4, 1, (i) => k.loop(0, times(i, 2), 1, tick)))).toBe(12);
    expect(count((k, tick) => k.loop(0, 4, 1, (i) => k.loop(plus(i, -1), times(i, 2), 2, () => tick())))).toBe(1 + 1 + 2 + 2);
    const sum = new Int32Array(lanes);
    runKernel(target, { sum }, (k) => {
      k.loop(0, 5, 1, (i) => {
        k.loop(i, times(i, 3), 2, (j) => k.store(k.op("iadd", k.load(0, 0), k.iota(plus(times(j, 100), i), 0)), 0, 0));
      });
    });
    let want = 0;
    for (let i = 0; i < 5; i++) for (let j = i; j < 3 * i; j += 2) want += 100 * j + i;
    expect(sum[0]).toBe(want);
  });

  test("if and otherwise; a vector set in both branches, or only in the first round", () => {
    const out = new Float32Array(8 * lanes);
    const total = new Float32Array(lanes);
    runKernel(target, { out, total }, (k) => {
      const kept = k.vec();
      k.loop(0, 8, 1, (i) => {
        const v = k.vec();
        k.when(
          times(i, 2),
          7,
          () => k.op("mov", k.f32(1), undefined, undefined, v),
          () => k.op("mov", k.f32(-1), undefined, undefined, v),
        );
        k.when(
          i,
          1,
          () => k.op("mov", k.f32(10), undefined, undefined, kept),
          () => k.op("add", kept, v, undefined, kept),
        );
        k.when(3, 2, () => k.store(kept, 0, 0));
        k.when(plus(i, 3), times(i, 2), () => k.store(v, 0, times(i, lanes * 4)));
      });
      k.store(kept, 1, 0);
    });
    for (let i = 0; i < 8; i++) expect(out[i * lanes]).toBe(i + 3 < 2 * i ? (2 * i < 7 ? 1 : -1) : 0);
    expect(total[0]).toBe(10 + 3 - 4);
  });

  test.each([
    [1, 10],
    [2, 10],
    [3, 10],
    [4, 3],
    [2, 1],
    [7, 100],
  ])("%i threads share %i iterations", (threads, extent) => {
    const out = new Int32Array(extent);
    runKernel(
      target,
      { out },
      (k) => {
        k.parallel(extent, (v) => {
          const seen = k.load(0, times(v, 4), 1, "i32");
          k.store(k.op("iadd", seen, k.iota(plus(v, 1), 0)), 0, times(v, 4), 1, "i32");
        });
      },
      threads,
    );
    expect([...out]).toEqual(Array.from({ length: extent }, (_, i) => i + 1));
  });

  test("60 vectors alive at once", () => {
    const source = Float32Array.from({ length: 60 * lanes }, (_, i) => i);
    const out = new Float32Array(60 * lanes);
    runKernel(target, { source, out }, (k) => {
      const v: Vec[] = [];
      for (let i = 0; i < 60; i++) v.push(k.load(0, i * lanes * 4));
      const two = k.f32(2);
      k.loop(0, 3, 1, () => {
        v.forEach((x, i) => {
          k.accumulate(x, two, v[(i + 1) % 60]);
        });
      });
      v.forEach((x, i) => {
        k.store(x, 1, i * lanes * 4);
      });
    });
    const want = Array.from({ length: 60 }, (_, i) => Math.fround(i * lanes));
    for (let round = 0; round < 3; round++) for (let i = 0; i < 60; i++) want[i] = Math.fround(want[i] + 2 * want[(i + 1) % 60]);
    expect(Array.from({ length: 60 }, (_, i) => out[i * lanes])).toEqual(want);
  });

  test("more constants than registers", () => {
    const source = Float32Array.from({ length: lanes }, (_, i) => i / 8);
    const out = new Float32Array(lanes);
    runKernel(target, { source, out }, (k) => {
      const constants = Array.from({ length: 50 }, (_, i) => k.f32(i + 1));
      const x = k.load(0, 0);
      const acc = k.f32(0);
      k.loop(0, 2, 1, () => {
        for (const c of constants) k.op("fma", acc, x, c, acc);
        for (const c of constants) k.op("max", acc, c, undefined, acc);
      });
      k.store(acc, 1, 0);
    });
    for (let i = 0; i < lanes; i++) {
      let acc = 0;
      for (let round = 0; round < 2; round++) {
        for (let c = 1; c <= 50; c++) acc = Math.fround(acc * source[i] + c);
        acc = Math.max(acc, 50);
      }
      expect(Math.abs(out[i] / acc - 1)).toBeLessThan(1e-5);
    }
  });

  test("30 integers alive at once, as bounds, conditions and addresses", () => {
    const out = new Int32Array(30 * 40);
    const outer: IntVar[] = [];
    runKernel(target, { out }, (k) => {
      const nest = (depth: number): void => {
        if (depth < 30) {
          k.loop(0, depth % 10 === 0 ? 2 : 1, 1, (v) => {
            outer.push(k.set(plus(v, depth)));
            nest(depth + 1);
          });
          return;
        }
        const all = outer.reduce((sum, v, i) => plus(sum, times(v, i + 1)), plus(0));
        const seen = k.mod(all, 40);
        k.when(outer[29], plus(outer[0], 100), () => {
          const at = plus(times(outer[3], 0), times(seen, 4));
          k.store(k.op("iadd", k.load(0, at, 1, "i32"), k.iota(outer[20], 0)), 0, at, 1, "i32");
        });
      };
      nest(0);
    });
    const want = new Int32Array(30 * 40);
    for (let a = 0; a < 2; a++)
      for (let b = 0; b < 2; b++)
        for (let c = 0; c < 2; c++) {
          const values = Array.from({ length: 30 }, (_, i) => i + (i === 0 ? a : i === 10 ? b : i === 20 ? c : 0));
          want[values.reduce((s, v, i) => s + v * (i + 1), 0) % 40] += values[20];
        }
    expect([...out]).toEqual([...want]);
  });
});
