// Linear: (…, in) → (…, out).
import { Parameter, type Tensor } from "../tensor/index.ts";
import { fanInUniform } from "./init.ts";
import { Module } from "./module.ts";
import { drawKeys, type Randomness } from "./random_stream.ts";

export interface LinearOptions {
  readonly key: Randomness;
  readonly bias?: boolean;
}

/** x · weightᵀ + bias; weight (out, in). */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(inputs: number, outputs: number, { key, bias = true }: LinearOptions) {
    super();
    const [forWeight, forBias] = drawKeys(key, 2);
    this.weight = new Parameter(fanInUniform(forWeight, [outputs, inputs]));
    this.bias = bias ? new Parameter(fanInUniform(forBias, [outputs], inputs)) : null;
  }

  forward(x: Tensor): Tensor {
    return linear(x, this.weight.value, this.bias?.value);
  }
}

/** x (…, in) · weightᵀ (in, out) + bias (out). */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor | null): Tensor {
  const product = x.matmul(weight.transpose());
  return bias ? product.add(bias) : product;
}
