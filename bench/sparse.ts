// Times W·X, Wᵀ·G and the weight gradient at the nonzeros of one sparse matrix against our own dense product and against CSR, in turns.
// Options: --shape 2048x512,…, --sparsity 0.5,0.9,…, --n 1,64,…, --threads N (default 1), --isa avx512|avx2, --device x86|wasm, --block 64, --all, --json.
import { parseArgs } from "node:util";
import { createProgress } from "../src/cli/progress.ts";
import { randomNumbers } from "../src/cli/random.ts";
import { geometricMean, rounded } from "../src/cli/statistics.ts";
import { formatTable } from "../src/cli/table.ts";
import { type DeviceOptions, openDevice } from "../src/devices/open.ts";
import { SPARSE_BLOCK } from "../src/kernels/sparse_groups.ts";
import { worstError } from "./sparse/check.ts";
import { type Problem, type Product, Ring } from "./sparse/contestants.ts";
import { interleaved } from "./sparse/interleaved.ts";

const SHAPES = ["512x512", "2048x512", "512x2048"];
const ALL_SHAPES = [...SHAPES, "256x64", "64x576", "128x1152", "512x4608", "2048x1024", "4096x4096", "11008x4096", "4096x11008"];
const PRODUCTS: readonly Product[] = ["forward", "dataGradient", "weightGradient"];

const { values: options } = parseArgs({
  options: {
    shape: { type: "string" },
    sparsity: { type: "string" },
    n: { type: "string" },
    threads: { type: "string", default: "1" },
    device: { type: "string" },
    isa: { type: "string" },
    block: { type: "string" },
    all: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
  },
});
const numbers = (text: string): number[] => text.split(",").map(Number);
const shapes = options.shape?.split(",") ?? (options.all ? ALL_SHAPES : SHAPES);
const sparsities = numbers(options.sparsity ?? (options.all ? "0.5,0.6,0.7,0.8,0.9,0.95,0.98" : "0.5,0.8,0.9,0.95"));
const columns = numbers(options.n ?? (options.all ? "1,8,16,32,64,128,256,1024,4096" : "1,8,32,64,256"));
const progress = createProgress();

interface Case {
  readonly product: Product;
  readonly shape: string;
  readonly sparsity: number;
  readonly n: number;
  /** The tenth percentile, which other programs on the machine disturb least, and the median. */
  readonly denseMs: number;
  readonly sparseMs: number;
  readonly csrMs: number | null;
  readonly medianMs: readonly number[];
  /** Our own dense time over the sparse one; CSR's over CSB's. */
  readonly ratio: number;
  readonly overCsr: number | null;
  /** Of multiplications by nonzeros. */
  readonly gflops: number;
  /** The largest error, in units of the bound. */
  readonly error: number;
}

const ROUNDS = { turns: 9, seconds: 0.08 };

function problemOf(shape: string, sparsity: number, n: number): Problem {
  const [rows, depth] = shape.split("x").map(Number);
  const next = randomNumbers(rows + depth + n);
  const some = (count: number): Float32Array => Float32Array.from({ length: count }, () => next() * 2 - 1);
  const w = Float32Array.from({ length: rows * depth }, () => (next() < sparsity ? 0 : next() * 2 - 1));
  return { rows, columns: depth, n, w, x: some(depth * n), g: some(rows * n) };
}

const device = await openDevice({ device: options.device, isa: options.isa, threads: Number(options.threads) } as DeviceOptions); // wrong names are openDevice's to refuse
const cases: Case[] = [];
for (const shape of shapes)
  for (const sparsity of sparsities)
    for (const n of columns) {
      progress.say(`${shape}, ${sparsity * 100} %, n ${n}`);
      const problem = problemOf(shape, sparsity, n);
      const ring = new Ring(device, problem, options.block ? Number(options.block) : SPARSE_BLOCK);
      for (const product of PRODUCTS) {
        const contestants = await ring.contestants(product);
        const times = interleaved(contestants, ROUNDS);
        const [denseMs, sparseMs, csrMs = null] = times.map((t) => rounded(t.p10));
        const error = worstError(product, problem, ring, contestants[1].result());
        if (!(error <= 1)) throw new Error(`${product} ${shape}, ${sparsity}, n ${n}: the error is ${error} times its bound`);
        cases.push({
          product,
          shape,
          sparsity,
          n,
          denseMs,
          sparseMs,
          csrMs,
          medianMs: times.map((t) => rounded(t.median)),
          ratio: rounded(denseMs / sparseMs),
          overCsr: csrMs && rounded(csrMs / sparseMs),
          gflops: rounded((2 * ring.csb.values.length * n) / sparseMs / 1e6),
          error: rounded(error),
        });
      }
      ring.close();
    }
device.close();
progress.clear();

const CLASSES: readonly (readonly [string, (n: number) => boolean])[] = [
  ["N>=64", (n) => n >= 64],
  ["N=8..32", (n) => n >= 8 && n <= 32],
  ["N=1", (n) => n === 1],
];
/** Means of ratios, by product, class of N and sparsity. */
function geomeans(of: (c: Case) => number | null): Record<string, Record<string, Record<string, number>>> {
  const out: Record<string, Record<string, Record<string, number>>> = {};
  for (const product of PRODUCTS)
    for (const [name, includes] of CLASSES)
      for (const sparsity of sparsities) {
        const ratios = cases.filter((c) => c.product === product && includes(c.n) && c.sparsity === sparsity).flatMap((c) => of(c) ?? []);
        if (ratios.length === 0) continue;
        out[product] ??= {};
        out[product][name] ??= {};
        out[product][name][sparsity] = rounded(geometricMean(ratios));
      }
  return out;
}
const geomean = geomeans((c) => c.ratio);
const overCsr = geomeans((c) => c.overCsr);
const lost = rounded(cases.filter((c) => c.ratio < 1).length / cases.length);

if (options.json) console.log(JSON.stringify({ isa: device.target.name, threads: device.threads, cases, geomean, overCsr, lost }));
else {
  console.log(
    formatTable(
      ["product", "W", "sparsity", "N", "dense ms", "sparse ms", "CSR ms", "over dense", "over CSR", "GFLOP/s"],
      cases.map((c) =>
        [c.product, c.shape, c.sparsity, c.n, c.denseMs, c.sparseMs, c.csrMs ?? "", c.ratio, c.overCsr ?? "", c.gflops].map(String),
      ),
    ),
  );
  console.log(JSON.stringify({ geomean, overCsr, lost }, null, 1));
}
