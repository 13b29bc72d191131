// Measures what products of one column take on this machine: bytes of weights from the last cache and from memory, and steps of sparse kernels.
import type { CpuDevice } from "../devices/cpu.ts";
import { KernelBuilder } from "../ir/kernel.ts";
import { fromNumbers } from "../ir/tensor.ts";
import { noEpilogue } from "../kernels/epilogue.ts";
import { type GemmShape, gemmKernel, packedElements, scheduleGemm } from "../kernels/gemm.ts";
import { sparseVectorKernel, vectorIndexOf, vectorMatrixOf } from "../kernels/sparse_vector.ts";
import { windowSteps } from "../kernels/sparse_window.ts";
import { cooFromDense } from "../sparse/coo.ts";
import { csbFromCoo } from "../sparse/csb.ts";
import type { VectorRates } from "./implement/sparse_cost.ts";
import { launchNs } from "./sharers.ts";
import { lowOf, type Rounds, type Trial, type TrialCall } from "./trial.ts";

/** Matrices of as many rows as columns. */
interface VectorProblem {
  readonly size: number;
  readonly density: number;
  /** Copies that take turns, in each run. */
  readonly copies: readonly number[];
}
const NEAR: VectorProblem = { size: 256, density: 0.5, copies: [1] };
/** Out of the second-level cache; more than the last one holds. */
const FAR: VectorProblem = { size: 1024, density: 0.5, copies: [4, 12] };
/** Launches of a run, at least: a clock's step is as long as some. */
const LAUNCHES = 16;

/** What rates of one column are measured by; the rates once all rounds have had their series. */
export interface VectorTrials {
  readonly rounds: readonly Rounds[];
  far(): VectorRates;
  /** Of weights in the second-level cache. */
  near(): VectorRates;
}

export async function vectorTrials(device: CpuDevice, trial: Trial): Promise<VectorTrials> {
  const [near, far] = [await prepare(device, trial, NEAR), await prepare(device, trial, FAR)];
  const empty = new KernelBuilder("empty", device.target, device.threads).build();
  const launches = await trial.rounds([new Array<TrialCall>(LAUNCHES).fill({ kernel: empty, args: [] })]);
  const rates = ([cached, streamed]: readonly Readings[]): VectorRates => {
    const meeting = lowOf(launches.lows[0]) / LAUNCHES;
    const once = launchNs(device.threads, meeting);
    const rateOf = ({ bytes, ns }: Reading): number => bytes / device.threads / Math.max(ns - once, 1);
    const of = (kind: "dense" | "sparse") => ({ cached: rateOf(cached[kind]), streamed: rateOf(streamed[kind]) });
    const [{ sparse }] = near.readings();
    return { dense: of("dense"), sparse: of("sparse"), step: (device.threads * (sparse.ns - once)) / near.steps, meeting };
  };
  return {
    rounds: [near.rounds, far.rounds, launches],
    far: () => rates(far.readings()),
    near: () => rates([...near.readings(), ...near.readings()]),
  };
}

/** Of one launch. */
interface Reading {
  readonly bytes: number;
  readonly ns: number;
}
type Readings = Readonly<Record<"dense" | "sparse", Reading>>;

async function prepare(device: CpuDevice, trial: Trial, { size, density, copies }: VectorProblem) {
  const { target, threads } = device;
  const shape: GemmShape = { batch: 1, m: 1, n: size, k: size, left: { batch: 0, row: size }, isRightBatched: false, hasBias: false };
  const schedule = scheduleGemm(shape, target);
  const output = noEpilogue({ dtype: "f32", shape: [1, size] });
  const coo = cooFromDense(fromNumbers("f32", [size, size], prunedNumbers(size * size, density)));
  const w = vectorMatrixOf(csbFromCoo(coo), target);
  const index = [new Float32Array(w.place.length), ...vectorIndexOf(w, threads)];
  const kernels = {
    dense: gemmKernel("dense", shape, schedule, output, target, threads),
    sparse: sparseVectorKernel("sparse", w.shape, output, target, threads),
  };
  const [x, y] = [trial.empty(4 * size), trial.empty(4 * size)];
  const packedBytes = 4 * packedElements(shape, schedule, target);
  const most = Math.max(...copies);
  const dense = Array.from({ length: most }, (): TrialCall => ({ kernel: kernels.dense, args: [x, trial.empty(packedBytes), y] }));
  const sparse = Array.from(
    { length: most },
    (): TrialCall => ({ kernel: kernels.sparse, args: [...index.map((a) => trial.put(a)), x, y] }),
  );
  const often = (calls: readonly TrialCall[], count: number): TrialCall[] =>
    Array.from({ length: Math.ceil(LAUNCHES / count) }, () => calls.slice(0, count)).flat();
  const all = copies.flatMap((count) => [often(dense, count), often(sparse, count)]);
  const rounds = await trial.rounds(all);
  const bytes = index.reduce((sum, a) => sum + a.byteLength, 0);
  return {
    rounds,
    steps: w.shape.walk === "windows" ? windowSteps(w.shape) : w.shape.length,
    readings() {
      const ns = rounds.lows.map((lows, i) => lowOf(lows) / all[i].length);
      return copies.map((_, i) => ({ dense: { bytes: packedBytes, ns: ns[2 * i] }, sparse: { bytes, ns: ns[2 * i + 1] } }));
    },
  };
}

/** Ones at random places: a linear congruential generator's. */
export function prunedNumbers(count: number, density: number): Float32Array {
  const out = new Float32Array(count);
  for (let i = 0, state = 1; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    if ((state >>> 0) / 2 ** 32 < density) out[i] = 1;
  }
  return out;
}
