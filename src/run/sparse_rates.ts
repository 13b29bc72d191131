// Rates of products with sparse weights on this machine, dense and sparse: measured once, read from the cache by later processes, measured again where they were disturbed.
import type { CpuDevice } from "../devices/cpu.ts";
import { type Graph, topologicalOrder } from "../ir/graph.ts";
import { constantOf } from "../ops/source.ts";
import { openCache } from "./cache.ts";
import { byteSize } from "./cost.ts";
import { cachesOf, ratesWhere, type SparseRates, type TriedLayer, USUAL_RATES } from "./implement/sparse_cost.ts";
import { type MeasuredRates, measureRates, type RateSample } from "./sparse_samples.ts";

/** By the device's key: it names the instruction set, the caches and the threads. */
const known = new Map<string, SparseRates>();
const learning = new Map<string, Promise<void>>();

/** What was measured, or what is usual. */
export const sparseRates = ({ codeKey, target }: Pick<CpuDevice, "codeKey" | "target">): SparseRates =>
  known.get(codeKey) ?? USUAL_RATES[target.name];

/** Those by which a network's kernels are chosen, of what is known or given. */
export function ratesOf(graph: Graph, device: Pick<CpuDevice, "codeKey" | "target">, rates = sparseRates(device)): SparseRates {
  return rates.near ? ratesWhere(cachesFilled(graph, device), rates) : rates;
}

function cachesFilled(graph: Graph, { target }: Pick<CpuDevice, "target">): number {
  let [constants, largest] = [0, 0];
  for (const { op, outputs } of topologicalOrder(graph))
    for (const value of outputs) {
      if (op.kind === "source" && constantOf(value)) constants += byteSize(value);
      else largest = Math.max(largest, byteSize(value));
    }
  return cachesOf(constants, largest, target);
}

/** Has the rates of a device known from here on, where a graph has weights that may be called sparse. */
export async function learnSparseRates(graph: Graph, device: CpuDevice): Promise<void> {
  const { codeKey } = device;
  if (known.has(codeKey) || !hasSparseWeights(graph)) return;
  const running = learning.get(codeKey) ?? readOrMeasure(device);
  learning.set(codeKey, running);
  await running.finally(() => learning.delete(codeKey));
}

/** What is kept. */
interface KeptRates {
  readonly rates: SparseRates;
  /** How far series of runs disagreed: 1, or more. */
  readonly spread: number;
  /** How often they were measured. */
  readonly tries: number;
}

const keyOf = ({ codeKey }: CpuDevice): string => `sparse rates 10 ${codeKey}`;
const triedKeyOf = ({ codeKey }: CpuDevice): string => `sparse layers 4 ${codeKey}`;

/** Rates whose series were further apart are measured again by the next processes, so many times; the steadiest stay. */
const WIDE = 1.1;
const TRIES = 4;

async function readOrMeasure(device: CpuDevice): Promise<void> {
  const kept = await openCache({})?.readFacts<KeptRates>(keyOf(device));
  if (!kept || (kept.spread > WIDE && kept.tries < TRIES)) await measureAndKeep(device, kept ?? null);
  else known.set(device.codeKey, kept.rates);
  known.set(device.codeKey, { ...sparseRates(device), tried: await readTried(device) });
}

type Tried = Readonly<Record<string, TriedLayer>>;
const readTried = async (device: CpuDevice): Promise<Tried> => (await openCache({})?.readFacts<Tried>(triedKeyOf(device))) ?? {};

/** Has what layers took known from here on, and kept for later processes. Returns what is known with it. */
export async function addTried(device: CpuDevice, found: Tried): Promise<SparseRates> {
  const tried = { ...sparseRates(device).tried, ...(await readTried(device)), ...found }; // other processes try, too
  const rates = { ...sparseRates(device), tried };
  known.set(device.codeKey, rates);
  await openCache({})?.writeFacts(triedKeyOf(device), tried);
  return rates;
}

/** The rates of a device, learned if they are not known yet. */
export async function learnedRates(device: CpuDevice): Promise<SparseRates> {
  if (!known.has(device.codeKey)) await readOrMeasure(device);
  return sparseRates(device);
}

/** Measures, whatever is known; the rates hold from here on, and later processes read them from the cache. Layers will be tried again. */
export async function measureSparseRates(device: CpuDevice): Promise<MeasuredRates> {
  const measured = await measureAndKeep(device, null);
  await openCache({})?.writeFacts(triedKeyOf(device), {});
  return measured;
}

/** Takes rates that were measured before where they are the steadier ones. */
async function measureAndKeep(device: CpuDevice, before: KeptRates | null): Promise<MeasuredRates> {
  const measured = await measureRates(device);
  const isBetter = before === null || measured.spread < before.spread;
  const best = isBetter ? measured : before;
  const kept: KeptRates = { rates: best.rates, spread: best.spread, tries: (before?.tries ?? 0) + 1 };
  known.set(device.codeKey, kept.rates);
  await openCache({})?.writeFacts(keyOf(device), kept);
  return measured;
}

export type { MeasuredRates, RateSample };

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
