// Masks that hold while a network learns: weights, gradients and what the optimizer remembers are masked inside of the compiled step.
import { HeddleError } from "../../ir/error.ts";
import { fromNumbers, type TensorData, toNumbers } from "../../ir/tensor.ts";
import type { Optimizer } from "../../optim/index.ts";
import { evaluate, fromArray, fromData, ones, Parameter, type Tensor } from "../../tensor/index.ts";
import type { Grain } from "./grains.ts";
import type { Layer } from "./layer.ts";
import { countKept, type Mask, type Scope, selectMasks } from "./mask.ts";
import { magnitudes } from "./scores.ts";

/** A weight (rows, …): linear layers' and convolutions', as nn has them. */
const layerOf = ({ name, shape }: Parameter): Pick<Layer, "name" | "rows" | "columns" | "taps"> => {
  const taps = shape.slice(2).reduce((n, d) => n * d, 1);
  return { name, rows: shape[0], columns: (shape[1] ?? 1) * taps, taps };
};

export interface MaskOptions {
  /** Default: element. */
  readonly grain?: Grain;
  /** Default: layer. */
  readonly scope?: Scope;
  /** Weights that stay whole and count: as many more of the others go. */
  readonly whole?: readonly Parameter[];
}

/** How many weights they hold. */
export const sizeOf = (parameters: readonly Parameter[]): number =>
  parameters.reduce((sum, { shape }) => sum + shape.reduce((n, d) => n * d, 1), 0);

/** Masks of some parameters, one number a weight; all of them 1 at first. */
export class Masks {
  private readonly masks: ReadonlyMap<Parameter, Parameter>;
  private readonly options: Required<Omit<MaskOptions, "whole">>;
  /** Weights that are masked, and those that stay whole. */
  private readonly counts: { readonly masked: number; readonly whole: number };

  constructor(parameters: readonly Parameter[], { grain = "element", scope = "layer", whole = [] }: MaskOptions = {}) {
    const flat = parameters.find(({ shape }) => shape.length < 2);
    if (flat)
      throw new HeddleError("bad-argument", `Masks: ${flat.name || "a parameter"} has shape (${flat.shape}), wanted two axes or more`);
    this.options = { grain, scope };
    this.counts = { masked: sizeOf(parameters), whole: sizeOf(whole) };
    this.masks = new Map(parameters.map((p) => [p, new Parameter(ones(p.shape), { name: `${p.name}.mask`, trainable: false })]));
  }

  get parameters(): Parameter[] {
    return [...this.masks.keys()];
  }

  /** The optimizer's step in place of `optimizer.step(grads)`, or of stepIf: what is masked stays 0, and nothing of it is remembered. */
  step(optimizer: Optimizer, grads: readonly Tensor[], condition?: Tensor): void {
    const { parameters } = optimizer;
    const masked = grads.map((grad, i) => this.masked(parameters[i], grad));
    if (condition) optimizer.stepIf(condition, masked);
    else optimizer.step(masked);
    for (const [i, p] of parameters.entries()) {
      this.hold(p, p);
      for (const memory of optimizer.memories.values()) this.hold(p, memory[i]);
    }
  }

  /** Masks what belongs to a parameter: what an optimizer remembers of it, its average. Others stay as they are. */
  hold(parameter: Parameter, held: Parameter): void {
    if (this.masks.has(parameter)) held.value = this.masked(parameter, held.value);
  }

  private masked(parameter: Parameter, value: Tensor): Tensor {
    const mask = this.masks.get(parameter);
    return mask ? value.mul(mask.value.cast(value.dtype)) : value;
  }

  /** The masks, in the order of the parameters. */
  get state(): Parameter[] {
    return [...this.masks.values()];
  }

  /** Sets masks that were chosen elsewhere, by parameter, and zeroes the weights. */
  set(chosen: ReadonlyMap<Parameter, Mask>): void {
    for (const [p, mask] of chosen) {
      const held = this.masks.get(p);
      if (!held) throw new HeddleError("bad-argument", `Masks: ${p.name || "a parameter"} is not among those that are masked`);
      held.value = fromArray(Float32Array.from(mask), p.shape);
      p.value = p.value.mul(held.value.cast(p.dtype));
    }
  }

  /** Chooses anew by magnitude: exactly this part of the weights goes. To be called between steps. What is 0 already goes first, so that a rising sparsity only takes away. */
  async prune(sparsity: number): Promise<void> {
    const all = this.parameters;
    const { masked, whole } = this.counts;
    const ofMasked = (sparsity * (masked + whole)) / masked;
    if (ofMasked > 1)
      throw new HeddleError("bad-argument", `Masks: ${sparsity} of all weights, but ${whole} of ${masked + whole} stay whole`);
    const values = all.map((p) => p.value);
    await evaluate(...values);
    const scored = await Promise.all(
      values.map(async (value, i) => ({ layer: layerOf(all[i]), scores: magnitudes(toNumbers(await value.tensorData())) })),
    );
    const masks = selectMasks(scored, { sparsity: ofMasked, ...this.options });
    this.set(new Map(all.map((p, i) => [p, masks[i]])));
  }

  /** The part of the weights that stays, those that are whole among them. */
  async density(): Promise<number> {
    const masks = await Promise.all([...this.masks.values()].map((mask) => mask.value.tensorData()));
    const counts = masks.map(({ data }) => countKept(Uint8Array.from(data as Float32Array))); // ones() are f32
    const { masked, whole } = this.counts;
    return (counts.reduce((n, count) => n + count, 0) + whole) / (masked + whole);
  }
}

export interface GradualOptions extends MaskOptions {
  /** The part that goes at a step, for example cubicSparsity(…). */
  readonly sparsity: (step: number) => number;
  /** Steps between two choices: the network recovers in between. Default 100. */
  readonly every?: number;
}

/** Masks that follow a schedule. In the training loop: `await pruner.before(step)`, then the compiled step, which calls `pruner.masks.step(optimizer, grads)`. */
export class GradualPruner {
  readonly masks: Masks;
  private readonly options: GradualOptions;
  /** The part that went last. */
  private sparsity = 0;

  constructor(parameters: readonly Parameter[], options: GradualOptions) {
    this.masks = new Masks(parameters, options);
    this.options = options;
  }

  /** To be called before each step, with its number from 0 on. Returns how sparse the network is in it. */
  async before(step: number): Promise<number> {
    const { sparsity, every = 100 } = this.options;
    const wanted = sparsity(step);
    const isDue = step % every === 0 || wanted === sparsity(step + 1); // the end of the schedule counts, wherever it lies
    if (isDue && wanted > this.sparsity) {
      await this.masks.prune(wanted);
      this.sparsity = wanted;
    }
    return this.sparsity;
  }

  /** Masks, and how far the schedule has come. */
  async stateDict(): Promise<Record<string, TensorData>> {
    const masks = await Promise.all(this.masks.state.map(async (mask, i) => [`${i}`, await mask.value.tensorData()] as const));
    return { ...Object.fromEntries(masks), sparsity: fromNumbers("f64", [], [this.sparsity]) };
  }

  /** Throws HeddleError ("bad-input") where it is of other weights. */
  loadStateDict(dict: Readonly<Record<string, TensorData>>): void {
    const { state } = this.masks;
    const fits = state.every(({ shape }, i) => dict[i]?.shape.join() === shape.join());
    if (!fits || !dict.sparsity) throw new HeddleError("bad-input", "GradualPruner: the masks are of other weights");
    for (const [i, mask] of state.entries()) mask.value = fromData(dict[i]);
    [this.sparsity] = toNumbers(dict.sparsity);
  }
}
