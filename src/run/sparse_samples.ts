// Layers of many shapes, timed cold with the dense kernel and the sparse ones in turns → the rates that predict them best.
import type { CpuDevice } from "../devices/cpu.ts";
import type { SimdTarget } from "../ir/kernel.ts";
import { fromNumbers } from "../ir/tensor.ts";
import { noEpilogue } from "../kernels/epilogue.ts";
import { type GemmShape, gemmKernel, packedElements, packRight, scheduleGemm } from "../kernels/gemm.ts";
import { groupsOf, indexOf, sharesOf } from "../kernels/sparse_groups.ts";
import { channelsLast } from "../kernels/sparse_panel.ts";
import { patternOf, sparsePatternKernel } from "../kernels/sparse_pattern.ts";
import { sparseProductKernel } from "../kernels/sparse_product.ts";
import { sparseProductShape } from "../kernels/sparse_product_shape.ts";
import { cooFromDense } from "../sparse/coo.ts";
import { csbFromCoo } from "../sparse/csb.ts";
import { type Csr, csrFromCoo } from "../sparse/csr.ts";
import { CODE_RATES, codeWork, hasCode } from "./implement/sparse_code_cost.ts";
import {
  BROAD_RATES,
  broadWork,
  cachesOf,
  DENSE_RATES,
  denseWork,
  type KernelRates,
  MOST_CACHES,
  PRODUCT_RATES,
  type SparseLayer,
  type SparseRates,
  sparseWork,
  USUAL_RATES,
  type VectorRates,
} from "./implement/sparse_cost.ts";
import { blockOf, layerOf } from "./implement/sparse_forecast.ts";
import { isPlausible } from "./sparse_plausible.ts";
import { prunedNumbers, vectorTrials } from "./sparse_vector_rates.ts";
import { inSeries, lowOf, type Rounds, type RoundsOptions, Trial, type TrialCall } from "./trial.ts";

/** What rates were fitted to: a layer, and its times on this machine. */
export interface RateSample {
  readonly layer: SparseLayer;
  readonly density: number;
  readonly denseMs: number;
  readonly sparseMs: number;
  /** Of code made for the pattern, where it is not too long; columns lie side by side. */
  readonly codeMs: number | null;
  /** Whether all of it was in the second-level cache. */
  readonly isNear: boolean;
}

export interface MeasuredRates {
  readonly rates: SparseRates;
  readonly samples: readonly RateSample[];
  /** How far series of runs disagreed: 1, or more. */
  readonly spread: number;
}

interface Problem {
  readonly rows: number;
  readonly depth: number;
  /** Columns for each thread. */
  readonly n: number;
  readonly density: number;
}

/** Layers that differ in what they cost most for. Small ones have code, too, of up to 800 nonzeros: it takes a few milliseconds to make. */
const PROBLEMS: readonly Problem[] = [
  { rows: 64, depth: 64, n: 16, density: 0.1 },
  { rows: 64, depth: 64, n: 32, density: 0.2 },
  { rows: 64, depth: 64, n: 256, density: 0.05 },
  { rows: 128, depth: 128, n: 16, density: 0.05 },
  { rows: 128, depth: 128, n: 64, density: 0.05 },
  { rows: 256, depth: 64, n: 8, density: 0.05 },
  { rows: 256, depth: 64, n: 64, density: 0.2 },
  { rows: 256, depth: 64, n: 256, density: 0.1 },
  { rows: 256, depth: 256, n: 8, density: 0.2 },
  { rows: 128, depth: 128, n: 512, density: 0.3 },
  { rows: 64, depth: 256, n: 256, density: 0.1 },
  { rows: 64, depth: 320, n: 256, density: 0.04 },
  { rows: 480, depth: 120, n: 256, density: 0.05 },
  { rows: 120, depth: 480, n: 64, density: 0.3 },
  { rows: 512, depth: 512, n: 8, density: 0.3 },
  { rows: 512, depth: 512, n: 128, density: 0.05 },
  { rows: 512, depth: 512, n: 64, density: 0.5 },
  { rows: 256, depth: 1024, n: 32, density: 0.1 },
  { rows: 1024, depth: 1024, n: 8, density: 0.2 },
  { rows: 1024, depth: 1024, n: 64, density: 0.1 },
];
const RUNS = 3;
/** Rates that no machine has are measured again, so often at most; then the usual ones hold. */
const ATTEMPTS = 3;

export async function measureRates(device: CpuDevice): Promise<MeasuredRates> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const measured = await measureOnce(device);
    const { near, ...far } = measured.rates;
    if ([far, ...(near ? [near] : [])].every((rates) => isPlausible(rates, device.target))) return measured;
  }
  return { rates: USUAL_RATES[device.target.name], samples: [], spread: Number.POSITIVE_INFINITY };
}

async function measureOnce(device: CpuDevice): Promise<MeasuredRates> {
  const trial = new Trial(device);
  try {
    const prepared: Prepared[] = [];
    for (const problem of PROBLEMS) prepared.push(...(await prepare(device, trial, problem)));
    const vectors = await vectorTrials(device, trial);
    const spread = await inSeries([...prepared.map((p) => p.rounds), ...vectors.rounds], RUNS);
    const [far, near] = [false, true].map((isNear) => {
      const some = prepared.filter((p) => p.isNear === isNear);
      return fittedRates(some, isNear ? vectors.near() : vectors.far(), device);
    });
    return { rates: { ...far, near }, samples: prepared.map(sampleOf), spread };
  } finally {
    trial.free();
  }
}

/** Contestants of the rounds: the dense kernel, the sparse one with activations by rows, the one with columns side by side, code where there is some. */
interface Prepared {
  readonly density: number;
  readonly sparse: SparseLayer;
  readonly beside: SparseLayer;
  readonly hasCode: boolean;
  readonly isNear: boolean;
  readonly rounds: Rounds;
  /** Layers of a run. */
  readonly count: number;
}
const times = ({ rounds, count }: Prepared): readonly number[] => rounds.lows.map((lows) => lowOf(lows) / count);

function sampleOf(prepared: Prepared): RateSample {
  const [dense, sparse, , code] = times(prepared);
  const codeMs = prepared.hasCode ? code / 1e6 : null;
  const { sparse: layer, density, isNear } = prepared;
  return { layer, density, denseMs: dense / 1e6, sparseMs: sparse / 1e6, codeMs, isNear };
}

/** Cold, and near where the layer stays there. */
async function prepare(device: CpuDevice, trial: Trial, problem: Problem): Promise<Prepared[]> {
  const { target, threads } = device;
  const { rows, depth, density } = problem;
  const n = problem.n * threads;
  const weights = prunedNumbers(rows * depth, density);
  const coo = cooFromDense(fromNumbers("f32", [rows, depth], weights));
  const shape: GemmShape = { batch: 1, m: n, n: rows, k: depth, left: { batch: 0, row: depth }, isRightBatched: false, hasBias: false };
  const schedule = scheduleGemm(shape, target);
  const packed = new Float32Array(packedElements(shape, schedule, target));
  packRight(weights, { k: 1, n: depth }, shape, schedule, target, packed);
  const [x, y] = [trial.empty(4 * n * depth), trial.empty(4 * n * rows)];
  const byRows = noEpilogue({ dtype: "f32", shape: [n, rows] });
  const product = (sharesColumns: boolean) => {
    const block = blockOf({ rows, depth, n }, sharesColumns, threads);
    const groups = groupsOf(csbFromCoo(coo, { block }), "forward", target, threads, sharesColumns ? 0 : n);
    const index = [
      new Float32Array(groups.place.length),
      ...indexOf(groups),
      ...(sharesColumns ? [] : sharesOf(groups, n, target, threads)),
    ];
    const epilogue = sharesColumns ? byRows : noEpilogue({ dtype: "f32", shape: [rows, n] });
    const side = sharesColumns ? channelsLast(false) : undefined;
    const kernel = sparseProductKernel("sparse", sparseProductShape(groups, n), epilogue, target, threads, side);
    const layer: SparseLayer = { rows, depth, n, ...layerOf(groups), sharesColumns };
    return { layer, calls: copies(() => ({ kernel, args: [...index.map((a) => trial.put(a)), x, y] })) };
  };
  const count = copiesOf(4 * rows * depth);
  const copies = (make: () => TrialCall): TrialCall[] => Array.from({ length: count }, make);
  const [sparse, beside] = [product(true), product(false)];
  const kernel = gemmKernel("dense", shape, schedule, byRows, target, threads);
  const dense = copies(() => ({ kernel, args: [x, trial.put(packed), y] }));
  const code = hasCode(beside.layer, target) ? copies(codeOf(csrFromCoo(coo), n, device, [x, y], trial)) : [];
  const contestants = [dense, sparse.calls, beside.calls, ...(code.length > 0 ? [code] : [])];
  const common = { density, sparse: sparse.layer, beside: beside.layer, hasCode: code.length > 0 };
  const cold = await trial.rounds(contestants, roundsOptions(device, 4 * rows * depth * count, [x, y]));
  const made: Prepared[] = [{ ...common, isNear: false, rounds: cold, count }];
  if (cachesOf(4 * rows * depth, 4 * n * Math.max(rows, depth), target) === 0) {
    const first = contestants.map(([call]) => [call]);
    made.push({ ...common, isNear: true, rounds: await trial.rounds(first, roundsOptions(device, 0, [], 0)), count: 1 });
  }
  return made;
}

/** Each with code of its own. */
function codeOf(w: Csr, n: number, { target, threads }: CpuDevice, tail: readonly Warm[], trial: Trial): () => TrialCall {
  const pattern = patternOf(w, n, target);
  const epilogue = noEpilogue({ dtype: "f32", shape: [w.rows, n] });
  return () => ({
    kernel: sparsePatternKernel("code", pattern, epilogue, target, threads),
    args: [trial.empty(4 * pattern.nonzeros), ...tail],
  });
}
/** Small layers come several times, each with weights of its own: a single one is mostly its code. */
export const copiesOf = (weightBytes: number): number => Math.max(1, Math.min(MOST_COPIES, Math.floor(COPIED_BYTES / weightBytes)));
const MOST_COPIES = 4;
const COPIED_BYTES = 1 << 18;

type Warm = ReturnType<Trial["empty"]>;
/**
 * Before a layer's turn others of its network have filled the nearest caches, several times, as far as it has any: some processors keep lines that were used before from those that pass by once, code above all
 * (256×64 at 95 %, 64 columns on Sapphire Rapids: 7 µs after two caches' bytes, 9 after four, 13 after six, 15 after eight). Large layers come with others as large. Activations were written a moment ago.
 * `caches`: what the network fills, default many.
 */
export function roundsOptions(
  { target, threads }: CpuDevice,
  weightBytes: number,
  activations: readonly Warm[],
  caches = Number.POSITIVE_INFINITY,
): RoundsOptions {
  const others = caches * target.l2 - weightBytes;
  if (others <= 0) return { again: AGAIN };
  const nearest = threads * target.l2;
  return {
    swept: Math.min(others, MOST_CACHES * nearest + (weightBytes > nearest ? LARGE_LAYERS : 1) * weightBytes),
    warm: activations.filter(({ bytes }) => bytes <= nearest / 2),
  };
}
const LARGE_LAYERS = 4;
/** Runs of a layer that has the caches for itself: the first of them finds another contestant there. */
const AGAIN = 8;

function fittedRates(prepared: readonly Prepared[], vector: VectorRates, { target, threads }: CpuDevice): KernelRates {
  const fitted = <Name extends string>(
    names: readonly Name[],
    contestant: number,
    some: readonly Prepared[],
    work: (p: Prepared) => readonly number[],
  ) =>
    leastRates(
      names,
      some.map((p) => ({ work: work(p), ns: times(p)[contestant] })),
    );
  const panels = prepared.filter(({ beside }) => !beside.broad);
  const beside = fitted(PRODUCT_RATES, 2, panels, (p) => sparseWork(p.beside, vector, target, threads));
  return {
    vector,
    dense: fitted(DENSE_RATES, 0, prepared, (p) => denseWork(p.sparse, vector, target, threads)),
    sparse: fitted(PRODUCT_RATES, 1, prepared, (p) => sparseWork(p.sparse, vector, target, threads)),
    beside,
    broad: broadRates(
      prepared.filter((p) => p.beside.broad),
      beside,
      target,
      threads,
    ),
    code: codeRates(
      prepared.filter((p) => p.hasCode),
      target,
      threads,
    ),
  };
}

/** Where there is no code, what is usual. */
function codeRates(some: readonly Prepared[], target: SimdTarget, threads: number): SparseRates["code"] {
  const samples = some.map((p) => ({ work: codeWork(p.beside, target, threads), ns: times(p)[3] }));
  return samples.length > 0 ? leastRates(CODE_RATES, samples) : USUAL_RATES[target.name].code;
}

/** Where nothing is met broadly, a guess: it is not asked for either. */
function broadRates(some: readonly Prepared[], beside: SparseRates["beside"], target: SimdTarget, threads: number): SparseRates["broad"] {
  const samples = some.map((p) => ({ work: broadWork(p.beside, target, threads), ns: Math.max(1, times(p)[2] - beside.once) }));
  return samples.length > 0 ? leastRates(BROAD_RATES, samples) : { nonzero: beside.vector, row: beside.visit };
}

interface Sample {
  readonly work: readonly number[];
  readonly ns: number;
}
const STEPS = 3000;

/** Rates r ≥ 0 with the least Σ (work·r / ns − 1)², one rate after another. */
function leastRates<Name extends string>(names: readonly Name[], samples: readonly Sample[]): Readonly<Record<Name, number>> {
  const scaled = samples.map(({ work, ns }) => work.map((w) => w / ns));
  const rates = names.map(() => 0);
  for (let step = 0; step < STEPS; step++)
    for (let i = 0; i < rates.length; i++) {
      let [square, product] = [0, 0];
      for (const row of scaled) {
        const others = row.reduce((sum, w, j) => (j === i ? sum : sum + w * rates[j]), 0);
        square += row[i] * row[i];
        product += row[i] * (1 - others);
      }
      rates[i] = square > 0 ? Math.max(0, product / square) : 0;
    }
  return Object.fromEntries(names.map((name, i) => [name, rates[i]])) as Record<Name, number>; // a rate for each name
}
