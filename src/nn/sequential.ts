// Sequential: layers one after another, and the layers that have no parameters.
import type { PerAxis, PoolOptions, Tensor } from "../tensor/index.ts";
import { type Member, Module } from "./module.ts";

/** A layer, or a function of a tensor. */
export type Layer = (Module & { forward(x: Tensor): Tensor }) | ((x: Tensor) => Tensor);

/** Keys are places in the list: "0.weight". */
export class Sequential extends Module {
  private readonly layers: readonly Layer[];

  constructor(...layers: readonly Layer[]) {
    super();
    this.layers = layers;
  }

  override *members(): Iterable<Member> {
    for (const [i, layer] of this.layers.entries()) if (layer instanceof Module) yield [`${i}`, layer];
  }

  forward(x: Tensor): Tensor {
    return this.layers.reduce((h, layer) => (layer instanceof Module ? layer.forward(h) : layer(h)), x);
  }
}

/** A module of a function. */
const moduleOf = (f: (x: Tensor) => Tensor) =>
  class extends Module {
    forward(x: Tensor): Tensor {
      return f(x);
    }
  };

export const ReLU = moduleOf((x) => x.relu());
export const GELU = moduleOf((x) => x.gelu());
export const SiLU = moduleOf((x) => x.silu());
export const Tanh = moduleOf((x) => x.tanh());
export const Sigmoid = moduleOf((x) => x.sigmoid());
export const Softplus = moduleOf((x) => x.softplus());
export const Identity = moduleOf((x) => x);
/** (N, …) → (N, all the rest). */
export const Flatten = moduleOf((x) => x.flatten(1));

export class LeakyReLU extends Module {
  constructor(private readonly slope = 0.01) {
    super();
  }
  forward(x: Tensor): Tensor {
    return x.leakyRelu(this.slope);
  }
}
export class ELU extends Module {
  constructor(private readonly alpha = 1) {
    super();
  }
  forward(x: Tensor): Tensor {
    return x.elu(this.alpha);
  }
}
export class Softmax extends Module {
  constructor(private readonly axis = -1) {
    super();
  }
  forward(x: Tensor): Tensor {
    return x.softmax(this.axis);
  }
}

/** Largest number of each window, over all spatial axes. */
export class MaxPool extends Module {
  constructor(
    private readonly size: PerAxis,
    private readonly options: PoolOptions = {},
  ) {
    super();
  }
  forward(x: Tensor): Tensor {
    return x.maxPool(this.size, this.options);
  }
}
/** Mean of each window, over all spatial axes. */
export class AvgPool extends Module {
  constructor(
    private readonly size: PerAxis,
    private readonly options: PoolOptions = {},
  ) {
    super();
  }
  forward(x: Tensor): Tensor {
    return x.avgPool(this.size, this.options);
  }
}
/** (N, C, spatial…) → (N, C): the mean of each channel. */
export const GlobalAvgPool = moduleOf((x) => x.mean(x.shape.flatMap((_, i) => (i < 2 ? [] : [i]))));
