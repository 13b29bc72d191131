// Products on matrix units, run in JavaScript: all pipelines, operands that lie either way, ragged edges, parts of the depth.
import { expect, test } from "vitest";
import { modIndex } from "../../src/ir/index_expr.ts";
import type { SimtTarget } from "../../src/ir/simt.ts";
import { type FragmentSchedule, fragmentProduct } from "../../src/kernels/simt/fragment_product.ts";
import { stridedOperand } from "../../src/kernels/simt/operand.ts";
import { noTail } from "../../src/kernels/simt/tail.ts";
import { randomNumbers } from "../run/devices.ts";
import { type Arrival, H200, runKernel } from "./simt_machine.ts";

const target: SimtTarget = H200;

interface Case {
  readonly size: readonly [m: number, n: number, k: number];
  readonly turned: readonly [boolean, boolean];
  readonly schedule: FragmentSchedule;
  readonly splits: number;
  /** Default: bf16. */
  readonly dtype?: "f32";
}

const small: FragmentSchedule = { bm: 32, bn: 32, bk: 32, wm: 16, wn: 16, stages: 3 };
const CASES: readonly Case[] = [
  { size: [32, 32, 128], turned: [false, false], schedule: small, splits: 1 },
  { size: [40, 48, 80], turned: [false, true], schedule: small, splits: 1 },
  { size: [37, 50, 61], turned: [true, false], schedule: { ...small, stages: 2 }, splits: 1 },
  { size: [24, 40, 160], turned: [true, true], schedule: { ...small, bm: 64, wm: 32, stages: 4 }, splits: 2 },
  { size: [50, 70, 96], turned: [false, false], schedule: { bm: 64, bn: 64, bk: 64, wm: 64, wn: 32, stages: 3 }, splits: 1 },
];

const sliced: FragmentSchedule = { bm: 32, bn: 32, bk: 64, wm: 16, wn: 16, stages: 3, slices: 2 };
const FLOAT32: readonly Case[] = [
  { size: [40, 48, 80], turned: [false, true], schedule: small, splits: 1, dtype: "f32" },
  { size: [37, 50, 61], turned: [true, false], schedule: { ...small, stages: 2 }, splits: 1, dtype: "f32" },
  { size: [24, 40, 160], turned: [true, true], schedule: sliced, splits: 2, dtype: "f32" },
  { size: [50, 70, 96], turned: [false, false], schedule: { ...sliced, bk: 128, slices: 4, stages: 2 }, splits: 1, dtype: "f32" },
  {
    size: [50, 70, 96],
    turned: [false, true],
    schedule: { bm: 64, bn: 32, bk: 64, wm: 32, wn: 32, stages: 2, slices: 2 },
    splits: 1,
    dtype: "f32",
  },
  { size: [70, 64, 40], turned: [true, false], schedule: { bm: 64, bn: 64, bk: 32, wm: 32, wn: 32, stages: 3 }, splits: 2, dtype: "f32" },
  {
    size: [17, 33, 40],
    turned: [false, false],
    schedule: { bm: 16, bn: 48, bk: 64, wm: 16, wn: 48, stages: 3, slices: 4 },
    splits: 1,
    dtype: "f32",
  },
];

/** Copies that are held arrive late. */
const HELD: readonly Case[] = [
  { size: [37, 50, 61], turned: [false, true], schedule: { ...small, stages: 1 }, splits: 1 },
  { size: [64, 72, 128], turned: [true, false], schedule: { ...small, bk: 64, wm: 32, stages: 1 }, splits: 2 },
];

for (const { size, turned, schedule, splits, dtype = "bf16" } of [...CASES, ...FLOAT32, ...HELD])
  test.each<Arrival>(schedule.stages === 1 ? ["late"] : ["early", "late"])(
    `${dtype} (${size}) turned ${turned}, ${schedule.stages} stages, ${schedule.slices ?? 1} slices, ${splits} parts, copies %s`,
    (arrival) => {
      const [m, n, k] = size;
      const kernel = fragmentProduct(
        "product",
        {
          left: stridedOperand(dtype, m * k, [], { extent: m, stride: turned[0] ? 1 : k }, { extent: k, stride: turned[0] ? m : 1 }),
          right: stridedOperand(dtype, n * k, [], { extent: n, stride: turned[1] ? k : 1 }, { extent: k, stride: turned[1] ? 1 : n }),
          batch: 1,
          splits,
          tail: noTail({ dtype: "f32", shape: [splits, m, n] }),
          place: (part, row, column) => [modIndex(part, splits), row, column],
        },
        schedule,
        { ...target, holdsCopies: schedule.stages === 1 },
      );
      const [a, b] = [randomNumbers(1, m * k), randomNumbers(2, n * k)].map((v) => Float64Array.from(v));
      const out = new Float64Array(splits * m * n).fill(Number.NaN);
      runKernel(kernel, [a, b, out], arrival);
      let worst = 0;
      for (let i = 0; i < m; i++)
        for (let j = 0; j < n; j++) {
          let want = 0;
          for (let p = 0; p < k; p++) want += a[turned[0] ? p * m + i : i * k + p] * b[turned[1] ? j * k + p : p * n + j];
          let got = 0;
          for (let s = 0; s < splits; s++) got += out[(s * m + i) * n + j];
          worst = Math.max(worst, Number.isNaN(got) ? Number.POSITIVE_INFINITY : Math.abs(got - want));
        }
      expect(worst).toBeLessThan(1e-6);
    },
  );
