// Rows of whole numbers and a scale stand for values within half a step of what they were.
import { expect, test } from "vitest";
import { toCsb, toCsr } from "../../src/sparse/convert.ts";
import { toInt8Rows } from "../../src/sparse/int8.ts";
import { visitStored } from "../../src/sparse/matrix.ts";
import { validate } from "../../src/sparse/validate.ts";
import { randomMatrix } from "./matrices.ts";

test.each([0.1, 1])("within half a step, density %f", (density) => {
  const dense = randomMatrix(40, 70, density, 3);
  for (let r = 0; r < 40; r++) for (let c = 0; c < 70; c++) dense.data[r * 70 + c] = Number(dense.data[r * 70 + c]) * 2 ** -r;
  for (const w of [toCsr(dense), toCsb(dense, { block: 32 })]) {
    const { matrix, scale } = toInt8Rows(w);
    validate(matrix);
    const largest = new Float32Array(40);
    visitStored(w, (row, _column, slot) => {
      expect(Math.abs(Number(w.values[slot]) - Number(matrix.values[slot]) * scale[row])).toBeLessThanOrEqual(scale[row] * 0.50001); // the scale is rounded
      largest[row] = Math.max(largest[row], Math.abs(Number(matrix.values[slot])));
    });
    expect(Array.from(largest.filter((v) => v > 0 && v < 127))).toEqual([]);
  }
});

test("rows of zeros, and of numbers whose scale underflows, are zeros", () => {
  const tiny = toCsr({ dtype: "f32", shape: [2, 2], data: Float32Array.of(2 ** -149, 0, 0, 1) });
  const { matrix, scale } = toInt8Rows(tiny);
  expect([matrix.values, scale[0]]).toEqual([Int8Array.of(0, 127), 0]);
});
