// Gradient clipping: all gradients together get no longer than a limit.
import { add, type Tensor } from "../tensor/index.ts";

export interface Clipped {
  readonly grads: Tensor[];
  /** Length of all gradients together before. */
  readonly norm: Tensor;
}

/** √(Σ of all squares). */
export const gradNorm = (grads: readonly Tensor[]): Tensor =>
  grads.map((g) => g.square().sum() as Tensor).reduce((a, b) => add(a, b)).sqrt(); // biome-ignore format: a formula

/** The gradients, times maxNorm / norm where they are longer than that. */
export function clipGradNorm(grads: readonly Tensor[], maxNorm: number): Clipped {
  const norm = gradNorm(grads);
  const scale = norm.add(1e-6).reciprocal().mul(maxNorm).minimum(1); // as PyTorch keeps away from 0/0
  return { grads: grads.map((g) => g.mul(scale)), norm };
}
