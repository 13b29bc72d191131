// Measures what products with sparse weights take on this machine, dense and sparse, once; later processes read it from the cache.
import { setImmediate as nextTurn } from "node:timers/promises";
import type { CpuDevice, Launch, Memory } from "../devices/cpu.ts";
import type { TypedArray } from "../ir/dtype.ts";
import { type Graph, topologicalOrder } from "../ir/graph.ts";
import type { Kernel } from "../ir/kernel.ts";
import { fromNumbers } from "../ir/tensor.ts";
import { noEpilogue } from "../kernels/epilogue.ts";
import { type GemmShape, gemmKernel, packedElements, packRight, scheduleGemm } from "../kernels/gemm.ts";
import { groupsOf, indexOf, SPARSE_BLOCK } from "../kernels/sparse_groups.ts";
import { channelsLast } from "../kernels/sparse_panel.ts";
import { sparseProductKernel, sparseProductShape } from "../kernels/sparse_product.ts";
import { constantOf } from "../ops/source.ts";
import { cooFromDense } from "../sparse/coo.ts";
import { csbFromCoo } from "../sparse/csb.ts";
import { openCache } from "./cache.ts";
import { denseWork, type SparseLayer, type SparseRates, sparseWork, USUAL_RATES } from "./implement/sparse_cost.ts";

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

const keyOf = ({ codeKey }: CpuDevice): string => `sparse rates 2 ${codeKey}`;

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
  { rows: 64, depth: 64, n: 1024, density: 0.1 },
  { rows: 128, depth: 128, n: 512, density: 0.3 },
  { rows: 256, depth: 256, n: 256, density: 0.1 },
  { rows: 480, depth: 120, n: 256, density: 0.05 },
  { rows: 120, depth: 480, n: 256, density: 0.2 },
  { rows: 512, depth: 512, n: 128, density: 0.03 },
  { rows: 1024, depth: 1024, n: 64, density: 0.1 },
];
const RUNS = 7;

async function measureRates(device: CpuDevice): Promise<{ readonly rates: SparseRates; readonly samples: readonly RateSample[] }> {
  const { threads, target } = device;
  const samples: RateSample[] = [];
  const dense: Sample[] = [];
  const sparse: Sample[] = [];
  for (const problem of PROBLEMS) {
    const { layer, ns } = await measure(device, problem);
    dense.push({ work: denseWork(layer, threads), ns: ns[0] });
    sparse.push({ work: sparseWork(layer, target, threads), ns: ns[1] });
    samples.push({ layer, density: problem.density, denseMs: ns[0] / 1e6, sparseMs: ns[1] / 1e6 });
  }
  const [element, result] = leastRates(dense);
  const [nonzero, visit, channel] = leastRates(sparse);
  return { rates: { dense: { element, result }, sparse: { nonzero, visit, channel } }, samples };
}

/** The least times of the dense and of the sparse kernel. */
async function measure(device: CpuDevice, problem: Problem): Promise<{ readonly layer: SparseLayer; readonly ns: readonly number[] }> {
  const { target, threads } = device;
  const { rows, depth, density } = problem;
  const n = problem.n * threads;
  const weights = prunedNumbers(rows * depth, density);
  const output = noEpilogue({ dtype: "f32", shape: [n, rows] });
  const memories: Memory[] = [];
  const empty = (bytes: number): number => {
    const memory = device.alloc(bytes);
    memory.view().fill(0); // pages that were never written all lie on one
    return memories.push(memory) - 1;
  };
  const put = (data: TypedArray): number => {
    const at = empty(data.byteLength);
    memories[at].view().set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    return at;
  };
  const [x, y] = [empty(4 * n * depth), empty(4 * n * rows)];
  const shape: GemmShape = { batch: 1, m: n, n: rows, k: depth, left: { batch: 0, row: depth }, isRightBatched: false, hasBias: false };
  const schedule = scheduleGemm(shape, target);
  const packed = new Float32Array(packedElements(shape, schedule, target));
  packRight(weights, { k: 1, n: depth }, shape, schedule, target, packed);
  const block = SPARSE_BLOCK;
  const groups = groupsOf(csbFromCoo(cooFromDense(fromNumbers("f32", [rows, depth], weights)), { block }), "forward");
  const kernels: Kernel[] = [
    gemmKernel("dense", shape, schedule, output, target, threads),
    sparseProductKernel("sparse", sparseProductShape(groups, n), output, target, threads, channelsLast(false)),
  ];
  const index = [new Float32Array(groups.place.length), ...indexOf(groups)];
  const args = [
    [x, put(packed), y],
    [...index.map(put), x, y],
  ];
  try {
    const launches: Launch[] = args.map((places, kernel) => ({ kernel, args: places.map((at) => memories[at].address) }));
    const list = await device.load(kernels, launches);
    const ns = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
    for (let run = 0; run < RUNS; run++)
      for (const kernel of [0, 1]) {
        const start = performance.now();
        list.run(kernel, kernel + 1);
        ns[kernel] = Math.min(ns[kernel], (performance.now() - start) * 1e6);
        await nextTurn();
      }
    list.free();
    const layer = { rows, depth, n, length: groups.nonzeros, visits: groups.visits.length / 2, block, sharesColumns: true };
    return { layer, ns };
  } finally {
    for (const memory of memories) memory.free();
  }
}

/** Ones at random places: a linear congruential generator's. */
function prunedNumbers(count: number, density: number): Float32Array {
  let state = 1;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32 < density ? 1 : 0;
  });
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
