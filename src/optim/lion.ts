// Lion: the sign of a mean of gradients (Chen et al. 2023).
import type { Parameter, Tensor } from "../tensor/index.ts";
import { type LearningRate, type Memory, Optimizer } from "./optimizer.ts";

export interface LionOptions {
  readonly learningRate: LearningRate;
  /** How much of the mean goes into the step, and how slowly the mean moves. */
  readonly betas?: readonly [step: number, mean: number];
  readonly weightDecay?: number;
}

export class Lion extends Optimizer {
  private readonly betas: readonly [number, number];
  private readonly weightDecay: number;
  private readonly means: Memory;

  constructor(parameters: readonly Parameter[], { learningRate, betas = [0.9, 0.99], weightDecay = 0 }: LionOptions) {
    super(parameters, learningRate);
    this.betas = betas;
    this.weightDecay = weightDecay;
    this.means = this.remember("exp_avg");
  }

  protected updater(rate: Tensor): (weight: Tensor, grad: Tensor, i: number) => Tensor {
    const [b1, b2] = this.betas;
    return (weight, grad, i) => {
      const before = this.means[i].value;
      this.means[i].value = before.mul(b2).add(grad.mul(1 - b2));
      const sign = before.mul(b1).add(grad.mul(1 - b1)).sign(); // biome-ignore format: a formula
      const direction = this.weightDecay ? sign.add(weight.mul(this.weightDecay)) : sign;
      return weight.sub(direction.mul(rate));
    };
  }
}
