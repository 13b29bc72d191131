// Scores → masks: which weights stay, exactly as many as asked, one by one or in groups.
import { HeddleError } from "../../ir/error.ts";
import { type Grain, type Groups, groupsOf, isPattern, type NOfM } from "./grains.ts";
import type { Layer } from "./layer.ts";
import { lampScores } from "./scores.ts";

/** Within what weights compete to stay: a row, a layer, all layers by their scores, all layers by LAMP's (lampScores). */
export const SCOPES = ["row", "layer", "global", "lamp"] as const;
export type Scope = (typeof SCOPES)[number];

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

/** A mask for each layer. Equal scores: the first ones stay. */
export function selectMasks(all: readonly Scored[], { sparsity, grain, scope }: Selection): Mask[] {
  if (!(sparsity >= 0 && sparsity <= 1)) throw new HeddleError("bad-argument", `prune: sparsity ${sparsity}, wanted 0 to 1`);
  if (isPattern(grain)) return all.map((scored) => selectOfNeighbours(scored, grain));
  const competing = all.map(({ layer, scores }) => {
    const groups = grain === "element" ? null : groupsOf(layer, grain);
    const own = scope === "lamp" ? scores.map((s) => s * s) : scores;
    const together = groups ? means(own, groups) : own;
    return { perRow: groups?.perRow ?? layer.columns, groups, scores: scope === "lamp" ? lampScores(together) : together };
  });
  if (scope === "global" || scope === "lamp") return selectGlobally(competing, sparsity);
  return competing.map(({ perRow, groups, scores }) => {
    const length = scope === "row" && perRow > 1 ? perRow : scores.length;
    const kept = new Uint8Array(scores.length);
    for (let at = 0; at < scores.length; at += length)
      kept.set(keepGroups(scores.subarray(at, at + length), groups?.sizes.subarray(at, at + length), sparsity), at);
    return spread(kept, groups);
  });
}

function means(scores: Float64Array, { of, sizes }: Groups): Float64Array {
  const out = new Float64Array(sizes.length);
  for (let i = 0; i < scores.length; i++) out[of[i]] += scores[i] / sizes[of[i]];
  return out;
}

function spread(kept: Uint8Array, groups: Groups | null): Mask {
  return groups ? Uint8Array.from(groups.of, (group) => kept[group]) : kept;
}

/** 1 for what stays, so that the part `sparsity` of the weights goes; no sizes: each is one weight. */
function keepGroups(scores: Float64Array, sizes: Int32Array | undefined, sparsity: number): Uint8Array {
  const isEven = sizes === undefined || sizes.every((size) => size === sizes[0]);
  return isEven
    ? keepLargest(scores, Math.round(scores.length * (1 - sparsity)))
    : dropSmallest(scores, sizes, Math.round(sizes.reduce((sum, size) => sum + size, 0) * sparsity));
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

interface Competing {
  /** Null: single weights. */
  readonly groups: Groups | null;
  readonly scores: Float64Array;
}

/** All groups of all layers in one competition, until enough weights are gone. */
function selectGlobally(layers: readonly Competing[], sparsity: number): Mask[] {
  const count = layers.reduce((n, { scores }) => n + scores.length, 0);
  const [joined, sizes] = [new Float64Array(count), new Int32Array(count).fill(1)];
  const starts: number[] = [];
  for (let i = 0, at = 0; i < layers.length; at += layers[i++].scores.length) {
    starts.push(at);
    joined.set(layers[i].scores, at);
    const { groups } = layers[i];
    if (groups) sizes.set(groups.sizes, at);
  }
  const kept = keepGroups(joined, sizes, sparsity);
  return layers.map(({ groups, scores }, i) => spread(kept.subarray(starts[i], starts[i] + scores.length), groups));
}

/** Groups of different sizes go, the least first, while they fit into what is to go. */
function dropSmallest(scores: Float64Array, sizes: Int32Array, count: number): Uint8Array {
  const kept = new Uint8Array(scores.length).fill(1);
  let left = count;
  for (const i of Uint32Array.from(scores.keys()).sort((a, b) => scores[a] - scores[b])) {
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
