// Compressed sparse blocks with values of bfloat16, and of int8 with a scale for each row, as contestants.
import { paddedTo, rowVisitsOf, sparseNarrowKernel, sparseNarrowShape } from "../../src/kernels/sparse_narrow.ts";
import { cutByNonzeros } from "../../src/sparse/balance.ts";
import { toCsb, withType, withValues } from "../../src/sparse/convert.ts";
import type { Csb } from "../../src/sparse/csb.ts";
import { toInt8Rows } from "../../src/sparse/int8.ts";
import type { Algorithm, Machine, Numbers, Step } from "./algorithm.ts";

function narrow(w: Csb, scales: readonly Float32Array[], n: number, { target, threads }: Machine): readonly Step[] {
  const visits = rowVisitsOf(w);
  const kernel = sparseNarrowKernel("narrow", sparseNarrowShape(w, visits, n), target, threads);
  const entries = [w.column, w.values].map((a) => paddedTo(a, target) as Numbers); // bytes, and values that are not float64
  const shares = cutByNonzeros(w.pointers, threads, w.blockColumns);
  return [{ kernel, operands: [visits.starts, visits.visits, ...entries, ...scales, shares, "x", "y"] }];
}

export const bfloat16: Algorithm = {
  name: "CSB bf16",
  rounded: (w) => withType(withType(w, "bf16"), "f32"),
  steps: (w, n, machine) => narrow(withType(toCsb(w), "bf16"), [], n, machine),
};

export const int8: Algorithm = {
  name: "CSB int8",
  rounded(w) {
    const { matrix, scale } = toInt8Rows(w);
    return withValues(
      w,
      "f32",
      Float32Array.from(matrix.values, (v, i) => v * scale[w.row[i]]),
    );
  },
  steps(w, n, machine) {
    const { matrix, scale } = toInt8Rows(toCsb(w));
    return narrow(matrix, [scale], n, machine);
  },
};
