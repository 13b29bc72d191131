// 2:4, as a contestant.
import { twoFourKernel, twoFourLookups, twoFourVectorKernel } from "../../src/kernels/sparse_two_four.ts";
import { twoFourFromCoo } from "../../src/sparse/two_four.ts";
import { type Algorithm, floats } from "./algorithm.ts";

export const twoFour: Algorithm = {
  name: "2:4",
  suits: "2:4",
  steps(coo, n, { target, threads }) {
    const w = twoFourFromCoo(coo);
    const shape = { rows: w.rows, depth: w.columns, n };
    if (n === 1)
      return [
        { kernel: twoFourVectorKernel("two_four", shape, target, threads), operands: [twoFourLookups(w, target), floats(w), "x", "y"] },
      ];
    return [{ kernel: twoFourKernel("two_four", shape, target, threads), operands: [w.places, floats(w), "x", "y"] }];
  },
};
