// Block-sparse rows, as contestants.
import { blocksByColumns, sparseBlockKernel, sparseBlockShape } from "../../src/kernels/sparse_block.ts";
import { cutByNonzeros } from "../../src/sparse/balance.ts";
import { type BsrBlock, bsrFromCoo } from "../../src/sparse/bsr.ts";
import { type Algorithm, floats } from "./algorithm.ts";

export const bsr = (block: BsrBlock): Algorithm => ({
  name: `BSR ${block}`,
  suits: block,
  steps(coo, n, { target, threads }) {
    const w = bsrFromCoo(coo, block);
    const kernel = sparseBlockKernel("bsr", sparseBlockShape(w, n), target, threads);
    const values = floats({ values: blocksByColumns(w) });
    return [{ kernel, operands: [w.pointers, w.blockColumn, values, cutByNonzeros(w.pointers, threads), "x", "y"] }];
  },
});
