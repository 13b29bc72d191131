// The rates by which layers with sparse weights get their kernels, and the layers that they were fitted to: as JSON, and as a table.
import type { CpuDevice } from "../devices/cpu.ts";
import { codeMs } from "../run/implement/sparse_code_cost.ts";
import {
  denseMs,
  type KernelRates,
  MOST_CACHES,
  type ProductRates,
  ratesWhere,
  type SparseRates,
  sparseMs,
  type VectorRates,
} from "../run/implement/sparse_cost.ts";
import { measureSparseRates } from "../run/sparse_rates.ts";
import { rounded } from "./statistics.ts";
import { formatPairs, formatTable } from "./table.ts";
import { msText, percentText, short } from "./units.ts";

interface LayerTimes {
  readonly denseMs: number;
  readonly sparseMs: number;
  /** Of code made for the pattern, where there is some. */
  readonly codeMs: number | null;
}

interface RatedLayer {
  readonly rows: number;
  readonly depth: number;
  readonly n: number;
  readonly density: number;
  /** Whether all of it was in the second-level cache. */
  readonly isNear: boolean;
  readonly measured: LayerTimes;
  readonly predicted: LayerTimes;
}

export interface MeasuredRates {
  readonly threads: number;
  readonly rates: SparseRates;
  /** How far series of runs disagreed: 1, or more where something else ran. */
  readonly spread: number;
  readonly layers: readonly RatedLayer[];
}

/** Measures, and keeps it for later processes. */
export async function measuredRates(device: CpuDevice): Promise<MeasuredRates> {
  const { rates, samples, spread } = await measureSparseRates(device);
  const { threads, target } = device;
  const layers = samples.map(({ layer, density, isNear, ...measured }) => {
    const by = ratesWhere(isNear ? 0 : MOST_CACHES, rates);
    return {
      ...{ rows: layer.rows, depth: layer.depth, n: layer.n, density, isNear },
      measured: {
        denseMs: rounded(measured.denseMs),
        sparseMs: rounded(measured.sparseMs),
        codeMs: measured.codeMs && rounded(measured.codeMs),
      },
      predicted: {
        denseMs: rounded(denseMs(layer, by, target, threads)),
        sparseMs: rounded(sparseMs(layer, by, target, threads)),
        codeMs: measured.codeMs && rounded(codeMs(layer, by.code, target, threads)),
      },
    };
  });
  return { threads, rates, spread: rounded(spread), layers };
}

const nanoseconds = (ns: number): string => `${short(ns)} ns`;

const productText = ({ nonzero, vector, visit, channel, once }: ProductRates): string =>
  `${short(nonzero)} and ${nanoseconds(vector)} a nonzero, ${nanoseconds(visit)} a row in a block, ${nanoseconds(channel)} a channel, ${nanoseconds(once)} a layer`;
const bytesText = ({ cached, streamed }: VectorRates["dense"]): string =>
  `${short(cached)} GB/s from caches${streamed === cached ? "" : `, ${short(streamed)} from memory`}`;

export function ratesText({ rates, spread, layers }: MeasuredRates): string[] {
  const { near, ...far } = rates;
  return [
    `layers with sparse weights, on one thread; series of runs ${percentText(spread - 1)} apart:`,
    ...partText(far, layers, false),
    ...(near ? ["", "networks that stay in the second-level cache from run to run:", ...partText(near, layers, true)] : []),
  ];
}

function partText({ dense, sparse, beside, broad, code, vector }: KernelRates, layers: readonly RatedLayer[], isNear: boolean): string[] {
  const cells = layers
    .filter((layer) => layer.isNear === isNear)
    .map(({ rows, depth, n, density, measured, predicted }) => [
      `${rows}x${depth}`,
      String(n),
      percentText(density),
      msText(measured.denseMs),
      msText(predicted.denseMs),
      msText(measured.sparseMs),
      msText(predicted.sparseMs),
      `${short(measured.denseMs / measured.sparseMs)}×`,
      measured.codeMs === null ? "" : msText(measured.codeMs),
      predicted.codeMs === null ? "" : msText(predicted.codeMs),
    ]);
  return [
    formatPairs([
      [
        "dense kernels",
        `${nanoseconds(dense.element)} a weight and column, ${nanoseconds(dense.result)} a result, ${nanoseconds(dense.once)} a layer`,
      ],
      ["sparse kernels, for a tile and for a vector of columns", productText(sparse)],
      ["  columns side by side", productText(beside)],
      ["  few rows", `${nanoseconds(broad.nonzero)} a nonzero, ${nanoseconds(broad.row)} a row`],
      [
        "code made for a pattern",
        `${nanoseconds(code.vector)} a nonzero and vector, ${nanoseconds(code.channel)} a channel, ${nanoseconds(code.fetched)} a byte of code, ${nanoseconds(code.again)} for each further tile`,
      ],
      ["dense, one column", bytesText(vector.dense)],
      ["sparse, one column", `${bytesText(vector.sparse)}, ${nanoseconds(vector.step)} a step`],
      ["threads meet after a launch", `in ${nanoseconds(vector.meeting)}`],
    ]),
    "",
    formatTable(["weights", "columns", "density", "dense", "predicted", "sparse", "predicted", "speed-up", "code", "predicted"], cells, {
      left: [0],
    }),
  ];
}
