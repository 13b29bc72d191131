// EMA: parameters' moving averages, which often do better than the parameters themselves.
import type { TensorData } from "../ir/tensor.ts";
import { evaluate, fromData, Parameter } from "../tensor/index.ts";

export class EMA {
  readonly averages: readonly Parameter[];

  /** `decay`: how slowly the averages move. */
  constructor(
    private readonly parameters: readonly Parameter[],
    private readonly decay = 0.999,
  ) {
    this.averages = parameters.map((p) => new Parameter(p.value, { name: `${p.name}.ema`, trainable: false }));
  }

  /** To be called after each step, in the same compiled function. */
  update(): void {
    for (const [i, average] of this.averages.entries())
      average.value = average.value.mul(this.decay).add(this.parameters[i].value.mul(1 - this.decay));
  }

  /** Runs `f` while the parameters hold their averages. */
  async with<T>(f: () => Promise<T> | T): Promise<T> {
    const own = this.parameters.map((p) => p.value);
    for (const [i, parameter] of this.parameters.entries()) parameter.value = this.averages[i].value;
    try {
      return await f();
    } finally {
      for (const [i, parameter] of this.parameters.entries()) parameter.value = own[i];
    }
  }

  /** By the parameters' names. */
  async stateDict(): Promise<Record<string, TensorData>> {
    const values = this.averages.map((average) => average.value);
    await evaluate(...values);
    const entries = values.map(async (value, i) => [this.parameters[i].name || `${i}`, await value.tensorData()] as const);
    return Object.fromEntries(await Promise.all(entries));
  }
  loadStateDict(dict: Readonly<Record<string, TensorData>>): void {
    for (const [i, average] of this.averages.entries()) {
      const found = dict[this.parameters[i].name || `${i}`];
      if (found) average.value = fromData(found);
    }
  }
}
