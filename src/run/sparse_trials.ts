// Tries layers that predictions leave open with the dense kernel and the sparse one, in turns on this machine; later processes read from the cache what they took.
import type { CpuDevice, Memory } from "../devices/cpu.ts";
import type { Value } from "../ir/graph.ts";
import { constantOf } from "../ops/source.ts";
import { tensorBytes } from "./cost.ts";
import type { TriedLayer } from "./implement/sparse_cost.ts";
import { doesWin } from "./sparse_doubts.ts";
import { addTried } from "./sparse_rates.ts";
import { copiesOf, roundsOptions } from "./sparse_samples.ts";
import type { Doubt, KernelCall, SparsePolicy } from "./step.ts";
import { lowOf, type RoundsOptions, ratioOf, Trial, type TrialCall } from "./trial.ts";

/** Of the time until there are no kernels but code what trials may take: that is about half of compiling; and milliseconds that they may take anyhow. */
const SHARE = 0.1;
const ALLOWED_MS = 20;
/** What a trial takes before any has been made: most of it lets others' bytes pass, which some networks have none of. */
const USUAL_MS = 30;
const USUAL_NEAR_MS = 5;
/** Series, and runs of each: more where the series disagree who wins. */
const SERIES = { least: 3, most: 6, runs: 2 };
/** Layers with more weights take long to pack, and their predictions are better. */
const MOST_BYTES = 1 << 24;

/** Whether kernels differ from those that were chosen. What is found is known from here on, and stands in the record of choices. */
export async function settleDoubts(device: CpuDevice, sparse: SparsePolicy, compileMs: number): Promise<boolean> {
  const { choices, doubts = [] } = sparse;
  const found = await tryLongest(device, sparse, Math.max(ALLOWED_MS, SHARE * compileMs));
  const settled = doubts.filter(({ key }) => found[key]);
  if (settled.length === 0) return false;
  await addTried(device, found);
  sparse.rates = { ...sparse.rates, tried: { ...sparse.rates.tried, ...found } }; // not what other processes found: this program is bound without
  for (const { key, choice } of settled) choices[choice] = { ...choices[choice], ...found[key], isTried: true };
  return settled.some(({ key, choice }) => doesWin(found[key]) !== choices[choice].isSparse);
}

/** Layers that take long first, as many as time allows. */
async function tryLongest(device: CpuDevice, { choices, rates, doubts = [] }: SparsePolicy, mostMs: number) {
  const found: Record<string, TriedLayer> = {};
  const trial = new Trial(device);
  const start = performance.now();
  let tries = 0;
  const usualMs = rates.caches === 0 ? USUAL_NEAR_MS : USUAL_MS;
  try {
    for (const { key, choice, ...calls } of doubts.toSorted((a, b) => choices[b.choice].denseMs - choices[a.choice].denseMs)) {
      const spent = performance.now() - start;
      if (found[key] || 4 * choices[choice].rows * choices[choice].depth > MOST_BYTES) continue;
      if (spent + (tries > 0 ? spent / tries : usualMs) > mostMs) break;
      found[key] = await tryLayer(device, trial, calls, rates.caches);
      tries++;
    }
  } finally {
    trial.free();
  }
  return found;
}

/** What both take in a network that fills so many caches, or many. */
async function tryLayer(
  device: CpuDevice,
  trial: Trial,
  { dense, sparse }: Pick<Doubt, "dense" | "sparse">,
  caches?: number,
): Promise<TriedLayer> {
  const values = new Map<Value, Memory>();
  const bind = (calls: readonly KernelCall[]) => callsOf(calls, trial, values);
  const [first, second] = [dense, sparse].map((calls) => [bind(calls)]);
  const weights = Math.max(first[0].constantBytes, second[0].constantBytes);
  const count = copiesOf(weights);
  while (first.length < count) {
    first.push(bind(dense));
    second.push(bind(sparse));
  }
  const [denseCalls, sparseCalls] = [first, second].map((copies) => copies.map(({ calls }) => calls));
  return tryCalls(trial, denseCalls, sparseCalls, roundsOptions(device, count * weights, [...values.values()], caches));
}

/** Copies of a layer, as many with the dense kernel as with the sparse one, in turns. */
export async function tryCalls(
  trial: Trial,
  dense: readonly (readonly TrialCall[])[],
  sparse: readonly (readonly TrialCall[])[],
  options: RoundsOptions,
): Promise<TriedLayer> {
  const rounds = await trial.rounds([dense.flat(), sparse.flat()], options);
  for (let series = 0; series < SERIES.least || (series < SERIES.most && isUndecided(rounds.lows)); series++)
    await rounds.series(SERIES.runs);
  const denseMs = lowOf(rounds.lows[0]) / 1e6 / dense.length;
  // Its own low would be of a series that nothing else disturbed, as the dense one's might not be.
  return { denseMs, sparseMs: ratioOf(rounds.lows) * denseMs };
}

/** Whether some series were won by either. */
function isUndecided([dense, sparse]: readonly (readonly number[])[]): boolean {
  const wins = dense.filter((denseMs, i) => doesWin({ denseMs, sparseMs: sparse[i] })).length;
  return wins > 0 && wins < dense.length;
}

/** Kernels over memory of their own, but that values are the same for both. */
function callsOf(calls: readonly KernelCall[], trial: Trial, values: Map<Value, Memory>) {
  const temporaries = new Map<number, Memory>();
  let constantBytes = 0;
  const shared = <Key>(known: Map<Key, Memory>, key: Key, make: () => Memory): Memory => {
    const memory = known.get(key) ?? make();
    known.set(key, memory);
    return memory;
  };
  const bound = calls.map(({ kernel, places }): TrialCall => {
    const params = kernel.params.filter(({ access }) => access !== "scratch");
    const args = places.map((place, i) => {
      if (place.k === "temporary") return shared(temporaries, place.id, () => trial.empty(place.bytes));
      const constant = place.k === "value" ? constantOf(place.value) : null;
      if (place.k === "value" && !constant) return shared(values, place.value, () => trial.empty(tensorBytes(place.value.type)));
      constantBytes += params[i].bytes;
      if (place.k === "constant") return trial.put(place.data);
      const memory = trial.empty(params[i].bytes);
      const { buffer, byteOffset } = memory.view();
      if (place.k === "packed") place.pack(new Float32Array(buffer, byteOffset, params[i].bytes / 4));
      return memory; // a bias may be zeros
    });
    return { kernel, args };
  });
  return { calls: bound, constantBytes };
}
