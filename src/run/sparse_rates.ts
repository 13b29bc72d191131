// Measures what products with sparse weights take on this machine, dense and sparse, once; later processes read it from the cache.
import type { CpuDevice } from "../devices/cpu.ts";
import { type Graph, topologicalOrder } from "../ir/graph.ts";
import { fromNumbers } from "../ir/tensor.ts";
import { noEpilogue } from "../kernels/epilogue.ts";
import { type GemmShape, gemmKernel, packedElements, packRight, scheduleGemm } from "../kernels/gemm.ts";
import { groupsOf, indexOf, shareBlockRows } from "../kernels/sparse_groups.ts";
import { channelsLast } from "../kernels/sparse_panel.ts";
import { sparseProductKernel, sparseProductShape } from "../kernels/sparse_product.ts";
import { constantOf } from "../ops/source.ts";
import { cooFromDense } from "../sparse/coo.ts";
import { csbFromCoo } from "../sparse/csb.ts";
import { openCache } from "./cache.ts";
import { denseWork, type ProductRates, type SparseLayer, type SparseRates, sparseWork, USUAL_RATES } from "./implement/sparse_cost.ts";
import { blockOf } from "./implement/sparse_forecast.ts";
import { measureVectorRates, prunedNumbers } from "./sparse_vector_rates.ts";
import { Trial } from "./trial.ts";

/** By the device's key: it names the instruction set, the caches and the threads. */
const known = new Map<string, SparseRates>();
const learning = new Map<string, Promise<void>>();

/** What was measured, or what is usual. */
export const sparseRates = ({ codeKey, target }: Pick<CpuDevice, "codeKey" | "target">): SparseRates =>
  known.get(codeKey) ?? USUAL_RATES[target.name];

/** Has the rates of a device known from here on, where a graph has weights that may be called sparse. */
export async function learnSparseRates(graph: Graph, device: CpuDevice): Promise<void> {
  const { codeKey } = device;
  if (known.has(codeKey) || !hasSparseWeights(graph)) return;
  const running = learning.get(codeKey) ?? readOrMeasure(device);
  learning.set(codeKey, running);
  await running.finally(() => learning.delete(codeKey));
}

const keyOf = ({ codeKey }: CpuDevice): string => `sparse rates 6 ${codeKey}`;

async function readOrMeasure(device: CpuDevice): Promise<void> {
  const kept = await openCache({})?.readFacts<SparseRates>(keyOf(device));
  if (kept) known.set(device.codeKey, kept);
  else await measureSparseRates(device);
}

/** The rates of a device, learned if they are not known yet. */
export async function learnedRates(device: CpuDevice): Promise<SparseRates> {
  if (!known.has(device.codeKey)) await readOrMeasure(device);
  return sparseRates(device);
}

/** What rates were fitted to: a layer, and its least times on this machine. */
export interface RateSample {
  readonly layer: SparseLayer;
  readonly density: number;
  readonly denseMs: number;
  readonly sparseMs: number;
}

/** Measures, whatever is known; the rates hold from here on, and later processes read them from the cache. */
export async function measureSparseRates(
  device: CpuDevice,
): Promise<{ readonly rates: SparseRates; readonly samples: readonly RateSample[] }> {
  const { rates, samples } = await measureRates(device);
  known.set(device.codeKey, rates);
  await openCache({})?.writeFacts(keyOf(device), rates);
  return { rates, samples };
}

/** Weights of a layer worth a thought, looked at in this many places. */
const LEAST_WEIGHTS = 4096;
const SAMPLES = 1024;

function hasSparseWeights(graph: Graph): boolean {
  return topologicalOrder(graph).some(({ outputs: [value] }) => {
    const constant = constantOf(value);
    if (constant?.dtype !== "f32" || constant.shape.length < 2 || constant.data.length < LEAST_WEIGHTS) return false;
    const step = constant.data.length / SAMPLES;
    let zeros = 0;
    for (let i = 0; i < SAMPLES; i++) if (constant.data[Math.floor(i * step)] === 0) zeros++;
    return zeros > SAMPLES / 4;
  });
}

interface Problem {
  readonly rows: number;
  readonly depth: number;
  /** Columns for each thread. */
  readonly n: number;
  readonly density: number;
}
/** Layers that differ in what they cost most for. */
const PROBLEMS: readonly Problem[] = [
  { rows: 256, depth: 64, n: 256, density: 0.1 },
  { rows: 128, depth: 128, n: 512, density: 0.3 },
  { rows: 256, depth: 256, n: 256, density: 0.1 },
  { rows: 480, depth: 120, n: 256, density: 0.05 },
  { rows: 120, depth: 480, n: 256, density: 0.2 },
  { rows: 512, depth: 512, n: 128, density: 0.03 },
  { rows: 512, depth: 512, n: 64, density: 0.5 },
  { rows: 1024, depth: 1024, n: 64, density: 0.1 },
];
const RUNS = 15;

async function measureRates(device: CpuDevice): Promise<{ readonly rates: SparseRates; readonly samples: readonly RateSample[] }> {
  const { threads, target } = device;
  const samples: RateSample[] = [];
  const [dense, sparse, beside]: Sample[][] = [[], [], []];
  for (const problem of PROBLEMS) {
    const { layers, ns } = await measure(device, problem);
    dense.push({ work: denseWork(layers.sparse, threads), ns: ns.dense });
    sparse.push({ work: sparseWork(layers.sparse, target, threads), ns: ns.sparse });
    beside.push({ work: sparseWork(layers.beside, target, threads), ns: ns.beside });
    samples.push({ layer: layers.sparse, density: problem.density, denseMs: ns.dense / 1e6, sparseMs: ns.sparse / 1e6 });
  }
  const [element, result] = leastRates(dense);
  const product = (fitted: readonly Sample[]): ProductRates => {
    const [nonzero, visit, channel] = leastRates(fitted);
    return { nonzero, visit, channel };
  };
  const vector = await measureVectorRates(device);
  return { rates: { dense: { element, result }, sparse: product(sparse), beside: product(beside), vector }, samples };
}

/** Least times of the dense kernel, and of the sparse ones: with activations by rows, and with columns side by side. */
async function measure(device: CpuDevice, problem: Problem) {
  const { target, threads } = device;
  const { rows, depth, density } = problem;
  const n = problem.n * threads;
  const weights = prunedNumbers(rows * depth, density);
  const coo = cooFromDense(fromNumbers("f32", [rows, depth], weights));
  const shape: GemmShape = { batch: 1, m: n, n: rows, k: depth, left: { batch: 0, row: depth }, isRightBatched: false, hasBias: false };
  const schedule = scheduleGemm(shape, target);
  const packed = new Float32Array(packedElements(shape, schedule, target));
  packRight(weights, { k: 1, n: depth }, shape, schedule, target, packed);
  const trial = new Trial(device);
  try {
    const [x, y] = [trial.empty(4 * n * depth), trial.empty(4 * n * rows)];
    const byRows = noEpilogue({ dtype: "f32", shape: [n, rows] });
    const product = (sharesColumns: boolean) => {
      const groups = groupsOf(csbFromCoo(coo, { block: blockOf({ rows, depth, n }, sharesColumns, threads) }), "forward", target, threads);
      const { nonzeros, shared, visits, block } = groups;
      const index = [
        new Float32Array(groups.place.length),
        ...indexOf(groups),
        ...(sharesColumns ? [] : [shareBlockRows(groups, threads)]),
      ];
      const epilogue = sharesColumns ? byRows : noEpilogue({ dtype: "f32", shape: [rows, n] });
      const side = sharesColumns ? channelsLast(false) : undefined;
      const kernel = sparseProductKernel("sparse", sparseProductShape(groups, n), epilogue, target, threads, side);
      const layer: SparseLayer = { rows, depth, n, length: nonzeros, shared, visits: visits.length / 2, block, sharesColumns };
      return { layer, call: { kernel, args: [...index.map((a) => trial.put(a)), x, y] } };
    };
    const [sparse, beside] = [product(true), product(false)];
    const dense = { kernel: gemmKernel("dense", shape, schedule, byRows, target, threads), args: [x, trial.put(packed), y] };
    const times = await trial.least([[dense], [sparse.call], [beside.call]], RUNS);
    return { layers: { sparse: sparse.layer, beside: beside.layer }, ns: { dense: times[0], sparse: times[1], beside: times[2] } };
  } finally {
    trial.free();
  }
}

interface Sample {
  readonly work: readonly number[];
  readonly ns: number;
}
const ROUNDS = 300;

/** Rates r ≥ 0 with the least Σ (work·r / ns − 1)², one rate after another. */
function leastRates(samples: readonly Sample[]): number[] {
  const scaled = samples.map(({ work, ns }) => work.map((w) => w / ns));
  const rates = scaled[0].map(() => 0);
  for (let round = 0; round < ROUNDS; round++)
    for (let i = 0; i < rates.length; i++) {
      let [square, product] = [0, 0];
      for (const row of scaled) {
        const others = row.reduce((sum, w, j) => (j === i ? sum : sum + w * rates[j]), 0);
        square += row[i] * row[i];
        product += row[i] * (1 - others);
      }
      rates[i] = Math.max(0, product / square);
    }
  return rates;
}
