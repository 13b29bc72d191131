// The pattern compiled into the instructions (SparseRT), as a contestant.
import { noEpilogue } from "../../src/kernels/epilogue.ts";
import { patternOf, sparsePatternKernel } from "../../src/kernels/sparse_pattern.ts";
import { codeSharers } from "../../src/run/implement/sparse_code_cost.ts";
import { USUAL_RATES } from "../../src/run/implement/sparse_cost.ts";
import { csrFromCoo } from "../../src/sparse/csr.ts";
import { type Algorithm, floats, ordered } from "./algorithm.ts";

export const pattern: Algorithm = {
  name: "pattern",
  steps(coo, n, { target, threads }) {
    const w = csrFromCoo(coo);
    const code = patternOf(w, n, target);
    const layer = { rows: w.rows, depth: w.columns, n, length: w.values.length };
    const sharers = codeSharers(layer, USUAL_RATES[target.name], target, threads);
    const kernel = sparsePatternKernel("pattern", code, noEpilogue({ dtype: "f32", shape: [w.rows, n] }), target, sharers);
    return [{ kernel, operands: [ordered(floats(w), code.place), "x", "y"] }];
  },
};
