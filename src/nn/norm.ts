// Normalisations within an example: over the last axis, or over groups of channels.
import { HeddleError } from "../ir/error.ts";
import { ones, Parameter, type Tensor, zeros } from "../tensor/index.ts";
import { Module } from "./module.ts";

export interface NormOptions {
  readonly epsilon?: number;
  /** Whether there are a weight and a bias. */
  readonly affine?: boolean;
}

/** Mean 0 and variance 1 over the last axes. */
export class LayerNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;
  private readonly epsilon: number;

  constructor(shape: number | readonly number[], { epsilon = 1e-5 }: { readonly epsilon?: number } = {}) {
    super();
    this.weight = new Parameter(ones([shape].flat()));
    this.bias = new Parameter(zeros([shape].flat()));
    this.epsilon = epsilon;
  }

  forward(x: Tensor): Tensor {
    return x.layerNorm(this.weight.value, this.bias.value, this.epsilon);
  }
}

/** Mean square 1 over the last axis (Zhang and Sennrich 2019). */
export class RMSNorm extends Module {
  readonly weight: Parameter;
  private readonly epsilon: number;

  constructor(width: number, { epsilon = 1e-6 }: { readonly epsilon?: number } = {}) {
    super();
    this.weight = new Parameter(ones([width]));
    this.epsilon = epsilon;
  }

  forward(x: Tensor): Tensor {
    return x.div(x.square().mean(-1, true).add(this.epsilon).sqrt()).mul(this.weight.value);
  }
}

/** Mean 0 and variance 1 over each group of channels of an example (Wu and He 2018). x (N, C, …). */
export class GroupNorm extends Module {
  readonly weight: Parameter | null;
  readonly bias: Parameter | null;
  private readonly epsilon: number;

  constructor(
    private readonly groups: number,
    private readonly channels: number,
    { epsilon = 1e-5, affine = true }: NormOptions = {},
  ) {
    super();
    if (channels % groups !== 0)
      throw new HeddleError("bad-argument", `GroupNorm: ${channels} channels do not make ${groups} equal groups`);
    this.weight = affine ? new Parameter(ones([channels])) : null;
    this.bias = affine ? new Parameter(zeros([channels])) : null;
    this.epsilon = epsilon;
  }

  forward(x: Tensor): Tensor {
    const parts = x.reshape([x.shape[0], this.groups, -1]);
    const centered = parts.sub(parts.mean(2, true));
    const scaled = centered.div(centered.square().mean(2, true).add(this.epsilon).sqrt()).reshape(x.shape);
    if (!this.weight || !this.bias) return scaled;
    const perChannel = [this.channels, ...x.shape.slice(2).map(() => 1)];
    return scaled.mul(this.weight.value.reshape(perChannel)).add(this.bias.value.reshape(perChannel));
  }
}
