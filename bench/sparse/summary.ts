// Cases of the benchmark → geometric means of ratios by product, columns and sparsity, the worst ratios, and the share of cases that lose.
import { geometricMean, rounded, type Spread } from "../../src/cli/statistics.ts";
import type { Product } from "./contestants.ts";

/** Times of one case by contestant, and which of them a network runs: one whose weights come from afar in each run, and one of this layer alone. */
export interface Timed {
  readonly product: Product;
  readonly shape: string;
  readonly sparsity: number;
  readonly n: number;
  readonly chosen: string;
  readonly chosenHot: string;
  readonly cold: Readonly<Record<string, Pick<Spread, "median">>>;
  readonly hot: Readonly<Record<string, Pick<Spread, "median">>>;
}

/** Dense median over a contestant's. */
const over = (times: Timed["cold"], name: string): number => times.dense.median / times[name].median;

/** The kernels that networks choose from, besides the dense one. */
const CHOICES = ["csb", "alone", "pattern"];

const CLASSES: readonly (readonly [string, (n: number) => boolean])[] = [
  ["N>=64", (n) => n >= 64],
  ["N=8..32", (n) => n >= 8 && n <= 32],
  ["N=1", (n) => n === 1],
];

/** What the dense product takes where its operand was packed beforehand. */
const packedMs = (times: Timed["cold"]): number => times.dense.median - (times.pack?.median ?? 0);

/** By product, class of columns and sparsity. */
type Means = Record<string, Record<string, Record<string, number>>>;

function geomeans(
  ratios: readonly { readonly product: string; readonly sparsity: number; readonly n: number; readonly ratio: number }[],
): Means {
  const out: Means = {};
  for (const product of new Set(ratios.map((r) => r.product)))
    for (const [name, includes] of CLASSES)
      for (const sparsity of new Set(ratios.map((r) => r.sparsity))) {
        const some = ratios.filter((r) => r.product === product && includes(r.n) && r.sparsity === sparsity);
        if (some.length === 0) continue;
        out[product] ??= {};
        out[product][name] ??= {};
        out[product][name][sparsity] = rounded(geometricMean(some.map((r) => r.ratio)));
      }
  return out;
}

/** The three products of one layer and number of columns, one after another: what learning takes, forward by the form that has both directions. */
function summed(cases: readonly Timed[], heat: "cold" | "hot") {
  return cases.flatMap(({ product, shape, sparsity, n }) => {
    if (product !== "forward") return [];
    const all = cases.filter((c) => c.shape === shape && c.sparsity === sparsity && c.n === n);
    const total = (name: string): number => all.reduce((sum, c) => sum + (c[heat][name] ?? c[heat].csb).median, 0);
    return { product: "summed", sparsity, n, ratio: total("dense") / total("learned") };
  });
}

export function summaryOf(cases: readonly Timed[]) {
  const means = (heat: "cold" | "hot", nameOf: (c: Timed) => string) =>
    geomeans([...cases.map((c) => ({ ...c, ratio: over(c[heat], nameOf(c)) })), ...summed(cases, heat)]);
  const forward = cases.filter((c) => c.product === "forward");
  const chosen = forward.map((c) => ({ ...c, ratio: over(c.cold, c.chosen) }));
  const hot = forward.map((c) => over(c.hot, c.chosenHot));
  const lostOf = (ratios: readonly number[]): number => rounded(ratios.filter((ratio) => ratio < 1).length / ratios.length);
  const rows = cases.filter((c) => c.cold.csr);
  const tiled = cases.filter((c) => c.cold.tiled);
  return {
    /** What networks run against dense kernels, cold; hot; and the sparse kernel wherever there is one. */
    geomean: means("cold", (c) => c.chosen),
    geomeanHot: means("hot", (c) => c.chosenHot),
    geomeanKernel: means("cold", () => "csb"),
    /** Against the dense product whose operand was packed beforehand: what networks run, and the sparse kernel whose operand and result lie as another one gives and takes them. */
    geomeanPacked: geomeans(cases.map((c) => ({ ...c, ratio: packedMs(c.cold) / c.cold[c.chosen].median }))),
    geomeanTiled: geomeans(tiled.map((c) => ({ ...c, ratio: packedMs(c.cold) / c.cold.tiled.median }))),
    /** What it gains by that where activations lie by rows. */
    tiledOverRows: geomeans(tiled.map((c) => ({ ...c, ratio: c.cold.byRows.median / c.cold.tiled.median }))),
    overCsr: geomeans(rows.map((c) => ({ ...c, ratio: c.cold.csr.median / c.cold.csb.median }))),
    /** Of W·X, for which there is a choice. */
    worst: rounded(Math.min(...chosen.map((c) => c.ratio))),
    lost: lostOf(chosen.map(({ ratio }) => ratio)),
    worstHot: rounded(Math.min(...hot)),
    lostHot: lostOf(hot),
    /** Share of all cases in which the sparse kernel is slower than the dense one. */
    kernelLost: rounded(cases.filter((c) => over(c.cold, "csb") < 1).length / cases.length),
    /** Choices that another contestant beats by more than a tenth. */
    mispredicted: chosen
      .filter(({ cold, ratio }) => Math.max(1, ...CHOICES.filter((name) => cold[name]).map((name) => over(cold, name))) > 1.1 * ratio)
      .map(({ shape, sparsity, n, chosen: name, ratio, cold }) => ({
        shape,
        sparsity,
        n,
        chosen: name,
        ratio: rounded(ratio),
        kernelRatio: rounded(over(cold, "csb")),
        ...(cold.pattern && { patternRatio: rounded(over(cold, "pattern")) }),
      })),
  };
}
