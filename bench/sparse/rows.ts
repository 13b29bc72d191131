// Compressed sparse rows by length and by merge path, as contestants.
import { mergePartsOf, sparseMendKernel, sparseMergeKernel } from "../../src/kernels/sparse_merge.ts";
import { csrShape, paddedColumns, paddedValues } from "../../src/kernels/sparse_segment.ts";
import { groupPointers, sparseSwizzleKernel } from "../../src/kernels/sparse_swizzle.ts";
import { cutByNonzeros } from "../../src/sparse/balance.ts";
import { csrFromCoo, permuteRows, rowsByLength } from "../../src/sparse/csr.ts";
import { type Algorithm, floats } from "./algorithm.ts";

export const swizzle: Algorithm = {
  name: "swizzle",
  steps(coo, n, { target, threads }) {
    const csr = csrFromCoo(coo);
    const order = rowsByLength(csr);
    const w = permuteRows(csr, order);
    const kernel = sparseSwizzleKernel("swizzle", csrShape(w, n), target, threads);
    const shares = cutByNonzeros(groupPointers(w.pointers), threads);
    return [{ kernel, operands: [w.pointers, order, shares, paddedColumns(w, target), paddedValues(floats(w), target), "x", "y"] }];
  },
};

export const merge: Algorithm = {
  name: "merge",
  steps(coo, n, { target, threads }) {
    const w = csrFromCoo(coo);
    const parts = mergePartsOf(w.pointers);
    const left = { bytes: 4 * parts.count * n };
    const entries = [paddedColumns(w, target), paddedValues(floats(w), target)];
    return [
      {
        kernel: sparseMergeKernel("merge", csrShape(w, n), parts.count, target, threads),
        operands: [w.pointers, parts.rows, parts.nonzeros, ...entries, "x", "y", left],
      },
      { kernel: sparseMendKernel("mend", csrShape(w, n), parts.count, target), operands: [parts.rows, left, "y"] },
    ];
  },
};
