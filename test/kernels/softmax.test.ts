// Softmax kernels against plain sums, over odd sizes, both directions, extreme values and several threads.
import { describe, expect, test } from "vitest";
import { fromNumbers, zeros } from "../../src/ir/tensor.ts";
import { softmaxKernel } from "../../src/kernels/softmax.ts";
import { TARGETS } from "../codegen/simd_run.ts";
import { expectClose, random, randomTensor, runKernelOn } from "../lower/run_group.ts";

function reference(x: Float32Array, [outer, size, inner]: readonly number[], isLog: boolean): number[] {
  const y = new Array<number>(x.length);
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const at = (s: number) => (o * size + s) * inner + i;
      const line = Array.from({ length: size }, (_, s) => x[at(s)]);
      const top = Math.max(...line);
      const sum = line.reduce((a, v) => a + Math.exp(v - top), 0);
      for (let s = 0; s < size; s++) y[at(s)] = isLog ? line[s] - top - Math.log(sum) : Math.exp(line[s] - top) / sum;
    }
  }
  return y;
}

const shapes = [[1, 1, 1], [3, 5, 1], [2, 16, 1], [7, 17, 1], [4, 63, 1], [5, 64, 1], [3, 129, 1], [20, 1000, 1], [2, 5, 3], [3, 7, 16], [2, 9, 37], [1, 4, 100]]; // biome-ignore format: a table

describe.each(TARGETS)("$name", (target) => {
  test.each(shapes)("(%i, %i, %i)", (...shape) => {
    const x = randomTensor({ dtype: "f32", shape }, random(shape[1]), [-8, 8]);
    for (const isLog of [false, true]) {
      const wanted = fromNumbers("f32", shape, reference(x.data as Float32Array, shape, isLog));
      for (const threads of [1, 2, 3]) {
        const [outer, size, inner] = shape;
        const kernel = softmaxKernel("softmax", { outer, size, inner, isLog }, target, threads);
        expectClose(runKernelOn(kernel, target, [x], zeros("f32", shape)), wanted, 2e-6, `${shape}, log ${isLog}, ${threads} threads`);
      }
    }
  });

  test("large values do not overflow, masked ones are 0, NaN stays", () => {
    const run = (values: number[]) => {
      const x = fromNumbers("f32", [values.length], values);
      const kernel = softmaxKernel("softmax", { outer: 1, size: values.length, inner: 1, isLog: false }, target, 1);
      return [...(runKernelOn(kernel, target, [x], zeros("f32", [values.length])).data as Float32Array)];
    };
    expect(run([1000, 1000])).toEqual([0.5, 0.5]);
    expect(run([Number.NEGATIVE_INFINITY, 3])).toEqual([0, 1]);
    expect(run([1, Number.NaN, 2]).every(Number.isNaN)).toBe(true);
  });
});
