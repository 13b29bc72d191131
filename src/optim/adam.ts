// Adam (Kingma and Ba 2015), and AdamW, whose weight decay does not go through the moments (Loshchilov and Hutter 2019).
import { type Parameter, pow, type Tensor } from "../tensor/index.ts";
import { type LearningRate, type Memory, Optimizer } from "./optimizer.ts";

export interface AdamOptions {
  readonly learningRate: LearningRate;
  /** How slowly the means of the gradient and of its square move. */
  readonly betas?: readonly [mean: number, square: number];
  readonly epsilon?: number;
  readonly weightDecay?: number;
  /** Which parameters decay. Default: all. */
  readonly decays?: (parameter: Parameter) => boolean;
}

export class Adam extends Optimizer {
  /** Whether the weights shrink by themselves, or the decay is part of the gradient. */
  protected readonly isDecoupled: boolean = false;
  private readonly betas: readonly [number, number];
  private readonly epsilon: number;
  private readonly decay: readonly number[];
  private readonly means: Memory;
  private readonly squares: Memory;

  constructor(parameters: readonly Parameter[], options: AdamOptions) {
    super(parameters, options.learningRate);
    const { betas = [0.9, 0.999], epsilon = 1e-8, weightDecay = 0, decays = () => true } = options;
    this.betas = betas;
    this.epsilon = epsilon;
    this.decay = parameters.map((p) => (decays(p) ? weightDecay : 0));
    this.means = this.remember("exp_avg");
    this.squares = this.remember("exp_avg_sq");
  }

  protected updater(rate: Tensor, count: Tensor): (weight: Tensor, grad: Tensor, i: number) => Tensor {
    const [b1, b2] = this.betas;
    const size = rate.div(pow(b1, count).mul(-1).add(1)); // the means start at 0 and are too small at first
    const spread = pow(b2, count).mul(-1).add(1).sqrt().reciprocal(); // biome-ignore format: a formula
    return (weight, given, i) => {
      const decay = this.decay[i];
      const grad = decay && !this.isDecoupled ? given.add(weight.mul(decay)) : given;
      const mean = this.means[i].value.mul(b1).add(grad.mul(1 - b1));
      const square = this.squares[i].value.mul(b2).add(grad.square().mul(1 - b2));
      this.means[i].value = mean;
      this.squares[i].value = square;
      const kept = decay && this.isDecoupled ? weight.mul(rate.mul(-decay).add(1)) : weight;
      return kept.sub(mean.mul(size).div(square.sqrt().mul(spread).add(this.epsilon)));
    };
  }
}

export class AdamW extends Adam {
  protected override readonly isDecoupled: boolean = true;

  constructor(parameters: readonly Parameter[], options: AdamOptions) {
    super(parameters, { weightDecay: 0.01, ...options });
  }
}
