// Convolution layers: (N, in, spatial…) → (N, out, spatial…).
import { type ConvOptions, type ConvTransposeOptions, Parameter, type PerAxis, type Tensor } from "../tensor/index.ts";
import { fanInUniform } from "./init.ts";
import { Module } from "./module.ts";
import { drawKeys, type Randomness } from "./random_stream.ts";

type Place = Omit<ConvOptions<Tensor>, "bias">;
type TransposePlace = Omit<ConvTransposeOptions<Tensor>, "bias">;

export interface ConvLayerOptions extends Place {
  readonly key: Randomness;
  readonly bias?: boolean;
}
export interface ConvTransposeLayerOptions extends TransposePlace {
  readonly key: Randomness;
  readonly bias?: boolean;
}

const sizes = (kernel: PerAxis, axes: number): number[] =>
  typeof kernel === "number" ? new Array<number>(axes).fill(kernel) : [...kernel];

abstract class Conv extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  private readonly place: Place;

  constructor(axes: number, inputs: number, outputs: number, kernel: PerAxis, { key, bias = true, ...place }: ConvLayerOptions) {
    super();
    const shape = [outputs, inputs / (place.groups ?? 1), ...sizes(kernel, axes)];
    const [forWeight, forBias] = drawKeys(key, 2);
    this.weight = new Parameter(fanInUniform(forWeight, shape));
    this.bias = bias ? new Parameter(fanInUniform(forBias, [outputs], shape.slice(1).reduce((n, size) => n * size, 1))) : null; // biome-ignore format: short
    this.place = place;
  }

  forward(x: Tensor): Tensor {
    return x.conv(this.weight.value, { ...this.place, ...(this.bias && { bias: this.bias.value }) });
  }
}

/** (N, in, length) → (N, out, length). */
export class Conv1d extends Conv {
  constructor(inputs: number, outputs: number, kernel: PerAxis, options: ConvLayerOptions) {
    super(1, inputs, outputs, kernel, options);
  }
}
/** (N, in, height, width) → (N, out, height, width). */
export class Conv2d extends Conv {
  constructor(inputs: number, outputs: number, kernel: PerAxis, options: ConvLayerOptions) {
    super(2, inputs, outputs, kernel, options);
  }
}
/** (N, in, depth, height, width) → (N, out, depth, height, width). */
export class Conv3d extends Conv {
  constructor(inputs: number, outputs: number, kernel: PerAxis, options: ConvLayerOptions) {
    super(3, inputs, outputs, kernel, options);
  }
}

/** (N, in, height, width) → (N, out, larger height, larger width); weight (in, out/groups, kernel). */
export class ConvTranspose2d extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
  private readonly place: TransposePlace;

  constructor(inputs: number, outputs: number, kernel: PerAxis, { key, bias = true, ...place }: ConvTransposeLayerOptions) {
    super();
    const shape = [inputs, outputs / (place.groups ?? 1), ...sizes(kernel, 2)];
    const fanIn = shape.slice(1).reduce((n, size) => n * size, 1); // as PyTorch counts it
    const [forWeight, forBias] = drawKeys(key, 2);
    this.weight = new Parameter(fanInUniform(forWeight, shape));
    this.bias = bias ? new Parameter(fanInUniform(forBias, [outputs], fanIn)) : null;
    this.place = place;
  }

  forward(x: Tensor): Tensor {
    return x.convTranspose(this.weight.value, { ...this.place, ...(this.bias && { bias: this.bias.value }) });
  }
}
