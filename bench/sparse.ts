// Times W·X, Wᵀ·G and the weight gradient at the nonzeros of one sparse matrix against our own dense product and against CSR, in turns, and says what networks choose.
// The dense product packs its right operand first, as a network does ("pack": what of it that is; geomeanPacked: without). "alone": the sparse kernel for one column on one of several threads. "byRows", "tiled": the sparse kernel where activations lie by rows, and between two others, with operand and result as these hand them on.
// Cold: copies of all that is kept of the matrix take turns, as layers of a network do. Hot: each timed run follows another with the same copy. Ratios are of medians.
// Options: --shape 2048x512,…, --sparsity 0.5,0.9,…, --n 1,64,…, --product forward,dataGradient,weightGradient, --threads N (default 1), --isa avx512|avx2, --device x86|wasm, --block 64 (default: as networks have it), --all, --json.
import { parseArgs } from "node:util";
import { createProgress } from "../src/cli/progress.ts";
import { randomNumbers } from "../src/cli/random.ts";
import { rounded, roundedSpread, type Spread } from "../src/cli/statistics.ts";
import { formatTable } from "../src/cli/table.ts";
import { type DeviceOptions, openDevice } from "../src/devices/open.ts";
import { cachesOf, MOST_CACHES, ratesWhere } from "../src/run/implement/sparse_cost.ts";
import { blockOf } from "../src/run/implement/sparse_forecast.ts";
import { learnedRates } from "../src/run/sparse_rates.ts";
import { worstError } from "./sparse/check.ts";
import { type Operands, type Product, Ring } from "./sparse/contestants.ts";
import { type Choice, dispatch, mayHaveCode } from "./sparse/dispatcher.ts";
import { interleaved } from "./sparse/interleaved.ts";
import { pattern } from "./sparse/pattern.ts";
import { summaryOf } from "./sparse/summary.ts";
import { Matrix, Weights } from "./sparse/weights.ts";

/** Of Transformers, of ResNet-50 (1×1, and 3×3 with windows as rows), of large language models. */
const SHAPES = ["512x512", "2048x512", "512x2048", "256x64", "1024x256", "64x576", "256x2304", "4096x4096", "11008x4096", "4096x11008"];
const ALL_SHAPES = [...SHAPES, "64x256", "512x128", "2048x1024", "128x1152", "512x4608"];
const PRODUCTS: readonly Product[] = ["forward", "dataGradient", "weightGradient"];

const { values: options } = parseArgs({
  options: {
    shape: { type: "string" },
    sparsity: { type: "string" },
    n: { type: "string" },
    product: { type: "string", default: PRODUCTS.join(",") },
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
const products = PRODUCTS.filter((name) => options.product.split(",").includes(name));
const sparsities = numbers(options.sparsity ?? (options.all ? "0.5,0.6,0.7,0.8,0.9,0.95,0.98" : "0.5,0.8,0.9,0.95"));
/** Large matrices take minutes: by default fewer numbers of columns. */
const LARGE = 2 ** 24;
const columnsOf = ({ w }: Matrix): number[] =>
  numbers(options.n ?? (options.all ? "1,8,16,32,64,128,256,1024,4096" : w.length < LARGE ? "1,8,32,64,256" : "1,8,64"));

export interface Case {
  readonly product: Product;
  readonly shape: string;
  readonly sparsity: number;
  readonly n: number;
  /** What a network runs. Layers that learn keep nonzeros only, so that their gradients have no choice. */
  readonly chosen: string;
  /** The same of a network of this layer alone. */
  readonly chosenHot: string;
  /** What the choice was made by. */
  readonly predictedMs: Choice["predicted"] | null;
  readonly triedMs: Choice["tried"];
  /** By contestant. */
  readonly cold: Readonly<Record<string, Spread>>;
  readonly hot: Readonly<Record<string, Spread>>;
  /** Of multiplications by nonzeros, and of what is kept of the matrix: of the sparse kernel, cold. */
  readonly gflops: number;
  readonly gigabytesPerSecond: number;
  /** Of the matrix, zeros among them. */
  readonly bytesPerElement: number;
  /** From the dense matrix to what the sparse kernel reads. */
  readonly preparationMs: number;
  /** The largest error, in units of the bound. */
  readonly error: number;
}

const ROUNDS = { turns: 5, seconds: 0.15 };
/** Copies of a matrix: so many at least, and as many as fill a core's caches as often as trials do, so that none is there when its turn comes again: some processors keep half of what passes by twice their size. */
const COPIES = 4;

const device = await openDevice({ device: options.device, isa: options.isa, threads: Number(options.threads) } as DeviceOptions); // wrong names are openDevice's to refuse
const rates = await learnedRates(device);
const progress = createProgress();

function filled(length: number, next: () => number): Float32Array {
  const out = new Float32Array(length);
  for (let i = 0; i < length; i++) out[i] = next();
  return out;
}

function matrixOf(shape: string, sparsity: number): Matrix {
  const [rows, depth] = shape.split("x").map(Number);
  const next = randomNumbers(rows + depth);
  const w = filled(rows * depth, () => (next() < sparsity ? 0 : next() * 2 - 1));
  return new Matrix(rows, depth, w, options.block ? Number(options.block) : blockOf({ rows, depth, n: 1 }, false, device.threads));
}

function operandsOf({ rows, columns: depth }: Matrix, n: number): Operands {
  const next = randomNumbers(n);
  const [x, g] = [depth, rows].map((side) => filled(side * n, () => next() * 2 - 1));
  return { n, x, g };
}

async function measure(product: Product, weights: Weights, n: number): Promise<Omit<Case, "shape" | "sparsity">> {
  const { matrix, count: copies } = weights;
  const operands = operandsOf(matrix, n);
  const ring = new Ring(weights, operands);
  try {
    const contestants = await ring.contestants(product);
    const isForward = product === "forward";
    if (isForward && mayHaveCode(weights, n)) contestants.push(await ring.algorithm(pattern, matrix.coo()));
    const choose = (caches: number) => dispatch(weights, n, ratesWhere(caches, rates), contestants);
    const choice = isForward ? await choose(MOST_CACHES) : null;
    const alone = cachesOf(matrix.w.byteLength, 4 * n * Math.max(matrix.rows, matrix.columns), device.target);
    const choiceHot = isForward && alone < MOST_CACHES ? await choose(alone) : choice;
    const byName = (times: readonly Spread[]) => Object.fromEntries(times.map((t, i) => [contestants[i].name, roundedSpread(t)]));
    const rounds = { ...ROUNDS, batch: matrix.w.length < LARGE ? copies : 1 };
    const cold = byName(interleaved(contestants, rounds));
    const hot = byName(interleaved(contestants, { ...rounds, isHot: true }));
    const [, ...sparse] = contestants;
    const error = Math.max(
      ...sparse.map((c) => (isUnchecked(c.name) ? 0 : worstError(product, matrix, operands, matrix.csb(), c.result()))),
    );
    if (!(error <= 1)) throw new Error(`${product} ${matrix.rows}x${matrix.columns}, n ${n}: the error is ${error} times its bound`);
    const [{ bytes, preparationMs }] = sparse;
    return {
      product,
      n,
      chosen: choice?.chosen ?? "csb",
      chosenHot: choiceHot?.chosen ?? "csb",
      predictedMs: choice?.predicted ?? null,
      triedMs: choice?.tried ?? null,
      cold,
      hot,
      gflops: rounded((2 * matrix.csb().values.length * n) / cold.csb.median / 1e6),
      gigabytesPerSecond: rounded(bytes / cold.csb.median / 1e6),
      bytesPerElement: rounded(bytes / matrix.w.length),
      preparationMs: rounded(matrix.blocksMs + preparationMs),
      error: rounded(error),
    };
  } finally {
    ring.close();
  }
}

/** The rival, and what is no product. */
const isUnchecked = (name: string): boolean => name === "csr" || name === "pack";

const cases: Case[] = [];
for (const shape of shapes)
  for (const sparsity of sparsities) {
    const matrix = matrixOf(shape, sparsity);
    const copies = Math.max(COPIES, Math.ceil((MOST_CACHES * device.target.l2) / matrix.w.byteLength));
    for (const product of products) {
      const weights = new Weights(device, matrix, copies);
      for (const n of columnsOf(matrix)) {
        progress.say(`${shape}, ${sparsity * 100} %, n ${n}: ${product}`);
        cases.push({ shape, sparsity, ...(await measure(product, weights, n)) });
      }
      weights.close();
    }
  }
device.close();
progress.clear();

const summary = summaryOf(cases);
if (options.json) console.log(JSON.stringify({ isa: device.target.name, threads: device.threads, rates, cases, ...summary }));
else {
  console.log(
    formatTable(
      [
        "product",
        "W",
        "zeros",
        "N",
        "dense ms",
        "sparse ms",
        "CSR ms",
        "chosen",
        "over dense",
        "chosen hot",
        "over dense hot",
        "over CSR",
        "GFLOP/s",
        "GB/s",
      ],
      cases.map((c) =>
        [
          c.product,
          c.shape,
          c.sparsity,
          c.n,
          c.cold.dense.median,
          c.cold.csb.median,
          c.cold.csr?.median ?? "",
          c.chosen,
          rounded(c.cold.dense.median / c.cold[c.chosen].median),
          c.chosenHot,
          rounded(c.hot.dense.median / c.hot[c.chosenHot].median),
          c.cold.csr ? rounded(c.cold.csr.median / c.cold.csb.median) : "",
          c.gflops,
          c.gigabytesPerSecond,
        ].map(String),
      ),
    ),
  );
  console.log(JSON.stringify(summary, null, 1));
}
