// Optimizer: what all of them share: parameters, the learning rate, the count of steps, and what is remembered for each parameter.
import { HeddleError } from "../ir/error.ts";
import type { TensorData } from "../ir/tensor.ts";
import { evaluate, fromData, full, Parameter, type Tensor, tensor, where, zeros } from "../tensor/index.ts";
import { constant, type Schedule } from "./schedule.ts";

/** A number, which may be set between steps, or a function of the step. */
export type LearningRate = number | Schedule;

/** One of the things that are remembered for each parameter: as many tensors as there are parameters, of the same shapes. */
export type Memory = readonly Parameter[];

/** All its state is in parameters: a step is part of the compiled function that calls it. */
export abstract class Optimizer {
  readonly parameters: readonly Parameter[];
  /** Steps that were taken. */
  readonly steps: Parameter;
  private readonly rate: Parameter;
  private readonly schedule: Schedule | null;
  /** What is remembered, by name. */
  readonly memories = new Map<string, Memory>();

  constructor(parameters: readonly Parameter[], learningRate: LearningRate) {
    if (parameters.length === 0) throw new HeddleError("bad-argument", "optimizer: there are no parameters");
    this.parameters = [...parameters];
    this.steps = new Parameter(tensor(0, "i32"), { name: "steps", trainable: false });
    this.schedule = typeof learningRate === "number" ? null : learningRate;
    this.rate = new Parameter(tensor(typeof learningRate === "number" ? learningRate : 0), { name: "learning_rate", trainable: false });
  }

  /** A step where the condition (a scalar) holds: elsewhere neither parameters nor what is remembered change. */
  stepIf(condition: Tensor, grads: readonly Tensor[]): void {
    const all = [...this.parameters, ...[...this.state()].map(([, parameter]) => parameter)];
    const before = all.map((parameter) => parameter.value);
    this.step(grads);
    for (const [i, parameter] of all.entries()) parameter.value = where(condition, parameter.value, before[i]).cast(parameter.dtype);
  }

  /** Changes the parameters by their gradients, which are in the parameters' order. */
  step(grads: readonly Tensor[]): void {
    if (grads.length !== this.parameters.length)
      throw new HeddleError("bad-argument", `optimizer: ${grads.length} gradients for ${this.parameters.length} parameters`);
    const rate = this.learningRate();
    const count = this.steps.value.add(1);
    this.steps.value = count;
    const update = this.updater(rate, count.cast("f32"));
    for (const [i, parameter] of this.parameters.entries()) parameter.value = update(parameter.value, grads[i], i).cast(parameter.dtype);
  }

  /** From a weight, its gradient and its number to the new weight; `count` is 1 in the first step. */
  protected abstract updater(rate: Tensor, count: Tensor): (weight: Tensor, grad: Tensor, i: number) => Tensor;

  /** The rate of the next step. */
  learningRate(): Tensor {
    return this.schedule ? this.schedule(this.steps.value.cast("f32")) : this.rate.value;
  }
  /** Sets the rate of the steps from here on. Compiled steps see it. */
  setLearningRate(rate: number): void {
    if (this.schedule) throw new HeddleError("bad-argument", "optimizer: its learning rate follows a schedule");
    this.rate.value = full([], rate);
  }

  /** Zeros for each parameter, kept under a name. To be called when the optimizer is made. */
  protected remember(name: string): Memory {
    const memory = this.parameters.map((p) => new Parameter(zeros(p.shape, p.dtype), { name: `${p.name}.${name}`, trainable: false }));
    this.memories.set(name, memory);
    return memory;
  }

  private *state(): Iterable<[key: string, parameter: Parameter]> {
    yield ["steps", this.steps];
    yield ["learning_rate", this.rate];
    for (const [name, memory] of this.memories) for (const [i, parameter] of memory.entries()) yield [`state.${i}.${name}`, parameter];
  }

  /** All that it needs to go on: steps, learning rate and memories, as PyTorch names them. */
  async stateDict(): Promise<Record<string, TensorData>> {
    const entries = [...this.state()].map(([key, parameter]) => [key, parameter.value] as const);
    await evaluate(...entries.map(([, value]) => value));
    return Object.fromEntries(await Promise.all(entries.map(async ([key, value]) => [key, await value.tensorData()] as const)));
  }
  /** Throws HeddleError ("bad-input") where something is missing or has another shape; then nothing has changed. */
  loadStateDict(dict: Readonly<Record<string, TensorData>>): void {
    const all = [...this.state()];
    for (const [key, { shape }] of all)
      if (dict[key]?.shape.join() !== shape.join())
        throw new HeddleError(
          "bad-input",
          `optimizer: ${key} ${dict[key] ? `has shape (${dict[key].shape})` : "is missing"}, wanted (${shape})`,
        );
    for (const [key, parameter] of all) parameter.value = fromData(dict[key]).cast(parameter.dtype);
  }
}

/** The learning rate of each step, without running any: for plots. */
export async function ratesOf(learningRate: LearningRate, steps: number): Promise<Float64Array> {
  const schedule = typeof learningRate === "number" ? constant(learningRate) : learningRate;
  return schedule(tensor(Array.from({ length: steps }, (_, i) => i))).numbers();
}
