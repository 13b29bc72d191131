// All schedules of products on plain cores, run in JavaScript on sizes that no tile divides, against float64.
import { expect, test } from "vitest";
import type { SimtTarget } from "../../src/ir/simt.ts";
import { stridedOperand } from "../../src/kernels/simt/operand.ts";
import { PLAIN_SCHEDULES, plainProduct } from "../../src/kernels/simt/plain_product.ts";
import { noTail } from "../../src/kernels/simt/tail.ts";
import { randomNumbers } from "../run/devices.ts";
import { runKernel } from "./simt_machine.ts";

const target: SimtTarget = { name: "wgsl", subgroup: 0, maxThreads: 256, sharedBytes: 48 << 10, maxGroups: 65535, maxBuffers: 8, fragments: [], storedBytes: { f32: 4 } }; // biome-ignore format: short
const [m, n, k] = [70, 50, 148];

test.each(PLAIN_SCHEDULES.map((s) => [`${s.bm}×${s.bn}×${s.bk} by ${s.tm}×${s.tn}, ${s.slices} slices`, s] as const))(
  "%s",
  (_, schedule) => {
    const product = {
      left: stridedOperand("f32", m * k, [], { extent: m, stride: k }, { extent: k, stride: 1 }),
      right: stridedOperand("f32", k * n, [], { extent: n, stride: 1 }, { extent: k, stride: n }),
      batch: 1,
      splits: 1,
      tail: noTail({ dtype: "f32", shape: [m, n] }),
      place: (_: unknown, row: never, column: never) => [row, column],
    };
    const [a, b] = [randomNumbers(1, m * k), randomNumbers(2, k * n)].map((values) => Float64Array.from(values, Math.fround));
    const out = new Float64Array(m * n).fill(Number.NaN);
    runKernel(plainProduct("product", product, schedule, target), [a, b, out], "late");
    const worst = out.reduce((most, got, at) => {
      let want = 0;
      for (let p = 0; p < k; p++) want += a[Math.floor(at / n) * k + p] * b[p * n + (at % n)];
      return Number.isNaN(got) ? Number.POSITIVE_INFINITY : Math.max(most, Math.abs(got - want));
    }, 0);
    expect(worst).toBeLessThan(1e-4);
  },
);
