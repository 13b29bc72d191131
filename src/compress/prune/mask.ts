// Scores → masks: which weights stay, exactly as many as asked, one by one or in groups.
import { HeddleError } from "../../ir/error.ts";
import type { Layer } from "./layer.ts";

/** What stays or goes together: single weights, N of M neighbours in a row, kernels of a convolution, whole rows, whole layers. */
export type Grain = "element" | "kernel" | "filter" | "layer" | NOfM;
/** So many of so many stay. */
export interface NOfM {
  readonly n: number;
  readonly m: number;
}
/** Within what weights compete to stay: a row, a layer, all layers. */
export type Scope = "row" | "layer" | "global";

/** 1 where a weight stays; in the order of the layer's matrix. */
export type Mask = Uint8Array;

/** A layer's scores (rows, columns): what is large stays. */
export interface Scored {
  readonly layer: Pick<Layer, "name" | "rows" | "columns" | "taps">;
  readonly scores: Float64Array;
}

export interface Selection {
  /** The part that goes, from 0 to 1; of N:M the pattern says it. */
  readonly sparsity: number;
  readonly grain: Grain;
  readonly scope: Scope;
}

/** "element", "filter" or "2:4". Throws HeddleError ("bad-argument"). */
export function parseGrain(text: string): Grain {
  if (text === "element" || text === "kernel" || text === "filter" || text === "layer") return text;
  const [n, m] = (/^(\d+):(\d+)$/.exec(text) ?? []).slice(1).map(Number);
  if (n >= 0 && n < m) return { n, m };
  throw new HeddleError("bad-argument", `grain ${text}: wanted element, kernel, filter, layer, or N:M with N below M, for example 2:4`);
}

/** Weights in a group: neighbours in the matrix. */
function groupSize({ rows, columns, taps }: Scored["layer"], grain: Exclude<Grain, NOfM>): number {
  switch (grain) {
    case "element":
      return 1;
    case "kernel":
      return taps;
    case "filter":
      return columns;
    case "layer":
      return rows * columns;
    default:
      return grain satisfies never;
  }
}

/** A mask for each layer. Equal scores: the first ones stay. */
export function selectMasks(all: readonly Scored[], { sparsity, grain, scope }: Selection): Mask[] {
  if (!(sparsity >= 0 && sparsity <= 1)) throw new HeddleError("bad-argument", `prune: sparsity ${sparsity}, wanted 0 to 1`);
  if (typeof grain === "object") return all.map((scored) => selectOfNeighbours(scored, grain));
  const groups = all.map(({ layer, scores }) => {
    const size = groupSize(layer, grain);
    return { layer, size, scores: means(scores, size) };
  });
  if (scope === "global") return selectGlobally(groups, sparsity);
  return groups.map(({ layer, size, scores }) => {
    const perRow = layer.columns / size;
    const length = scope === "row" && perRow > 1 ? perRow : scores.length;
    const kept = new Uint8Array(scores.length);
    for (let at = 0; at < scores.length; at += length)
      kept.set(keepLargest(scores.subarray(at, at + length), Math.round(length * (1 - sparsity))), at);
    return spread(kept, size);
  });
}

function means(scores: Float64Array, size: number): Float64Array {
  if (size === 1) return scores;
  const out = new Float64Array(scores.length / size);
  for (let i = 0; i < scores.length; i++) out[Math.floor(i / size)] += scores[i] / size;
  return out;
}

function spread(kept: Uint8Array, size: number): Mask {
  if (size === 1) return kept;
  const out = new Uint8Array(kept.length * size);
  for (let i = 0; i < out.length; i++) out[i] = kept[Math.floor(i / size)];
  return out;
}

/** 1 for the `count` largest. */
export function keepLargest(scores: Float64Array, count: number): Uint8Array {
  const kept = new Uint8Array(scores.length);
  if (count <= 0) return kept;
  const bound = scores.slice().sort()[scores.length - Math.min(count, scores.length)];
  let left = count;
  for (let i = 0; i < scores.length; i++) if (scores[i] > bound) left -= kept[i] = 1;
  for (let i = 0; i < scores.length && left > 0; i++) if (scores[i] === bound) left -= kept[i] = 1;
  return kept;
}

/** Of each `m` neighbours in a row the `n` largest; what is left at a row's end keeps as many. */
function selectOfNeighbours({ layer: { rows, columns }, scores }: Scored, { n, m }: NOfM): Mask {
  const mask = new Uint8Array(scores.length);
  for (let row = 0; row < rows; row++)
    for (let at = 0; at < columns; at += m) {
      const start = row * columns + at;
      mask.set(keepLargest(scores.subarray(start, start + Math.min(m, columns - at)), n), start);
    }
  return mask;
}

interface Grouped {
  readonly size: number;
  readonly scores: Float64Array;
}

/** All groups of all layers in one competition, until enough weights are gone. */
function selectGlobally(layers: readonly Grouped[], sparsity: number): Mask[] {
  const total = layers.reduce((n, { size, scores }) => n + size * scores.length, 0);
  const isEven = layers.every(({ size }) => size === layers[0].size);
  const joined = new Float64Array(layers.reduce((n, { scores }) => n + scores.length, 0));
  const starts: number[] = [];
  for (let i = 0, at = 0; i < layers.length; at += layers[i++].scores.length) {
    starts.push(at);
    joined.set(layers[i].scores, at);
  }
  const kept = isEven
    ? keepLargest(joined, Math.round((total * (1 - sparsity)) / (layers[0]?.size ?? 1)))
    : dropSmallest(joined, layers, Math.round(total * sparsity));
  return layers.map(({ size, scores }, i) => spread(kept.subarray(starts[i], starts[i] + scores.length), size));
}

/** Groups of different sizes go, the least first, while they fit into what is to go. */
function dropSmallest(joined: Float64Array, layers: readonly Grouped[], count: number): Uint8Array {
  const sizes = new Float64Array(joined.length);
  for (let i = 0, at = 0; i < layers.length; at += layers[i++].scores.length) sizes.fill(layers[i].size, at, at + layers[i].scores.length);
  const kept = new Uint8Array(joined.length).fill(1);
  let left = count;
  for (const i of Uint32Array.from(joined.keys()).sort((a, b) => joined[a] - joined[b])) {
    if (sizes[i] > left) continue;
    kept[i] = 0;
    left -= sizes[i];
  }
  return kept;
}

export const countKept = (mask: Mask): number => {
  let count = 0;
  for (let i = 0; i < mask.length; i++) count += mask[i];
  return count;
};
