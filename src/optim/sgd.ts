// Stochastic gradient descent, with momentum, Nesterov's or the plain one, and weight decay.
import { HeddleError } from "../ir/error.ts";
import type { Parameter, Tensor } from "../tensor/index.ts";
import { type LearningRate, type Memory, Optimizer } from "./optimizer.ts";

export interface SgdOptions {
  readonly learningRate: LearningRate;
  readonly momentum?: number;
  readonly nesterov?: boolean;
  /** Times the weight, added to the gradient. */
  readonly weightDecay?: number;
}

export class SGD extends Optimizer {
  private readonly momentum: number;
  private readonly nesterov: boolean;
  private readonly weightDecay: number;
  private readonly velocities: Memory | null;

  constructor(parameters: readonly Parameter[], { learningRate, momentum = 0, nesterov = false, weightDecay = 0 }: SgdOptions) {
    super(parameters, learningRate);
    if (nesterov && !momentum) throw new HeddleError("bad-argument", "SGD: nesterov needs a momentum");
    this.momentum = momentum;
    this.nesterov = nesterov;
    this.weightDecay = weightDecay;
    this.velocities = momentum ? this.remember("momentum_buffer") : null;
  }

  protected updater(rate: Tensor): (weight: Tensor, grad: Tensor, i: number) => Tensor {
    return (weight, grad, i) => weight.sub(this.direction(weight, grad, i).mul(rate));
  }

  private direction(weight: Tensor, grad: Tensor, i: number): Tensor {
    const slope = this.weightDecay ? grad.add(weight.mul(this.weightDecay)) : grad;
    if (!this.velocities) return slope;
    const velocity = this.velocities[i].value.mul(this.momentum).add(slope);
    this.velocities[i].value = velocity;
    return this.nesterov ? slope.add(velocity.mul(this.momentum)) : velocity;
  }
}
