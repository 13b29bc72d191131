// Random candidates (Anwar and Sung 2016): many random masks of the same density; the one with which the network errs least is taken.

import { Random } from "../../data/random.ts";
import { HeddleError } from "../../ir/error.ts";
import type { Grain } from "./grains.ts";
import { type Mask, type Scope, type Scored, selectMasks } from "./mask.ts";

export interface CandidateOptions {
  readonly sparsity: number;
  readonly grain: Grain;
  /** Default: layer. */
  readonly scope?: Scope;
  /** How many are tried. Default 50. */
  readonly candidates?: number;
  readonly seed?: number;
  /** How wrong the network is with these masks: its misclassification rate on a validation set. */
  readonly misclassification: (masks: readonly Mask[]) => Promise<number>;
}

export interface Chosen {
  readonly masks: readonly Mask[];
  /** Of the chosen candidate, and of all in their order. */
  readonly error: number;
  readonly errors: readonly number[];
}

/** Equally wrong candidates: the first one is taken. */
export async function bestOfRandom(layers: readonly Scored["layer"][], options: CandidateOptions): Promise<Chosen> {
  const { sparsity, grain, scope = "layer", candidates = 50, seed = 1, misclassification } = options;
  if (!(candidates >= 1)) throw new HeddleError("bad-argument", `bestOfRandom: ${candidates} candidates, wanted 1 or more`);
  const random = new Random(seed);
  const errors: number[] = [];
  let best: readonly Mask[] = [];
  for (let i = 0; i < candidates; i++) {
    const drawn = layers.map((layer) => ({
      layer,
      scores: Float64Array.from({ length: layer.rows * layer.columns }, () => random.uniform()),
    }));
    const masks = selectMasks(drawn, { sparsity, grain, scope });
    const error = await misclassification(masks);
    if (errors.every((other) => error < other)) best = masks;
    errors.push(error);
  }
  return { masks: best, error: Math.min(...errors), errors };
}
