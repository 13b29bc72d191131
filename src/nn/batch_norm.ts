// Batch normalisation: channels of mean 0 and variance 1 over the batch, or by running statistics when not training.
import { HeddleError } from "../ir/error.ts";
import { ones, Parameter, type Tensor, tensor, zeros } from "../tensor/index.ts";
import { Module } from "./module.ts";

export interface BatchNormOptions {
  readonly epsilon?: number;
  /** How much of each batch goes into the running statistics. */
  readonly momentum?: number;
  /** Whether there are a weight and a bias. */
  readonly affine?: boolean;
}

/** x (N, C, …). */
abstract class BatchNorm extends Module {
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;
  readonly runningMean: Parameter;
  readonly runningVar: Parameter;
  readonly numBatchesTracked: Parameter;
  private readonly epsilon: number;
  private readonly momentum: number;

  constructor(
    private readonly channels: number,
    private readonly ranks: readonly number[],
    { epsilon = 1e-5, momentum = 0.1, affine = true }: BatchNormOptions = {},
  ) {
    super();
    this.weight = affine ? new Parameter(ones([channels])) : null;
    this.bias = affine ? new Parameter(zeros([channels])) : null;
    this.runningMean = new Parameter(zeros([channels]), { trainable: false });
    this.runningVar = new Parameter(ones([channels]), { trainable: false });
    this.numBatchesTracked = new Parameter(tensor(0, "i64"), { trainable: false });
    this.epsilon = epsilon;
    this.momentum = momentum;
  }

  forward(x: Tensor): Tensor {
    if (!this.ranks.includes(x.rank) || x.shape[1] !== this.channels)
      throw new HeddleError(
        "bad-argument",
        `BatchNorm: got shape (${x.shape}), wanted rank ${this.ranks.join(" or ")} with ${this.channels} channels`,
      );
    const perChannel = [this.channels, ...x.shape.slice(2).map(() => 1)];
    const { mean, variance } = this.training ? this.batchStatistics(x) : { mean: this.runningMean.value, variance: this.runningVar.value };
    const deviation = variance.add(this.epsilon).sqrt();
    const scale = this.weight ? this.weight.value.div(deviation) : deviation.reciprocal();
    const scaled = x.sub(mean.reshape(perChannel)).mul(scale.reshape(perChannel));
    return this.bias ? scaled.add(this.bias.value.reshape(perChannel)) : scaled;
  }

  /** Mean and variance of the batch, which move the running ones. */
  private batchStatistics(x: Tensor): { mean: Tensor; variance: Tensor } {
    const axes = x.shape.flatMap((_, i) => (i === 1 ? [] : [i]));
    const count = x.size / this.channels;
    if (count < 2)
      throw new HeddleError("bad-argument", `BatchNorm: shape (${x.shape}) has one number a channel: no variance to learn from`);
    const kept = x.mean(axes, true);
    const [mean, variance] = [kept.reshape([this.channels]), x.sub(kept).square().mean(axes)];
    const move = (running: Parameter, now: Tensor) => {
      running.value = running.value.mul(1 - this.momentum).add(now.stopGradient().mul(this.momentum));
    };
    move(this.runningMean, mean);
    move(this.runningVar, variance.mul(count / (count - 1))); // of the population, as PyTorch has it
    this.numBatchesTracked.value = this.numBatchesTracked.value.add(1);
    return { mean, variance };
  }
}

/** (N, C) or (N, C, length). */
export class BatchNorm1d extends BatchNorm {
  constructor(channels: number, options?: BatchNormOptions) {
    super(channels, [2, 3], options);
  }
}
/** (N, C, height, width). */
export class BatchNorm2d extends BatchNorm {
  constructor(channels: number, options?: BatchNormOptions) {
    super(channels, [4], options);
  }
}
/** (N, C, depth, height, width). */
export class BatchNorm3d extends BatchNorm {
  constructor(channels: number, options?: BatchNormOptions) {
    super(channels, [5], options);
  }
}
