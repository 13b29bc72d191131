// Layer normalization kernels against plain float64, with and without bias, over odd sizes and several threads.
import { describe, test } from "vitest";
import { fromNumbers, zeros } from "../../src/ir/tensor.ts";
import { layerNormKernel } from "../../src/kernels/normalization.ts";
import { TARGETS } from "../codegen/simd_run.ts";
import { expectClose, random, randomTensor, runKernelOn } from "../lower/run_group.ts";

const shapes = [[1, 1], [3, 5], [2, 16], [7, 17], [4, 63], [40, 120], [5, 256], [3, 257], [3, 1000]]; // biome-ignore format: a table

describe.each(TARGETS)("$name", (target) => {
  test.each(shapes)("(%i, %i)", (rows, size) => {
    const next = random(size);
    const x = randomTensor({ dtype: "f32", shape: [rows, size] }, next, [3, 9]);
    const [scale, bias] = [0, 1].map(() => randomTensor({ dtype: "f32", shape: [size] }, next));
    const epsilon = 1e-3;
    for (const hasBias of [false, true]) {
      const wanted: number[] = [];
      for (let r = 0; r < rows; r++) {
        const row = [...(x.data as Float32Array).subarray(r * size, (r + 1) * size)];
        const mean = row.reduce((a, b) => a + b) / size;
        const variance = row.reduce((a, b) => a + (b - mean) ** 2, 0) / size;
        row.forEach((v, i) => {
          const normal = (v - mean) / Math.sqrt(variance + epsilon);
          wanted.push(normal * (scale.data[i] as number) + (hasBias ? (bias.data[i] as number) : 0));
        });
      }
      for (const threads of [1, 2]) {
        const kernel = layerNormKernel("norm", { rows, size, epsilon, hasBias }, target, threads);
        const inputs = hasBias ? [x, scale, bias] : [x, scale];
        const got = runKernelOn(kernel, target, inputs, zeros("f32", [rows, size]));
        expectClose(got, fromNumbers("f32", [rows, size], wanted), 1e-5, `bias ${hasBias}, ${threads} threads`);
      }
    }
  });
});
