// The pattern compiled into the instructions (SparseRT), as a contestant.
import { noEpilogue } from "../../src/kernels/epilogue.ts";
import { patternOf, sparsePatternKernel } from "../../src/kernels/sparse_pattern.ts";
import { csrFromCoo } from "../../src/sparse/csr.ts";
import { type Algorithm, floats, ordered } from "./algorithm.ts";

export const pattern: Algorithm = {
  name: "pattern",
  steps(coo, n, { target, threads }) {
    const w = csrFromCoo(coo);
    const code = patternOf(w, n, target);
    const kernel = sparsePatternKernel("pattern", code, noEpilogue({ dtype: "f32", shape: [w.rows, n] }), target, threads);
    return [{ kernel, operands: [ordered(floats(w), code.place), "x", "y"] }];
  },
};
