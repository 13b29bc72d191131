// Holds results of sparse products against float64 sums, at some places of each.
import { randomNumbers } from "../../src/cli/random.ts";
import { type Csb, visitCsb } from "../../src/sparse/csb.ts";
import type { Operands, Product } from "./contestants.ts";
import type { Matrix } from "./weights.ts";

const PLACES = 64;

/** The largest error in units of the bound u·|y| + 4·√nonzeros·2⁻²⁴·Σ|w||x|; at most 1 is right. */
export function worstError(
  product: Product,
  { rows, columns, w }: Pick<Matrix, "rows" | "columns" | "w">,
  { n, x, g }: Operands,
  csb: Csb,
  got: Float32Array,
): number {
  const next = randomNumbers(1);
  const below = (count: number): number => Math.floor(next() * count);
  let worst = 0;
  const check = (value: number, count: number, left: (k: number) => number, right: (k: number) => number): void => {
    let [sum, size, nonzeros] = [0, 0, 0];
    for (let k = 0; k < count; k++) {
      sum += left(k) * right(k);
      size += Math.abs(left(k) * right(k));
      if (left(k) !== 0) nonzeros++;
    }
    const bound = 2 ** -24 * Math.abs(sum) + 4 * Math.sqrt(nonzeros) * 2 ** -24 * size;
    worst = Math.max(worst, value === sum ? 0 : Math.abs(value - sum) / bound);
  };
  if (product === "weightGradient") {
    const wanted = new Set(Array.from({ length: PLACES }, () => below(got.length)));
    visitCsb(csb, (r, c, i) => {
      if (!wanted.has(i)) return;
      check(
        got[i],
        n,
        (k) => g[r * n + k],
        (k) => x[c * n + k],
      );
    });
    return worst;
  }
  const isForward = product === "forward";
  for (let i = 0; i < PLACES; i++) {
    const [r, j] = [below(isForward ? rows : columns), below(n)];
    check(
      got[r * n + j],
      isForward ? columns : rows,
      (k) => (isForward ? w[r * columns + k] : w[k * columns + r]),
      (k) => (isForward ? x[k * n + j] : g[k * n + j]),
    );
  }
  return worst;
}
