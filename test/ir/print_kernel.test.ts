// A kernel that uses every kind of statement, as text.
import { expect, test } from "vitest";
import { KernelBuilder, plus, times } from "../../src/ir/kernel.ts";
import { printKernel } from "../../src/ir/print_kernel.ts";

const TARGET = { name: "avx2", lanes: 8, registers: 16, l1: 32768, l2: 1 << 20 } as const;

function sample() {
  const k = new KernelBuilder("sample", TARGET, 2);
  const x = k.buffer("x", 4096, "read");
  const y = k.buffer("y", 4096, "write");
  k.parallel(4, (row) => {
    const half = k.div(row, 2);
    const end = k.min(plus(row, 1), 3);
    const negative = k.f32(-0);
    k.loop(0, end, 2, (column) => {
      const at = plus(times(row, 256), times(column, 32));
      const a = k.load(x, at);
      k.accumulate(a, k.splat(x, plus(at, 4)), k.strided(x, at, 16, 4));
      k.when(column, 1, () => k.store(a, y, at, 5), () => k.prefetch(x, plus(at, -64), 2)); // biome-ignore format: one idea
    });
    const read = k.loadInt(x, times(half, 8), "i64", 0, 7, 8);
    k.store(k.op("ishl", k.gather(x, 0, k.iota(read), 9), undefined, undefined, undefined, 2), y, 0);
    k.store(negative, y, 32);
  });
  return k.build();
}

test("every statement has a line, and names count from zero in each kernel", () => {
  expect(printKernel(sample())).toBe(`kernel sample (x: read 4096 bytes, y: write 4096 bytes) 8 lanes, 2 threads {
  parallel i0 in 0 .. 4 {
    i1 = div(i0, 2)
    i2 = min(i0 + 1, 3)
    v0 = f32 -0
    for i3 in 0 .. i2 step 2 {
      v1 = load f32 x[256·i0 + 32·i3], 8 lanes
      v2 = splat f32 x[256·i0 + 32·i3 + 4]
      v3 = load f32 x[256·i0 + 32·i3], 4 lanes 16 bytes apart
      v1 = fma v2, v3, v1
      if i3 < 1 {
        store f32 y[256·i0 + 32·i3] = v1, 5 lanes
      } else {
        prefetch level 2 x[256·i0 + 32·i3 - 64]
      }
    }
    i4 = i64 x[8·i1] in 0 .. 7, wrap 8
    v4 = iota i4 step 1
    v5 = gather x[0] at v4 of 9, 8 lanes
    v6 = ishl v5, 2
    store f32 y[0] = v6, 8 lanes
    store f32 y[32] = v0, 8 lanes
  }
}
`);
  expect(printKernel(sample())).toBe(printKernel(sample()));
});
