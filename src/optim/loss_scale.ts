// Dynamic loss scaling (Micikevicius et al. 2018): losses grow so that float16 gradients do not vanish; where they overflow, the step is left out.
import { HeddleError } from "../ir/error.ts";
import type { TensorData } from "../ir/tensor.ts";
import { add, evaluate, fromData, Parameter, type Tensor, tensor, where } from "../tensor/index.ts";
import type { Optimizer } from "./optimizer.ts";

export interface LossScaleOptions {
  /** Default: 2¹⁶. */
  readonly initial?: number;
  /** The scale doubles after so many steps without an overflow. Default: 2000. */
  readonly interval?: number;
}

/** It never grows beyond this: float32 losses and gradients must stay finite too. */
const LARGEST = 2 ** 24;

/**
 * All its state is in parameters: it is part of the compiled step.
 *
 *     const { value, grads } = valueAndGrad(() => scale.scaled(loss()), parameters);
 *     scale.step(optimizer, scale.unscaled(grads));
 */
export class LossScale {
  /** What losses are multiplied by. */
  readonly scale: Parameter;
  /** Steps since it last changed. */
  readonly goodSteps: Parameter;
  /** Steps that were left out. */
  readonly skipped: Parameter;
  private readonly interval: number;

  constructor({ initial = 2 ** 16, interval = 2000 }: LossScaleOptions = {}) {
    if (!(initial > 0) || !(interval >= 1))
      throw new HeddleError("bad-argument", `loss scale: initial ${initial}, interval ${interval}; wanted both positive`);
    this.interval = interval;
    this.scale = new Parameter(tensor(initial), { name: "loss_scale", trainable: false });
    this.goodSteps = new Parameter(tensor(0, "i32"), { name: "good_steps", trainable: false });
    this.skipped = new Parameter(tensor(0, "i32"), { name: "skipped", trainable: false });
  }

  scaled(loss: Tensor): Tensor {
    return loss.mul(this.scale.value);
  }
  /** Gradients of a scaled loss, or the loss, as they would be without it. */
  unscaled(tensors: readonly Tensor[]): Tensor[] {
    const by = this.scale.value.reciprocal();
    return tensors.map((t) => t.mul(by));
  }

  /** A step of the optimizer (or of masks with one) by unscaled gradients, unless one of their numbers is infinite or NaN; then the scale halves. */
  step(optimizer: Pick<Optimizer, "stepIf">, grads: readonly Tensor[]): void {
    const isGood = areFinite(grads);
    optimizer.stepIf(isGood, grads);
    const good = this.goodSteps.value.add(1);
    const isDue = good.ge(this.interval);
    const grown = where(isDue, this.scale.value.mul(2).minimum(LARGEST), this.scale.value);
    this.scale.value = where(isGood, grown, this.scale.value.mul(0.5));
    this.goodSteps.value = where(isGood.and(isDue.not()), good, 0);
    this.skipped.value = where(isGood, this.skipped.value, this.skipped.value.add(1));
  }

  /** All that it keeps. */
  get state(): readonly Parameter[] {
    return [this.scale, this.goodSteps, this.skipped];
  }
  async stateDict(): Promise<Record<string, TensorData>> {
    const values = this.state.map((p) => p.value);
    await evaluate(...values);
    return Object.fromEntries(await Promise.all(this.state.map(async (p, i) => [p.name, await values[i].tensorData()] as const)));
  }
  /** Throws HeddleError ("bad-input") where something is missing; then nothing has changed. */
  loadStateDict(dict: Readonly<Record<string, TensorData>>): void {
    const lost = this.state.find((p) => dict[p.name]?.shape.length !== 0);
    if (lost) throw new HeddleError("bad-input", `loss scale: ${lost.name} is missing or no scalar`);
    for (const p of this.state) p.value = fromData(dict[p.name]).cast(p.dtype);
  }
}

/** Whether all numbers of all tensors are finite: 0 · x is 0 for these alone. */
function areFinite(tensors: readonly Tensor[]): Tensor {
  const sum = tensors.map((t) => t.mul(0).sum() as Tensor).reduce((a, b) => add(a, b));
  return sum.eq(0);
}
